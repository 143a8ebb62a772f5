"""Waves: the regression terms of a time."""

from __future__ import annotations

import numpy as np

from exporter.detector.waves import counted, mean_waves, no_waves, total_waves, waves_at
from tests.exporter.detector.terms import TIMES, WEEK, design


def test_terms_are_a_constant_waves_of_the_day_and_the_week_and_the_weekend() -> None:
    for time in (0.0, 1e9, 1e9 + 12_345.6):
        np.testing.assert_allclose(waves_at(time), design(np.array([time]))[0], atol=1e-6)


def test_over_weeks_the_weekend_has_the_mean_and_the_size_of_a_wave() -> None:
    terms = design(1e9 + np.arange(0, 3 * WEEK, 60.0))
    np.testing.assert_allclose(
        mean_waves(total_waves(1e9 + np.arange(0, 3 * WEEK, 60.0)), 30_240),
        terms.mean(axis=0),
        atol=1e-6,
    )
    np.testing.assert_allclose(terms[:, 1:].mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.square(terms[:, 1:]).mean(axis=0), 0.5)


def test_sums_of_terms_are_integers_that_give_their_mean() -> None:
    total = total_waves(TIMES)
    assert total.dtype == np.int64
    order = np.random.default_rng(0).permutation(500)
    parts = [total_waves(part) for part in np.array_split(TIMES[order], 7)]
    np.testing.assert_array_equal(np.sum(parts, axis=0) + no_waves(), total)
    np.testing.assert_allclose(mean_waves(total, 500), design(TIMES).mean(axis=0), atol=1e-6)
    assert counted(total) == 500
    assert counted(no_waves()) == 0
