"""The slope of a series: robust, and significant only if it is no wave."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.fft import dct

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
    line = slope(np.arange(float(HOURS)) * 2)
    assert line.per_step == pytest.approx(2.0)
    assert line.p_value == 0
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


def formula(values: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and p-value of a series without outliers, by least squares and explicit cosines."""
    steps = np.arange(len(values)) - (len(values) - 1) / 2
    per_step = steps @ values / (steps @ steps)
    products = steps * (values - values.mean() - per_step * steps)
    power = np.square(dct(products, norm="ortho"))[1:5].mean()
    surprise = abs(per_step) * (steps @ steps) / (len(values) * power) ** 0.5
    return float(per_step), float(2 * stats.t.sf(surprise, df=4))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("trend", [0.0, 0.002, -0.004])
def test_without_outliers_it_is_least_squares_with_a_t_test(seed: int, trend: float) -> None:
    values = np.random.default_rng(seed).uniform(-1, 1, size=HOURS) + trend * np.arange(HOURS)
    per_step, p_value = formula(values)
    found = slope(values)
    assert found.per_step == pytest.approx(per_step, rel=1e-6)
    assert found.p_value == pytest.approx(p_value, rel=1e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_residuals_are_clipped_at_four_robust_deviations(
    noise: NDArray[np.float64], sign: int
) -> None:
    # An outlier counts as much as one at four deviations.
    outlier, larger = noise.copy(), noise.copy()
    outlier[300] += 50 * sign
    larger[300] += 5_000 * sign
    assert slope(larger).per_step == pytest.approx(slope(outlier).per_step, rel=1e-9)
    assert slope(outlier).per_step != pytest.approx(slope(noise).per_step, rel=1e-9)
    rough, intercept, *_ = stats.theilslopes(outlier)
    residual = outlier - intercept - rough * np.arange(HOURS)
    limit = 4 * 1.4826 * np.median(np.abs(residual))
    clipped = np.clip(residual, -limit, limit) + intercept + rough * np.arange(HOURS)
    assert slope(outlier).per_step == pytest.approx(formula(clipped)[0], rel=1e-6)


def test_gaps_in_a_short_series_change_neither_slope_nor_p_value() -> None:
    # A series whose middle is missing, with a basis of cosines over all steps.
    random = np.random.default_rng(0)
    steps = np.arange(40)
    known = (steps < 10) | (steps >= 25)
    values = np.where(known, random.uniform(-1, 1, size=40) + 0.02 * steps, np.nan)
    line = stats.linregress(steps[known], values[known])
    found = slope(values)
    assert found.per_step == pytest.approx(line.slope, rel=1e-9)
    centred = np.where(known, steps - steps[known].mean(), 0.0)
    residual = np.where(known, values - line.intercept - line.slope * steps, 0.0)
    power = np.square(dct(centred * residual, norm="ortho"))[1:5].mean()
    surprise = line.slope * (centred @ centred) / (40 * power) ** 0.5
    assert found.p_value == pytest.approx(2 * stats.t.sf(surprise, df=4), rel=1e-9)


def test_gaps_count_for_nothing() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, size=HOURS) + 0.01 * np.arange(HOURS)
    known = np.ones(HOURS, bool)
    known[60:130] = False
    expected = np.polyfit(np.arange(HOURS)[known], values[known], 1)[0]
    values[~known] = np.nan
    assert slope(values).per_step == pytest.approx(expected, rel=1e-6)
    assert 0 < slope(values).p_value < 1e-3
