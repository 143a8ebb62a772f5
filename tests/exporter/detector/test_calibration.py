"""Calibration: p-values agree with scipy's distributions, and hold in simulations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from exporter.detector.calibration import (
    CEILING,
    Null,
    RepeatTail,
    Tails,
    Traits,
    combined,
)

Floats = NDArray[np.float64]

GAMMA = Traits(weight=0.5, tail="gamma")
GUMBEL = Traits(weight=0.3, tail="gumbel")
REPEATS = Traits(weight=0.2, tail="repeats")
SIZES = np.array([50, 100, 200])


def tails(
    mean: Sequence[float],
    deviation: Sequence[float],
    stretch: float = 1.0,
    freedom: Sequence[float] = (np.inf, np.inf, np.inf),
) -> Tails:
    """Null distributions of two statistics, the same for both, at three sizes."""
    shape = np.array([[[m] * 2, [d] * 2, [stretch] * 2] for m, d in zip(mean, deviation)])  # noqa: B905
    return Tails(np.log(SIZES), shape, np.repeat(np.array(freedom)[:, None], 2, axis=1))


VALUES = np.array([0.0, 0.3, 1.0, 2.0, 4.0, 9.0, 20.0])
BOTH = np.column_stack([VALUES, VALUES])


# Tails


def test_quadratic_forms_have_a_gamma_tail_and_maxima_a_gumbel_tail() -> None:
    found = tails([2.0] * 3, [1.5] * 3).decades(BOTH, 100, [GAMMA, GUMBEL])
    shape = (2.0 / 1.5) ** 2
    scale = 1.5 * 6**0.5 / np.pi
    gamma = stats.gamma.sf(VALUES, shape, scale=2.0 / shape)
    gumbel = stats.gumbel_r.sf(VALUES, loc=2.0 - np.euler_gamma * scale, scale=scale)
    np.testing.assert_allclose(found[:, 0], -np.log10(gamma), rtol=1e-9)
    np.testing.assert_allclose(found[:, 1], -np.log10(gumbel), rtol=1e-9)


def test_the_tail_is_stretched_beyond_one_decade() -> None:
    plain = tails([2.0] * 3, [1.5] * 3).decades(BOTH, 100, [GAMMA, GUMBEL])
    stretched = tails([2.0] * 3, [1.5] * 3, 1.25).decades(BOTH, 100, [GAMMA, GUMBEL])
    assert plain.min() < 1 < plain.max()
    np.testing.assert_allclose(stretched, np.where(plain > 1, 1 + (plain - 1) / 1.25, plain))


def test_a_scale_known_with_few_degrees_of_freedom_has_an_f_tail() -> None:
    found = tails([2.0] * 3, [1.5] * 3, freedom=[12.0] * 3).decades(BOTH, 100, [GAMMA, GUMBEL])
    shape = (2.0 / 1.5) ** 2
    expected = -np.log10(stats.f.sf(VALUES / 2.0, 2 * shape, 12.0))
    np.testing.assert_allclose(found, np.column_stack([expected, expected]), rtol=1e-9)


def test_only_statistics_with_few_degrees_of_freedom_have_an_f_tail() -> None:
    plain = tails([2.0] * 3, [1.5] * 3)
    mixed = Tails(plain.size, plain.shape, np.array([[np.inf, 12.0]] * 3))
    f = tails([2.0] * 3, [1.5] * 3, freedom=[12.0] * 3)
    found = mixed.decades(BOTH, 100, [GAMMA, GAMMA])
    np.testing.assert_array_equal(found[:, 0], plain.decades(BOTH, 100, [GAMMA, GAMMA])[:, 0])
    np.testing.assert_array_equal(found[:, 1], f.decades(BOTH, 100, [GAMMA, GAMMA])[:, 1])


def test_an_estimated_scale_with_an_f_tail_keeps_the_level() -> None:
    # The scale of a gamma variable of shape 1.5 is estimated as the mean of 4 others.
    random = np.random.default_rng(0)
    estimated = random.gamma(1.5, size=(40_000, 4)).mean(axis=1)
    ratio = random.gamma(1.5, size=40_000) / estimated * 1.5
    known = tails([1.5] * 3, [1.5**0.5] * 3, freedom=[2 * 1.5 * 4] * 3)
    unknown = tails([1.5] * 3, [1.5**0.5] * 3)
    statistics = np.column_stack([ratio, ratio])
    p = 10 ** -known.decades(statistics, 100, [GAMMA, GAMMA])[:, 0]
    for level in (0.1, 0.01, 0.001):
        assert (p < level).mean() == pytest.approx(level, abs=4 * (level / 40_000) ** 0.5)
    assert (unknown.decades(statistics, 100, [GAMMA, GAMMA])[:, 0] > 2).mean() > 0.02


def test_between_sizes_moments_are_interpolated_in_the_logarithm() -> None:
    # Values chosen so that each size has another mean, deviation and freedom.
    several = tails([1.0, 2.0, 4.0], [1.0, 1.5, 3.0], freedom=[10.0, 30.0, 20.0])
    part = np.log(70 / 50) / np.log(2)
    between = tails([1 + part] * 3, [1 + 0.5 * part] * 3, freedom=[10.0] * 3)
    later = np.log(150 / 100) / np.log(2)
    beyond = tails([2 + 2 * later] * 3, [1.5 + 1.5 * later] * 3, freedom=[20.0] * 3)
    traits = [GAMMA, GAMMA]
    for n, same in ((70, between), (150, beyond)):
        np.testing.assert_allclose(
            several.decades(BOTH, n, traits), same.decades(BOTH, 100, traits), rtol=1e-9
        )


@pytest.mark.parametrize(("beyond", "end"), [(1, 50), (49, 50), (201, 200), (10_000, 200)])
def test_beyond_the_sizes_the_nearest_one_holds(beyond: int, end: int) -> None:
    several = tails([1.0, 2.0, 4.0], [1.0, 1.5, 3.0])
    traits = [GAMMA, GUMBEL]
    np.testing.assert_allclose(
        several.decades(BOTH, beyond, traits), several.decades(BOTH, end, traits), rtol=1e-12
    )


def test_decades_have_a_ceiling_and_never_overflow() -> None:
    with np.errstate(all="raise", under="ignore"):
        found = tails([2.0] * 3, [1e-3] * 3).decades(
            np.array([[0.0, 0.0], [1e6, 1e6]]), 100, [GAMMA, GUMBEL]
        )
    np.testing.assert_allclose(found, [[0, 0], [CEILING, CEILING]], atol=1e-12)


def test_a_fit_takes_the_moments_of_each_size() -> None:
    random = np.random.default_rng(0)
    values = [random.gamma(k, size=(400, 2)) for k in (2.0, 3.0, 4.0)]
    fitted = Tails.fit(SIZES, values, [GAMMA, GUMBEL])
    np.testing.assert_allclose(fitted.size, np.log(SIZES))
    np.testing.assert_allclose(fitted.shape[:, 0], [v.mean(axis=0) for v in values])
    np.testing.assert_allclose(fitted.shape[:, 1], [v.std(axis=0) for v in values])
    assert np.isinf(fitted.freedom).all()


def test_a_fit_keeps_the_mean_and_deviation_of_a_chi_squared_variable_at_least() -> None:
    constant = [np.full((400, 2), 3.0)] * 3
    fitted = Tails.fit(SIZES, constant, [GAMMA, Traits(weight=0.5, tail="gamma", least_mean=5.0)])
    np.testing.assert_allclose(fitted.shape[:, 0], [[3.0, 5.0]] * 3)
    np.testing.assert_allclose(fitted.shape[:, 1], [[(2e-9) ** 0.5, 10**0.5]] * 3)


def heavy(random: np.random.Generator, size: tuple[int, int]) -> Floats:
    """Draw from a mixture with a heavier tail than a gamma distribution of the same moments."""
    return random.gamma(3, size=size) * np.where(random.random(size) < 0.05, 3, 1)


def test_the_stretch_is_the_mean_excess_with_a_prior_of_as_many_events() -> None:
    random = np.random.default_rng(0)
    values = heavy(random, (400, 2))
    fitted = Tails.fit(SIZES, [values] * 3, [GAMMA, GUMBEL])
    shape = np.square(values[:, 0].mean() / values[:, 0].std())
    scale = values[:, 0].mean() / shape
    decades = -np.log10(stats.gamma.sf(values[:, 0], shape, scale=scale))
    excess = [(d - 1) * np.log(10) for d in decades if d > 1]
    expected = (sum(excess) + 40) / (len(excess) + 40)
    assert expected > 1.1
    np.testing.assert_allclose(fitted.shape[:, 2, 0], expected)
    light = Tails.fit(SIZES, [random.uniform(1, 2, size=(400, 2))] * 3, [GAMMA, GUMBEL])
    np.testing.assert_array_equal(light.shape[:, 2], 1)


def test_the_stretch_brings_a_heavy_tail_closer_to_its_level() -> None:
    random = np.random.default_rng(0)
    fitted = Tails.fit(SIZES, [heavy(random, (400, 1)) for _ in SIZES], [GAMMA])
    plain = Tails(fitted.size, fitted.shape.copy(), fitted.freedom)
    plain.shape[:, 2] = 1
    fresh = heavy(random, (20_000, 1))
    stretched, not_stretched = (
        (each.decades(fresh, 100, [GAMMA]) > 3).mean() for each in (fitted, plain)
    )
    assert not_stretched > 0.004
    assert stretched < 0.75 * not_stretched


# Sessions


def sessions(ratio: float, spread: float, windows: int = 60) -> Floats:
    """Statistics whose mean is ``ratio`` and whose deviation is ``spread``, exactly."""
    wave = np.where(np.arange(windows) % 2, 1.0, -1.0)[:, None]
    return np.repeat(ratio + spread * wave, 2, axis=1)


def test_a_design_effect_widens_mean_and_deviation_and_limits_the_freedom() -> None:
    plain = tails([2.0] * 3, [1.0] * 3)
    found = plain.widened([sessions(6.0, 3.0)] * 3, n=1_000)
    # Thirty windows without overlap: a standard error of 3 / sqrt(30), twice.
    ratio = (6.0 + 2 * 3.0 / 30**0.5) / 2.0
    np.testing.assert_allclose(found.shape[:, 0], 2.0 * ratio)
    # Both vary by half of their mean, so the deviation grows in proportion.
    np.testing.assert_allclose(found.shape[:, 1], 1.0 * ratio)
    np.testing.assert_allclose(found.shape[:, 2], 1.0)
    # A gamma of this mean and deviation has shape 4; n / size windows are 8 n / size.
    np.testing.assert_allclose(found.freedom, np.repeat(8 * 1_000 / SIZES[:, None], 2, axis=1))
    np.testing.assert_array_equal(plain.shape[:, 0], 2.0)


def test_sessions_that_vary_more_also_raise_the_variation() -> None:
    found = tails([2.0] * 3, [1.0] * 3).widened([sessions(6.0, 4.8)] * 3, n=1_000)
    ratio = (6.0 + 2 * 4.8 / 30**0.5) / 2.0
    np.testing.assert_allclose(found.shape[:, 0], 2.0 * ratio)
    np.testing.assert_allclose(found.shape[:, 1], ratio * (4.8 / 6.0) / (1.0 / 2.0))
    np.testing.assert_allclose(found.freedom[:, 0], 2 / 0.8**2 * 1_000 / SIZES)


def test_sessions_that_vary_less_do_not_lower_the_variation() -> None:
    found = tails([2.0] * 3, [1.0] * 3).widened([sessions(6.0, 1.0)] * 3, n=1_000)
    np.testing.assert_allclose(found.shape[:, 1] / found.shape[:, 0], 0.5)


def test_a_ratio_within_two_standard_errors_is_no_design_effect() -> None:
    plain = tails([2.0] * 3, [1.0] * 3)
    error = 1.0 / 30**0.5
    within, beyond = (
        plain.widened([sessions(2.0 + times * error, 1.0)] * 3, n=1_000) for times in (1.9, 2.1)
    )
    np.testing.assert_array_equal(within.shape, plain.shape)
    np.testing.assert_array_equal(within.freedom, plain.freedom)
    np.testing.assert_allclose(beyond.shape[:, 0], 2.0 + 4.1 * error)


def test_larger_sizes_take_at_least_the_ratio_of_smaller_ones() -> None:
    together = [sessions(2.0, 1.0), sessions(6.0, 3.0), sessions(4.0, 2.0)]
    found = tails([2.0] * 3, [1.0] * 3).widened(together, n=1_000)
    ratio = (6.0 + 2 * 3.0 / 30**0.5) / 2.0
    np.testing.assert_allclose(found.shape[:, 0, 0], [2.0, 2.0 * ratio, 2.0 * ratio])
    np.testing.assert_allclose(found.freedom[:, 0], [np.inf, 80.0, 40.0])


# Repeats


def repeat_tail(mean: float, variance: float) -> RepeatTail:
    return RepeatTail(np.log(SIZES), np.full(3, mean), np.full(3, variance))


REPEATED = np.array([0.0, 1.0, 2.0, 5.0, 30.0])


def test_repeats_without_excess_variance_are_poisson() -> None:
    found = repeat_tail(1e-3, 1e-3).decades(REPEATED, 100)
    expected = -np.log10(stats.poisson.sf(REPEATED - 1, 1e-3 * 100 * 99 / 2))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_repeats_with_excess_variance_are_negative_binomial() -> None:
    mean, variance = 1e-3 * 100 * 99 / 2, 3e-3 * 100 * 99 / 2
    found = repeat_tail(1e-3, 3e-3).decades(REPEATED, 100)
    expected = -np.log10(
        stats.nbinom.sf(REPEATED - 1, mean**2 / (variance - mean), mean / variance)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_a_variance_within_one_percent_of_the_mean_is_poisson() -> None:
    poisson = repeat_tail(1e-3, 1e-3).decades(REPEATED, 100)
    np.testing.assert_array_equal(repeat_tail(1e-3, 1.009e-3).decades(REPEATED, 100), poisson)
    assert (repeat_tail(1e-3, 1.011e-3).decades(REPEATED, 100)[1:] != poisson[1:]).all()


def test_rates_of_repeats_are_interpolated_between_sizes() -> None:
    tail = RepeatTail(np.log(SIZES), np.array([1e-4, 2e-4, 4e-4]), np.array([1e-4, 3e-4, 9e-4]))
    part = np.log(70 / 50) / np.log(2)
    same = repeat_tail(1e-4 + part * 1e-4, 1e-4 + part * 2e-4)
    np.testing.assert_allclose(tail.decades(REPEATED, 70), same.decades(REPEATED, 70))


def test_no_repeats_are_no_surprise_and_many_have_a_ceiling() -> None:
    tail = repeat_tail(1e-6, 1e-6)
    assert tail.decades(np.zeros(2), 100).tolist() == [0, 0]
    assert tail.decades(np.array([0.0, 150.0]), 100).tolist() == [0, CEILING]
    assert tail.decades(np.array([1.0]), 1)[0] == pytest.approx(6, abs=1e-6)


def test_a_fit_of_repeats_takes_moments_per_pair_and_adds_half_a_pair() -> None:
    repeats = [np.arange(400) % k for k in (2.0, 3.0, 5.0)]
    tail = RepeatTail.fit(SIZES, repeats, 1_000)
    pairs = np.array([50 * 49, 100 * 99, 200 * 199]) / 2
    half = 0.5 / (1_000 * 999 / 2)
    np.testing.assert_allclose(tail.size, np.log(SIZES))
    np.testing.assert_allclose(tail.mean, [r.mean() for r in repeats] / pairs + half)
    np.testing.assert_allclose(tail.variance, [r.var() for r in repeats] / pairs + half)


def test_equal_vectors_that_arrive_together_widen_the_rates() -> None:
    pairs = SIZES * (SIZES - 1) / 2
    tail = RepeatTail(np.log(SIZES), 2.0 / pairs, 3.0 / pairs)
    quiet, loud = sessions(2.0, 1.0)[:, 0], sessions(6.0, 3.0)[:, 0]
    found = tail.widened([quiet, loud, quiet])
    ratio = np.array([1.0, 1.0, 1.0]) * (6.0 + 2 * 3.0 / 30**0.5) / 2.0
    ratio[0] = 1.0
    np.testing.assert_allclose(found.mean, tail.mean * ratio)
    np.testing.assert_allclose(found.variance, tail.variance * ratio**2)
    np.testing.assert_allclose(tail.mean, 2.0 / pairs)


# Combination


def test_tests_are_combined_by_the_weighted_harmonic_mean_of_p_values() -> None:
    random = np.random.default_rng(0)
    p = random.uniform(1e-4, 1, size=(50, 3))
    expected = 1 / (0.5 / p[:, 0] + 0.3 / p[:, 1] + 0.2 / p[:, 2])
    found = combined(-np.log10(p), [GAMMA, GUMBEL, REPEATS])
    np.testing.assert_allclose(10**-found, expected)


# Windows of the reference


def null(n: int = 300, d: int = 4, seed: int = 0) -> Null:
    random = np.random.default_rng(seed)
    table = random.normal(size=(n, d)).astype(np.float32)
    return Null(table, np.arange(2 * n), random)


def squared_length(shift: NDArray[np.float32]) -> Floats:
    return np.square(shift, dtype=np.float64).sum(axis=1, keepdims=True)


def test_windows_are_drawn_without_replacement() -> None:
    windows = null()._random(300, 40)
    assert windows.shape == (400, 40)
    assert all(len(set(window)) == 40 for window in windows.tolist())
    assert np.bincount(windows.ravel(), minlength=300).min() > 20
    assert windows.max() < 300


def test_a_window_is_compared_with_the_rest_of_the_table() -> None:
    reference = null()
    windows = reference._random(300, 40)[:20]
    found = reference._statistics(windows, squared_length)[:, 0]
    table = reference.table.astype(np.float64)
    expected = []
    for window in windows:
        rest = np.setdiff1d(np.arange(300), window)
        shift = table[window].mean(axis=0) - table[rest].mean(axis=0)
        expected.append(shift @ shift / (1 / 40 + 1 / 260))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    # In these units, each of four dimensions contributes its variance.
    assert reference._statistics(reference._random(300, 40), squared_length).mean() == (
        pytest.approx(4, rel=0.1)
    )


def test_repeats_are_vectors_equal_to_an_earlier_one_of_the_window() -> None:
    prints = np.array([5, 5, 5, 9, 7, 9, 1, 2], dtype=np.int64)
    reference = Null(np.zeros((4, 1), np.float32), prints, np.random.default_rng(0))
    windows = np.array([[0, 1, 2, 3], [3, 4, 5, 6], [2, 4, 6, 7]])
    assert reference._repeats(windows).tolist() == [2, 1, 0]


@pytest.mark.parametrize("n_reference", [100, 137, 300, 600, 5_000])
def test_every_size_is_calibrated_and_checked_for_sessions(n_reference: int) -> None:
    # A few vectors less than half: stretches of the reference differ in length by one.
    n = n_reference // 2 - 3
    calls: list[int] = []

    def count(shift: NDArray[np.float32]) -> Floats:
        calls.append(len(shift))
        return squared_length(shift)

    table = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    reference = Null(table, np.arange(n_reference), np.random.default_rng(0))
    tails, repeats, _ = reference.calibrate(count, [GAMMA], REPEATS)
    largest = n_reference // 10
    smallest = min(50, largest // 2)
    sizes = [smallest, int((smallest * largest) ** 0.5 + 1e-9), largest]
    np.testing.assert_allclose(np.exp(tails.size), sizes)
    np.testing.assert_allclose(np.exp(repeats.size), 2 * np.array(sizes))
    assert calls == [400] * 3 + [(n - size) // max(1, size // 2) + 1 for size in sizes]


def test_consecutive_windows_overlap_by_half() -> None:
    seen = []

    def record(shift: NDArray[np.float32]) -> Floats:
        seen.append(shift)
        return squared_length(shift)

    table = np.arange(300, dtype=np.float32)[:, None]
    Null(table, np.arange(600), np.random.default_rng(0)).calibrate(record, [GAMMA], REPEATS)
    # The mean of a window of 60 consecutive numbers is that of its ends.
    middle = 29.5 + 30 * np.arange(9)
    expected = (middle - 149.5) * 300 / 240
    np.testing.assert_allclose(seen[-1][:, 0], expected, rtol=1e-4)


def test_vectors_in_sessions_get_a_wider_null() -> None:
    random = np.random.default_rng(0)
    table = np.repeat(random.normal(size=(200, 2)), 10, axis=0).astype(np.float32)
    prints = np.repeat(np.arange(2_000), 2)
    ordered = Null(table, prints, np.random.default_rng(0))
    shuffled = Null(random.permutation(table), random.permutation(prints), np.random.default_rng(0))
    wide, wide_repeats, _ = ordered.calibrate(squared_length, [GAMMA], REPEATS)
    narrow, narrow_repeats, _ = shuffled.calibrate(squared_length, [GAMMA], REPEATS)
    assert np.isinf(narrow.freedom).all()
    assert np.isfinite(wide.freedom).all()
    assert (wide.shape[:, 0] > 8 * narrow.shape[:, 0]).all()
    assert (wide_repeats.mean > 5 * narrow_repeats.mean).all()
    # 2,000 pairs of equal vectors among all pairs of 4,000.
    np.testing.assert_allclose(narrow_repeats.mean, 2_000 / (4_000 * 3_999 / 2), rtol=0.15)


def test_components_that_agree_need_no_offset_but_the_margin() -> None:
    traits = [Traits(weight=0.4, tail="gamma")] * 2

    def twice(shift: NDArray[np.float32]) -> Floats:
        return np.repeat(squared_length(shift), 2, axis=1)

    assert null().calibrate(twice, traits, REPEATS)[2] == pytest.approx(0.1)


def test_the_offset_makes_independent_components_hold_five_percent() -> None:
    traits = [Traits(weight=0.125, tail="gamma")] * 8

    def apart(shift: NDArray[np.float32]) -> Floats:
        return np.square(shift, dtype=np.float64)

    offset = null(2_000, 8).calibrate(apart, traits, Traits(weight=0.0, tail="repeats"))[2]
    # The weighted mean of eight independent 1/p exceeds 20 in more than 5 % of all cases.
    inverse = (1 / np.random.default_rng(0).uniform(size=(200_000, 8))).mean(axis=1)
    expected = np.log10(np.quantile(inverse, 0.95) * 0.05)
    assert expected > 0.08
    assert offset - 0.1 == pytest.approx(expected, abs=0.04)
