"""Waves: the regression terms of a time."""

from __future__ import annotations

import numpy as np

from exporter.detector.waves import counted, mean_waves, no_waves, total_waves, waves_at, waves_of
from tests.exporter.detector.terms import TIMES, WEEK, design


def test_terms_are_a_constant_waves_of_the_day_and_the_week_and_the_weekend() -> None:
    for time in (0.0, 1e9, 1e9 + 12_345.6):
        np.testing.assert_allclose(waves_at(time), design(np.array([time]))[0], atol=1e-6)


def test_over_weeks_the_terms_are_orthogonal_and_of_the_same_size() -> None:
    terms = waves_of(1e9 + np.arange(0, 3 * WEEK, 60.0))
    products = terms.T @ terms / len(terms)
    np.testing.assert_allclose(products, np.diag([1] + [0.5] * 9), atol=2e-4)


def test_terms_of_a_time_do_not_depend_on_other_times() -> None:
    times = np.random.default_rng(0).uniform(0, 2e9, 300)
    singly = np.vstack([waves_of(times[at : at + 1]) for at in range(300)])
    np.testing.assert_array_equal(singly, waves_of(times))


def test_sums_of_terms_are_integers_that_give_their_mean() -> None:
    total = total_waves(TIMES)
    assert total.dtype == np.int64
    order = np.random.default_rng(0).permutation(500)
    parts = [total_waves(part) for part in np.array_split(TIMES[order], 7)]
    np.testing.assert_array_equal(np.sum(parts, axis=0) + no_waves(), total)
    np.testing.assert_allclose(mean_waves(total, 500), design(TIMES).mean(axis=0), atol=1e-6)
    assert counted(total) == 500
    assert counted(no_waves()) == 0
