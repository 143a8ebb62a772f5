"""Calibration: p-values agree with scipy's distributions, and hold in simulations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from exporter.detector.calibration import (
    CEILING,
    Combination,
    Null,
    Tails,
    Traits,
    combined,
)
from exporter.detector.dependence import Dependence

Floats = NDArray[np.float64]

HALF = Traits(weight=0.5)
SIZES = np.array([50, 100, 200])


def tails(
    mean: Sequence[float],
    deviation: Sequence[float],
    skewness: Sequence[float] = (1.5, 1.5, 1.5),
    stretch: float = 1.0,
    freedom: Sequence[float] = (np.inf, np.inf, np.inf),
    effect: Sequence[float] = (0.0, 0.0, 0.0),
) -> Tails:
    """Null distributions of two statistics, the same for both, at three sizes."""
    moments = zip(mean, deviation, skewness, strict=True)
    shape = np.array([[[m] * 2, [d] * 2, [s] * 2, [stretch] * 2] for m, d, s in moments])
    of_both = (np.repeat(np.array(each)[:, None], 2, axis=1) for each in (freedom, effect))
    return Tails(np.log(SIZES), shape, *of_both)


VALUES = np.array([0.0, 0.3, 1.0, 2.0, 4.0, 9.0, 20.0])
BOTH = np.column_stack([VALUES, VALUES])


# Tails


def test_a_statistic_has_a_pearson_tail_of_its_mean_deviation_and_skewness() -> None:
    found = tails([2.0] * 3, [1.5] * 3, [0.9] * 3).decades(BOTH, 100)
    expected = -np.log10(stats.pearson3.sf(VALUES, 0.9, loc=2.0, scale=1.5))
    np.testing.assert_allclose(found, np.column_stack([expected, expected]), atol=1e-9)


def test_a_gamma_variable_has_its_own_tail() -> None:
    # Its skewness is twice its deviation over its mean.
    found = tails([3.0] * 3, [3.0**0.5] * 3, [2 / 3.0**0.5] * 3).decades(BOTH, 100)
    np.testing.assert_allclose(found[:, 0], -np.log10(stats.gamma.sf(VALUES, 3.0)), atol=1e-9)


def test_the_tail_is_stretched_beyond_one_decade() -> None:
    plain = tails([2.0] * 3, [1.5] * 3).decades(BOTH, 100)
    assert plain.min() < 1 < plain.max()
    for stretch in (1.25, 0.8):
        stretched = tails([2.0] * 3, [1.5] * 3, stretch=stretch).decades(BOTH, 100)
        expected = np.where(plain > 1, 1 + (plain - 1) / stretch, plain)
        np.testing.assert_allclose(stretched, expected)


def test_a_scale_known_with_few_degrees_of_freedom_has_an_f_tail() -> None:
    found = tails([2.0] * 3, [1.5] * 3, freedom=[12.0] * 3).decades(BOTH, 100)
    shape = (2.0 / 1.5) ** 2
    expected = -np.log10(stats.f.sf(VALUES / 2.0, 2 * shape, 12.0))
    np.testing.assert_allclose(found, np.column_stack([expected, expected]), rtol=1e-9)


def test_only_statistics_with_few_degrees_of_freedom_have_an_f_tail() -> None:
    plain = tails([2.0] * 3, [1.5] * 3)
    mixed = Tails(plain.size, plain.shape, np.array([[np.inf, 12.0]] * 3), plain.effect)
    f = tails([2.0] * 3, [1.5] * 3, freedom=[12.0] * 3)
    found = mixed.decades(BOTH, 100)
    np.testing.assert_array_equal(found[:, 0], plain.decades(BOTH, 100)[:, 0])
    np.testing.assert_array_equal(found[:, 1], f.decades(BOTH, 100)[:, 1])


def test_a_window_of_few_sessions_has_no_more_degrees_of_freedom_than_they_are_worth() -> None:
    # 100 vectors are worth 20 independent ones, and the scale is known with 30.
    found = tails([2.0] * 3, [1.5] * 3, freedom=[30.0] * 3, effect=[5.0] * 3)
    for n, freedom in ((50, 7.5), (100, 12.0), (200, 120 / 7), (10_000, 30 / 1.015)):
        same = tails([2.0] * 3, [1.5] * 3, freedom=[freedom] * 3)
        np.testing.assert_allclose(found.decades(BOTH, n), same.decades(BOTH, n), rtol=1e-9)


def test_an_estimated_scale_with_an_f_tail_keeps_the_level() -> None:
    # The scale of a gamma variable of shape 1.5 is estimated as the mean of 4 others.
    random = np.random.default_rng(0)
    estimated = random.gamma(1.5, size=(40_000, 4)).mean(axis=1)
    ratio = random.gamma(1.5, size=40_000) / estimated * 1.5
    skewness = [2 / 1.5**0.5] * 3
    known = tails([1.5] * 3, [1.5**0.5] * 3, skewness, freedom=[2 * 1.5 * 4] * 3)
    unknown = tails([1.5] * 3, [1.5**0.5] * 3, skewness)
    statistics = np.column_stack([ratio, ratio])
    p = 10 ** -known.decades(statistics, 100)[:, 0]
    for level in (0.1, 0.01, 0.001):
        assert (p < level).mean() == pytest.approx(level, abs=4 * (level / 40_000) ** 0.5)
    assert (unknown.decades(statistics, 100)[:, 0] > 2).mean() > 0.02


def test_between_sizes_moments_are_interpolated_in_the_logarithm() -> None:
    # Values chosen so that each size has another mean, deviation, skewness and freedom.
    moments = [1.0, 2.0, 4.0], [1.0, 1.5, 3.0], [1.0, 2.0, 0.5]
    several = tails(*moments, freedom=[10.0, 40.0, 20.0], effect=[1.0, 3.0, 4.0])
    part = np.log(70 / 50) / np.log(2)
    moments = [1 + part] * 3, [1 + 0.5 * part] * 3, [1 + part] * 3
    between = tails(*moments, freedom=[10.0] * 3, effect=[1 + 2 * part] * 3)
    later = np.log(150 / 100) / np.log(2)
    moments = [2 + 2 * later] * 3, [1.5 + 1.5 * later] * 3, [2 - 1.5 * later] * 3
    beyond = tails(*moments, freedom=[20.0] * 3, effect=[3 + later] * 3)
    for n, same in ((70, between), (150, beyond)):
        np.testing.assert_allclose(several.decades(BOTH, n), same.decades(BOTH, n), rtol=1e-9)
        np.testing.assert_allclose(several.moments(n), same.moments(n), rtol=1e-9)
    np.testing.assert_allclose(several.moments(70), [[1 + part] * 2, [1 + 0.5 * part] * 2])


@pytest.mark.parametrize(("beyond", "end"), [(1, 50), (49, 50), (201, 200), (10_000, 200)])
def test_beyond_the_sizes_the_nearest_one_holds(beyond: int, end: int) -> None:
    several = tails([1.0, 2.0, 4.0], [1.0, 1.5, 3.0], [1.0, 2.0, 0.5])
    np.testing.assert_allclose(
        several.decades(BOTH, beyond), several.decades(BOTH, end), rtol=1e-12
    )


def test_decades_have_a_ceiling_and_never_overflow() -> None:
    values = np.array([[0.0, 0.0], [1e6, 1e6]])
    for stretch in (1.0, 0.5):
        with np.errstate(all="raise", under="ignore"):
            found = tails([2.0] * 3, [1e-3] * 3, stretch=stretch).decades(values, 100)
        np.testing.assert_allclose(found, [[0.0, 0.0], [CEILING, CEILING]], atol=1e-12)


def test_a_fit_takes_the_moments_of_each_size() -> None:
    random = np.random.default_rng(0)
    values = [random.gamma(k, size=(400, 2)) for k in (2.0, 3.0, 4.0)]
    fitted = Tails.fit(SIZES, values, [HALF, HALF])
    np.testing.assert_allclose(fitted.size, np.log(SIZES))
    np.testing.assert_allclose(fitted.shape[:, 0], [v.mean(axis=0) for v in values])
    np.testing.assert_allclose(fitted.shape[:, 1], [v.std(axis=0) for v in values])
    np.testing.assert_allclose(fitted.shape[:, 2], [stats.skew(v) for v in values])
    np.testing.assert_allclose(fitted.mean, fitted.shape[:, 0].min(axis=0))
    assert np.isinf(fitted.freedom).all()


def test_a_fit_keeps_the_moments_of_a_chi_squared_variable_at_least() -> None:
    constant = [np.full((400, 2), 3.0)] * 3
    fitted = Tails.fit(SIZES, constant, [HALF, Traits(weight=0.5, least_mean=5.0)])
    np.testing.assert_allclose(fitted.shape[:, 0], [[3.0, 5.0]] * 3)
    np.testing.assert_allclose(fitted.shape[:, 1], [[(2e-9) ** 0.5, 10**0.5]] * 3)
    np.testing.assert_allclose(fitted.shape[:, 2], [[0.1, 2 * 10**0.5 / 5]] * 3)


def test_the_skewness_is_at_most_that_of_one_square() -> None:
    values = np.zeros((400, 1))
    values[0] = 1.0
    fitted = Tails.fit(SIZES, [values] * 3, [HALF])
    np.testing.assert_array_equal(fitted.shape[:, 2], 3.0)


def heavy(random: np.random.Generator, size: tuple[int, int]) -> Floats:
    """Draw from a mixture with a heavier tail than a gamma distribution of the same moments."""
    return random.gamma(3, size=size) * np.where(random.random(size) < 0.05, 3, 1)


def test_the_stretch_is_the_mean_excess_beyond_one_decade() -> None:
    values = heavy(np.random.default_rng(0), (4_000, 2))
    fitted = Tails.fit(SIZES, [values] * 3, [HALF, HALF])
    one = values[:, 0]
    p = stats.pearson3.sf(one, stats.skew(one), loc=one.mean(), scale=one.std())
    excess = [(d - 1) * np.log(10) for d in -np.log10(p) if d > 1]
    np.testing.assert_allclose(fitted.shape[:, 3, 0], np.mean(excess), rtol=1e-6)
    # Without a tail nothing is stretched.
    light = Tails.fit(SIZES, [np.full((400, 2), 3.0)] * 3, [HALF, HALF])
    np.testing.assert_array_equal(light.shape[:, 3], 1)


def test_a_heavy_tail_keeps_its_level() -> None:
    random = np.random.default_rng(0)
    fitted = Tails.fit(SIZES, [heavy(random, (4_000, 1)) for _ in SIZES], [HALF])
    gamma = replace(fitted, shape=fitted.shape.copy())
    gamma.shape[:, 2] = 2 * gamma.shape[:, 1] / gamma.shape[:, 0]
    gamma.shape[:, 3] = 1
    fresh = heavy(random, (40_000, 1))
    found, two_moments = ((each.decades(fresh, 100) > 3).mean() for each in (fitted, gamma))
    assert two_moments > 0.004
    assert found < 0.6 * two_moments


# Sessions


def test_the_few_sessions_of_a_reference_raise_the_deviation_and_limit_the_freedom() -> None:
    plain = tails([2.0] * 3, [1.0] * 3)
    rougher, freedom = np.full((3, 2), 1.5), np.full((3, 2), 30.0)
    found = plain.roughened(Dependence(np.full((3, 2), 7.0), rougher, freedom))
    np.testing.assert_allclose(found.shape[:, 0], 2.0)
    np.testing.assert_allclose(found.shape[:, 1], 1.5)
    np.testing.assert_allclose(found.freedom, 30.0)
    np.testing.assert_allclose(found.effect, 7.0)
    np.testing.assert_allclose(plain.shape[:, 1], 1.0)


# Combination


def test_tests_are_combined_by_the_weighted_harmonic_mean_of_p_values() -> None:
    random = np.random.default_rng(0)
    p = random.uniform(1e-4, 1, size=(50, 3))
    expected = 1 / (0.5 / p[:, 0] + 0.3 / p[:, 1] + 0.2 / p[:, 2])
    found = combined(-np.log10(p), [HALF, Traits(weight=0.3), Traits(weight=0.2)])
    np.testing.assert_allclose(10**-found, expected)


def uniform(n: int, tests: int, seed: int = 0) -> Floats:
    """Decades of independent tests that keep their level, shape (n, tests)."""
    return np.asarray(-np.log10(np.random.default_rng(seed).uniform(size=(n, tests))))


def test_the_offset_makes_independent_tests_hold_one_percent() -> None:
    traits = [Traits(weight=0.125)] * 8
    combination = Combination.fit(uniform(40_000, 8), traits)
    scores = np.array([combination.score(row, traits) for row in uniform(20_000, 8, seed=1)])
    # 0.05 decades are subtracted on top.
    assert (scores > 1.95).mean() == pytest.approx(0.01, abs=0.002)
    assert combination.offset > 0.08


def test_tests_that_agree_need_no_offset_but_the_margin() -> None:
    decades = np.repeat(uniform(40_000, 1), 2, axis=1)
    assert Combination.fit(decades, [HALF, HALF]).offset == pytest.approx(0.05, abs=0.03)


def test_the_tail_of_the_score_is_stretched_by_its_excess_and_two_standard_errors() -> None:
    decades = uniform(4_000, 1)
    longer = np.where(decades > 1.5, 1.5 + 1.4 * (decades - 1.5), decades)
    combination = Combination.fit(longer, [Traits(weight=1.0)])
    excess = longer - combination.offset - 2
    mean = excess[excess > 0].mean() * np.log(10)
    assert combination.stretch == pytest.approx(mean * (1 + 2 / 40**0.5))
    assert combination.stretch > 1.4
    score = combination.score(np.array([6.0]), [Traits(weight=1.0)])
    assert score == pytest.approx(2 + (4 - combination.offset) / combination.stretch)


def test_a_light_tail_of_the_score_is_not_shortened() -> None:
    decades = np.minimum(uniform(4_000, 1), 2.0)
    combination = Combination.fit(decades, [Traits(weight=1.0)])
    assert combination.stretch == pytest.approx(1.0, abs=0.4)
    assert combination.score(np.array([0.0]), [Traits(weight=1.0)]) == 0


# Windows of the reference


def squared_length(shift: NDArray[np.float32]) -> Floats:
    squared: Floats = np.square(shift, dtype=np.float64).sum(axis=1, keepdims=True)
    return squared


def null(n: int = 300, d: int = 4, seed: int = 0) -> Null:
    random = np.random.default_rng(seed)
    table = random.normal(size=(n, d)).astype(np.float32)
    return Null(table, np.zeros(n, np.intp), squared_length, random)


def test_windows_are_means_of_rows_drawn_without_replacement() -> None:
    # Each row has a power of two of its own in one of two columns, so a mean shows its rows.
    table = np.zeros((40, 2), np.float32)
    table[np.arange(40), np.arange(40) // 20] = 2.0 ** (np.arange(40) % 20)
    reference = Null(table, np.zeros(40, np.intp), squared_length, np.random.default_rng(0))
    counts = np.zeros(40)
    for size, means in zip((5, 10), reference._means(np.array([5, 10])), strict=True):
        assert means.shape == (4_000, 2)
        sums = np.rint(means * size).astype(int)
        held = np.hstack([sums[:, [0]] >> np.arange(20) & 1, sums[:, [1]] >> np.arange(20) & 1])
        np.testing.assert_array_equal(held.sum(axis=1), size)
        counts += held.sum(axis=0)
    # Every row is in about as many windows.
    np.testing.assert_allclose(counts, 4_000 * 15 / 40, rtol=0.15)


def test_a_window_is_compared_with_the_rest_of_the_table() -> None:
    reference = null()
    windows = np.arange(300).reshape(-1, 50)[:, :40]
    means = reference.table[windows].mean(axis=1)
    expected = []
    for window in windows:
        rest = np.setdiff1d(np.arange(300), window)
        shift = reference.table[window].mean(axis=0) - reference.table[rest].mean(axis=0)
        expected.append(shift @ shift / (1 / 40 + 1 / 260))
    np.testing.assert_allclose(reference._scaled(means, 40)[:, 0], expected, rtol=1e-3)
    # In these units, each of four dimensions contributes its variance.
    drawn = reference._means(np.array([40]))[0]
    assert reference._scaled(drawn, 40).mean() == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("n", [47, 50, 65, 150, 300, 2_497, 2_500])
def test_windows_of_up_to_a_fifth_are_drawn(n: int) -> None:
    calls: list[int] = []

    def count(shift: NDArray[np.float32]) -> Floats:
        calls.append(len(shift))
        return squared_length(shift)

    table = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    # No two vectors are consecutive.
    found, _ = Null(table, np.arange(n), count, np.random.default_rng(0)).calibrate([HALF])
    sizes = np.rint(np.exp(found.size)).astype(int)
    largest, smallest = n // 5, min(50, n // 5 // 2)
    piece = max(smallest // 5, 1)
    assert sizes[0] == smallest // piece * piece
    assert largest - piece < sizes[2] <= largest
    assert sizes[1] == pytest.approx((smallest * largest) ** 0.5, abs=piece)
    assert (sizes % piece == 0).all()
    assert calls == [4_000] * 3


def in_sessions(tolerance: float = 0.0) -> tuple[Null, Null]:
    """Sessions of ten equal vectors in stretches of 250, and the same vectors shuffled."""

    def beyond(shift: NDArray[np.float32]) -> Floats:
        return squared_length(np.maximum(np.abs(shift) - np.float32(tolerance), 0))

    random = np.random.default_rng(0)
    table = np.repeat(random.normal(size=(200, 2)), 10, axis=0).astype(np.float32)
    stretch = np.arange(2_000) // 250
    shuffled = random.permutation(table)
    return Null(table, stretch, beyond, random), Null(shuffled, stretch, beyond, random)


def test_vectors_in_sessions_get_a_wider_null() -> None:
    wide, narrow = (each.calibrate([HALF])[0] for each in in_sessions())
    assert np.isinf(narrow.freedom).all()
    assert np.isfinite(wide.freedom).all()
    assert (wide.shape[:, 0] > 8 * narrow.shape[:, 0]).all()


def test_sessions_lengthen_shifts_before_a_tolerance_is_taken_off() -> None:
    # Independent vectors hardly ever pass the tolerance, so their statistic says nothing.
    sessions, shuffled = in_sessions(tolerance=0.3)
    wide, narrow = sessions.calibrate([HALF])[0], shuffled.calibrate([HALF])[0]
    assert np.isfinite(wide.freedom).all()
    plain = in_sessions()[0].calibrate([HALF])[0]
    [drawn] = shuffled._means(np.array([400]))
    # The design effect is that of the plain squares.
    effect = plain.shape[2, 0, 0] / 2
    expected = shuffled._scaled(drawn, 400, effect).mean()
    assert narrow.shape[2, 0, 0] < 0.1 * expected
    assert wide.shape[2, 0, 0] == pytest.approx(expected, rel=0.1)


def test_silent_tests_take_their_share_of_the_budget() -> None:
    decades = uniform(40_000, 8)
    traits = [Traits(weight=0.1)] * 8
    found = Combination.fit(decades, traits, silent=0.2)
    # The mean of 1/p, beside tests of weight 0.2 and p = 1.
    means = (0.1 / 10**-decades).sum(axis=1) + 0.2
    assert found.offset == pytest.approx(np.log10(np.quantile(means, 0.99)) - 2 + 0.05, abs=1e-6)
    assert found.offset > np.log10(0.8) + 0.05


def test_a_constant_has_no_surprise() -> None:
    combination = Combination.fit(np.zeros((400, 1)), [Traits(weight=0.8)], silent=0.2)
    assert combination.offset == pytest.approx(np.log10(0.8) + 0.05)
    assert combination.score(np.zeros(1), [Traits(weight=0.8)]) == 0


def test_an_unusual_vector_is_one_of_a_hundred() -> None:
    reference = null(1_000)
    squares = np.square(reference.table - reference.table.mean(axis=0)).sum(axis=1)
    assert reference.singles()[0] == pytest.approx(np.quantile(squares, 0.99), rel=1e-4)
