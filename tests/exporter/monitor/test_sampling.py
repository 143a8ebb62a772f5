"""Sampling: the lowest level at which a span fits, with room for arrivals."""

from __future__ import annotations

import pytest

from exporter.monitor.sampling import SPARSE, level_for


@pytest.mark.parametrize(
    ("vectors", "level"), [(0, 0), (1_000, 0), (1_001, 1), (1_600, 1), (1_601, 2), (1_000_000, 11)]
)
def test_the_level_is_the_lowest_that_leaves_room_for_arrivals(vectors: int, level: int) -> None:
    assert level_for(vectors, 1_000) == level


@pytest.mark.parametrize("vectors", [1_001, 1_601, 3_201, 100_000])
def test_a_window_whose_level_was_just_chosen_is_not_sparse(vectors: int) -> None:
    assert SPARSE * 1_000 < vectors / 2 ** level_for(vectors, 1_000) <= 800
