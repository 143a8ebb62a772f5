"""Totals: sums by the hour of the week."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.detector.totals import Totals
from tests.exporter.detector.terms import DAY, TABLE, TIMES, design, totals_of


def test_totals_are_sums_by_the_hour_of_the_week() -> None:
    times = np.sort(np.random.default_rng(0).uniform(1e9, 1e9 + 15 * DAY, 500))
    totals = totals_of(TABLE, times)
    hours = ((times - times[0]) // 3_600).astype(int) % 168
    assert totals.n.shape == (168,)
    for hour in range(168):
        rows = hours == hour
        assert totals.n[hour] == rows.sum()
        np.testing.assert_allclose(totals.waves[hour], design(times[rows]).sum(axis=0), atol=1e-6)
        np.testing.assert_allclose(totals.features[hour], TABLE[rows].sum(axis=0), atol=1e-4)


@pytest.mark.parametrize(("hours", "parts"), [(0, 1), (1, 65), (24, 65), (64, 65), (100, 101)])
def test_a_short_time_has_shorter_parts(hours: float, parts: int) -> None:
    totals = totals_of(TABLE, 1e9 + 3_600 * np.linspace(0, hours, 500))
    assert len(totals.n) == parts
    if hours:
        np.testing.assert_allclose(totals.n[:-1], 500 / (parts - 1), atol=1)


def test_a_week_that_ends_early_still_has_its_last_hours() -> None:
    totals = Totals.spanning(1e9 + DAY * np.linspace(0, 6.85, 500), 1)
    totals.add(np.ones((1, 1), np.float32), 1e9 + np.array([166.5 * 3_600]))
    assert np.flatnonzero(totals.n).tolist() == [166]


def test_totals_without_times_have_one_part() -> None:
    totals = totals_of(TABLE[:300], None)
    totals.add(TABLE[300:], None)
    assert totals.n.tolist() == [500]
    np.testing.assert_allclose(totals.features[0], TABLE.sum(axis=0, dtype=float))


def test_vectors_are_added_in_any_order_and_number() -> None:
    whole = totals_of(TABLE, TIMES)
    parts = Totals.spanning(TIMES[[0, -1]], 4)
    order = np.random.default_rng(0).permutation(500)
    for rows in (*np.array_split(order, 7), order[:0]):
        parts.add(TABLE[rows], TIMES[rows])
    np.testing.assert_array_equal(parts.n, whole.n)
    np.testing.assert_allclose(parts.waves, whole.waves, atol=1e-9)
    np.testing.assert_allclose(parts.features, whole.features, atol=1e-9)


def test_parts_are_joined_in_their_order() -> None:
    totals = totals_of(TABLE, TIMES)
    joined = totals.joined(24)
    assert len(joined.n) == 7
    for day in range(7):
        hours = slice(24 * day, 24 * day + 24)
        assert joined.n[day] == totals.n[hours].sum()
        np.testing.assert_allclose(joined.waves[day], totals.waves[hours].sum(axis=0))
        np.testing.assert_allclose(joined.features[day], totals.features[hours].sum(axis=0))


def test_the_leverage_of_all_parts_is_the_number_of_terms() -> None:
    random = np.random.default_rng(0)
    times = 1e9 + np.sort(random.uniform(0, 7 * DAY, 20_000))
    totals = totals_of(np.zeros((20_000, 1), np.float32), times)
    assert totals.leverage(1).sum() == pytest.approx(10, abs=0.05)
    # Days differ in the constant, the four weekly waves and the weekend only, and less than hours.
    days = totals.leverage(24)
    assert 4 < days.sum() < 6
    assert days.max() < 1
