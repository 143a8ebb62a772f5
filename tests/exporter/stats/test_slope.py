"""The slope of a series: found, robust, and not believed when it is only a wave."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.stats.slope import slope

HOURS = 336


@pytest.fixture
def noise() -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(size=HOURS)


def test_a_line_is_found_in_noise(noise: NDArray[np.float64]) -> None:
    found = slope(noise + 0.02 * np.arange(HOURS))
    assert found.per_step == pytest.approx(0.02, abs=0.003)
    assert found.p_value < 1e-4


def test_outliers_and_gaps_do_not_move_it(noise: NDArray[np.float64]) -> None:
    values = noise + 0.02 * np.arange(HOURS)
    values[10:14] = 1_000
    values[100:150] = np.nan
    assert slope(values).per_step == pytest.approx(0.02, abs=0.003)


def test_an_exact_line_is_certain_and_a_constant_is_none() -> None:
    assert slope(np.arange(HOURS) * 2.0) == (pytest.approx(2.0), 0.0)
    assert slope(np.full(HOURS, 3.0)) == (0.0, 1.0)


def _moving_average(random: np.random.Generator) -> NDArray[np.float64]:
    return np.convolve(random.normal(size=HOURS + 5), np.ones(6) / 6, "valid")


def _autoregressive(random: np.random.Generator) -> NDArray[np.float64]:
    values = random.normal(size=HOURS)
    for at in range(1, HOURS):
        values[at] += 0.9 * values[at - 1]
    return values + random.normal(size=HOURS)


def _weekly(random: np.random.Generator) -> NDArray[np.float64]:
    weekend = (np.arange(HOURS) + random.integers(168)) % 168 >= 120
    return random.normal(size=HOURS) - 3 * weekend


@pytest.mark.parametrize("series", [_moving_average, _autoregressive, _weekly])
def test_no_trend_is_seldom_taken_for_one(series) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng(1)
    false = sum(slope(series(random)).p_value < 0.01 for _ in range(100))
    assert false <= 6
