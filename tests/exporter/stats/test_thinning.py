"""Fewer rows come from everywhere, in no rhythm, and are the same each time."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.stats.thinning import thinned


@pytest.mark.parametrize(("n", "most"), [(0, 5), (1, 5), (5, 5)])
def test_few_rows_are_all_kept(n: int, most: int) -> None:
    assert thinned(n, most).tolist() == list(range(n))


@pytest.mark.parametrize(("n", "most"), [(6, 5), (9, 5), (10, 1), (5_000, 2_500), (100_003, 300)])
def test_of_many_rows_as_many_as_asked_are_kept_in_order(n: int, most: int) -> None:
    rows = thinned(n, most)
    assert len(rows) == most
    assert np.all(np.diff(rows) > 0)
    assert rows[0] >= 0
    assert rows[-1] < n


@pytest.mark.parametrize("n", [2_600, 3_000, 3_750, 4_992, 5_000, 6_000, 10_000, 50_000])
@pytest.mark.parametrize("period", [2, 3, 4, 5, 6, 20])
def test_every_phase_of_a_rhythm_is_kept_alike(n: int, period: int) -> None:
    share = np.bincount(thinned(n, 2_500) % period, minlength=period) / 2_500
    # Four standard errors of a random choice.
    np.testing.assert_allclose(share, 1 / period, atol=4 * np.sqrt(1 / period / 2_500))


def test_every_part_of_the_rows_is_kept_alike() -> None:
    tenths = np.bincount(thinned(50_000, 2_500) // 5_000)
    np.testing.assert_allclose(tenths, 250, atol=5)


def test_the_same_rows_are_kept_each_time() -> None:
    assert thinned(5_000, 300).tolist() == thinned(5_000, 300).tolist()
