"""The change point: a step is found where it is, and false alarms are as rare as promised."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from exporter.stats.changepoint import step

HOURS = 336
SHORTEST = 24
Floats = NDArray[np.float64]


def normal(seed: int) -> Floats:
    return np.random.default_rng(seed).normal(size=HOURS)


@pytest.fixture
def noise() -> Floats:
    return normal(0)


@pytest.mark.parametrize("size", [3, -3])
def test_a_step_is_found_where_it_is(noise: Floats, size: float) -> None:
    noise[200:] += size
    assert step(noise, SHORTEST) == pytest.approx(200, abs=1)


def test_gaps_do_not_hide_it(noise: Floats) -> None:
    noise[200:] += 3
    noise[60:90] = np.nan
    noise[220:260] = np.nan
    assert step(noise, SHORTEST) == pytest.approx(200, abs=1)


def test_gaps_at_the_ends_do_not_hide_it(noise: Floats) -> None:
    noise[200:] += 3
    noise[:40] = np.nan
    noise[-40:] = np.nan
    assert step(noise, SHORTEST) == pytest.approx(200, abs=1)


def test_a_step_without_noise_is_found() -> None:
    assert step(np.repeat([0.0, 1.0], 50), SHORTEST) == 50
    assert step(np.repeat([0.0, 1e-9], 50), SHORTEST) == 50


@pytest.mark.parametrize("length", [0, 1, 47, 48, HOURS])
def test_a_constant_has_none(length: int) -> None:
    assert step(np.ones(length), SHORTEST) is None


@pytest.mark.parametrize("known", [0, 1, 2])
def test_a_series_of_gaps_has_none(known: int) -> None:
    values = np.full(HOURS, np.nan)
    values[100 : 100 + known] = [1.0, 2.0][:known]
    assert step(values, SHORTEST) is None or known == 2


@pytest.mark.parametrize(("length", "found"), [(20, False), (23, False), (24, True), (28, True)])
@pytest.mark.parametrize("at_the_end", [True, False])
def test_a_level_lasts_the_shortest_time_at_least(
    length: int, found: bool, at_the_end: bool
) -> None:
    # Without noise, so that the cut is exact.
    values = np.zeros(HOURS)
    values[-length:] = 1
    values = values if at_the_end else values[::-1].copy()
    cut = HOURS - length if at_the_end else length
    assert step(values, SHORTEST) == (cut if found else None)


@pytest.mark.parametrize("where", [slice(-20, None), slice(0, 20)])
def test_a_short_level_at_an_end_is_no_step(where: slice) -> None:
    found = 0
    for seed in range(200):
        values = normal(seed)
        values[where] += 4
        found += step(values, SHORTEST) is not None
    assert found == 0


@pytest.mark.parametrize(("first", "last"), [(160, 200), (250, 310), (290, 310), (100, 220)])
def test_a_step_there_and_back_is_none(first: int, last: int) -> None:
    found = 0
    for seed in range(100):
        values = normal(seed)
        values[first:last] += 4
        found += step(values, SHORTEST) is not None
    assert found == 0


@pytest.mark.parametrize("where", [slice(0, 240), slice(50, 290), slice(96, None)])
def test_gaps_cause_no_step(where: slice) -> None:
    found = 0
    for seed in range(300):
        values = normal(seed)
        values[where] = np.nan
        found += step(values, SHORTEST) is not None
    assert found <= 1


def surprise(values: Floats, at: int) -> float:
    """P-value of a step at an index, by the formula with an explicit basis of cosines."""
    n = len(values)
    before, after = values[:at], values[at:]
    residual = np.r_[before - before.mean(), after - after.mean()]
    hours = np.arange(n) + 0.5
    projections = [(2 / n) ** 0.5 * np.cos(np.pi * k * hours / n) @ residual for k in range(1, 9)]
    variance = np.mean(np.square(projections))
    change = abs(before.mean() - after.mean()) / (1 / len(before) + 1 / len(after)) ** 0.5
    return float(2 * stats.t.sf(change / variance**0.5, df=8))


@pytest.mark.parametrize("seed", range(4))
def test_the_threshold_is_a_tenth_of_a_percent_for_all_cuts_together(seed: int) -> None:
    # The size of a step is halved again and again until it is not found any more.
    wave, unit = normal(seed), np.arange(HOURS) >= 180
    low, high = 0.0, 10.0
    for _ in range(40):
        middle = (low + high) / 2
        found = step(wave + middle * unit, SHORTEST)
        low, high = (middle, high) if found is None else (low, middle)
    cut = step(wave + high * unit, SHORTEST)
    assert cut is not None
    cuts = HOURS - 2 * SHORTEST + 1
    assert surprise(wave + high * unit, cut) * cuts == pytest.approx(0.001, rel=0.01)


def white(random: np.random.Generator) -> Floats:
    return random.normal(size=HOURS)


def moving_average(random: np.random.Generator) -> Floats:
    return np.convolve(random.normal(size=HOURS + 5), np.ones(6) / 6, "valid")


def autoregressive(random: np.random.Generator) -> Floats:
    shocks = random.normal(size=(HOURS, 2))
    values = np.zeros(HOURS)
    for at in range(1, HOURS):
        values[at] = 0.9 * values[at - 1] + shocks[at, 0]
    return values + shocks[:, 1]


def weekends(random: np.random.Generator) -> Floats:
    return random.normal(size=HOURS) - 3 * ((np.arange(HOURS) + random.integers(168)) % 168 >= 120)


@pytest.mark.parametrize("series", [white, moving_average, autoregressive, weekends])
def test_false_alarms_are_a_tenth_of_a_percent(
    series: Callable[[np.random.Generator], Floats],
) -> None:
    random = np.random.default_rng(0)
    alarms = sum(step(series(random), SHORTEST) is not None for _ in range(1_000))
    # Of 1,000 series at 0.1 %, more than 4 alarm with a probability of 0.4 %.
    assert alarms <= 4
