"""Unrest: what the hours and days of a week differ by, beyond chance and season."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.detector import Detector
from exporter.detector.calibration import Tails
from exporter.detector.season import Season
from exporter.detector.totals import Totals
from exporter.detector.unrest import unrest
from exporter.stats.arrays import Floats

DAY = 86_400.0
FEATURES = 60
N = 14_000
DEVIATION = np.sqrt(2 / FEATURES)
"""Of the mean of the squares of so many normal variables."""


def square(shifts: Floats) -> Floats:
    """Return two statistics: the mean square of the first half of the features, and of all."""
    squares = np.square(shifts)
    return np.stack([squares[:, : FEATURES // 2].mean(axis=1), squares.mean(axis=1)], axis=1)


def tails(mean: float = 1.0) -> Tails:
    shape = np.ones((2, 4, 2)) * np.array([mean, mean * DEVIATION, 1, 1])[:, None]
    return Tails(np.log([50, 1_000]), shape, np.full((2, 2), np.inf), np.zeros((2, 2)))


def measured(
    seed: int,
    *,
    hours: float,
    deviation: float,
    days: float = 7,
    weekly: float = 0,
    open_hours: float = 24,
    open_days: float = 7,
    scale: float = 1,
) -> Floats:
    """Measure a stream of unit variance whose mean is another one in each stretch of some hours."""
    random = np.random.default_rng(seed)
    monday = 1e9 // DAY * DAY + DAY
    times = monday + np.sort(random.uniform(0, days * DAY, N))
    times = times[(times - monday) % (7 * DAY) < open_days * DAY]
    times = times[(times - monday) % DAY < 3_600 * open_hours]
    levels = deviation * random.normal(size=(round(24 * days / hours), FEATURES))
    part = ((times - monday) // (3_600 * hours)).astype(int).clip(max=len(levels) - 1)
    wave = np.sin(2 * np.pi * times / (7 * DAY))[:, None] * random.normal(size=FEATURES)
    table = random.normal(size=(len(times), FEATURES)) + levels[part] + weekly * wave
    table = (scale * table).astype(np.float32)
    known = []
    for width in (FEATURES, FEATURES // 2):
        totals = Totals.spanning(times, width)
        totals.add(table[:, :width], times)
        known.append((totals, Season.fit(totals, ("daily", "weekly"), random)))
    return unrest(known[0], known[1], square, tails(scale**2), np.array([True, False]))


def typical(**of_stream: float) -> Floats:
    return np.median([measured(seed, **of_stream) for seed in range(12)], axis=0)


def test_hours_that_differ_by_chance_have_none() -> None:
    np.testing.assert_array_equal(typical(hours=24, deviation=0), 0)


@pytest.mark.parametrize("deviation", [0.05, 0.1])
def test_the_variance_between_days_is_found(deviation: float) -> None:
    np.testing.assert_allclose(typical(hours=24, deviation=deviation), deviation**2, rtol=0.25)


def test_the_variance_between_quarters_of_a_day_is_found() -> None:
    np.testing.assert_allclose(typical(hours=6, deviation=0.1), 0.01, rtol=0.25)


def test_a_week_stands_for_several() -> None:
    np.testing.assert_allclose(typical(hours=24, deviation=0.1, days=28), 0.01, rtol=0.25)


def test_a_season_is_none() -> None:
    np.testing.assert_array_equal(typical(hours=24, deviation=0, weekly=0.3), 0)


def test_hours_and_days_without_vectors_say_nothing() -> None:
    found = typical(hours=6, deviation=0.1, open_hours=10, open_days=5)
    np.testing.assert_allclose(found, 0.01, rtol=0.5)
    # Of five days, the terms of a week could follow nearly everything.
    assert typical(hours=24, deviation=0.1, open_hours=10, open_days=5).min() > 0.003
    np.testing.assert_array_equal(typical(hours=6, deviation=0, open_hours=10, open_days=5), 0)


def test_it_counts_in_variances_of_a_single_vector() -> None:
    np.testing.assert_allclose(
        measured(0, hours=24, deviation=0.1, scale=3),
        measured(0, hours=24, deviation=0.1),
        rtol=1e-3,
    )


def test_linear_statistics_read_what_is_known_of_linear_features() -> None:
    random = np.random.default_rng(0)
    times = 1e9 + np.linspace(0, 7 * DAY, N)
    days = ((times - 1e9) // DAY).astype(int)
    restless = (random.normal(size=(N, FEATURES)) + 0.1 * random.normal(size=(8, 1))[days]).astype(
        "f4"
    )
    calm = random.normal(size=(N, FEATURES // 2)).astype(np.float32)
    known = []
    for table in (restless, calm):
        totals = Totals.spanning(times, table.shape[1])
        totals.add(table, times)
        known.append((totals, Season.fit(totals, ("daily", "weekly"), random)))
    of_linear, of_all = unrest(known[0], known[1], square, tails(), np.array([True, False]))
    assert of_linear < 0.000_2
    assert of_all > 0.001


@pytest.mark.parametrize("days", [8, 28])
def test_few_independent_vectors_have_none(days: float) -> None:
    found = []
    for seed in range(6):
        random = np.random.default_rng(seed)
        times = 1e9 + np.sort(random.uniform(0, days * DAY, 2_000))
        found.append(Detector.fit(random.normal(size=(2_000, 16)), timestamps=times)._unseen)
    # A window of 1,000 has a variance of 1 / 1,000 and another of the baseline.
    assert np.mean(np.max(found, axis=1) > 0.002) < 0.5
    assert np.median(np.max(found, axis=1)) == 0


def test_a_window_may_differ_as_much_as_the_days_of_the_reference_did() -> None:
    def score(deviation: float) -> float:
        random = np.random.default_rng(0)
        times = 1e9 + np.linspace(0, 8 * DAY, 8_000)
        levels = deviation * random.normal(size=(9, 20))
        reference = random.normal(size=(8_000, 20)) + levels[((times - 1e9) // DAY).astype(int)]
        window = random.normal(size=(2_000, 20)) + 0.05 * random.choice([-1, 1], size=20)
        return Detector.fit(reference, timestamps=times).score(window, at=1e9 + 30.5 * DAY)

    assert score(0) > 5
    assert score(0.05) < 3
