"""Sampling: the lowest level at which a span fits, with room for arrivals."""

from __future__ import annotations

import pytest

from exporter.monitor.sampling import SPARSE, level_for
from ingest.store.changes import sampled_ratio


@pytest.mark.parametrize(
    ("vectors", "level"),
    [(0, 0), (1_000, 0), (1_001, 1), (1_070, 1), (1_071, 2), (1_800, 4), (1_000_000, 41)],
)
def test_the_level_is_the_lowest_that_leaves_room_for_arrivals(vectors: int, level: int) -> None:
    assert level_for(vectors, 1_000) == level


@pytest.mark.parametrize("vectors", [1_001, 1_071, 3_201, 100_000])
def test_a_window_whose_level_was_just_chosen_is_not_sparse(vectors: int) -> None:
    assert 1.3 * SPARSE * 1_000 < vectors * sampled_ratio(level_for(vectors, 1_000)) <= 900
