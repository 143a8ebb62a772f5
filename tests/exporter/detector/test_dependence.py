"""Dependence: sessions are found, measured, and told from independent vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.detector.dependence import Dependence, consecutive, longest, stretches

Floats = NDArray[np.float64]

SIZES = np.array([20, 60, 400])
WHOLE = 90


# Stretches


def test_a_stretch_ends_where_more_than_fifty_vectors_were_left_out() -> None:
    positions = np.array([7, 8, 20, 70, 71, 122, 123])
    np.testing.assert_array_equal(np.diff(stretches(positions)), [0, 0, 0, 0, 1, 0])


def test_consecutive_windows_overlap_by_half_and_stay_within_their_stretch() -> None:
    table = np.arange(17, dtype=np.float32)[:, None]
    stretch = np.repeat([3, 4, 7], [9, 3, 5])
    # Of the first stretch: rows 0-3, 2-5, 4-7; none of the second; of the third: rows 12-15.
    np.testing.assert_allclose(consecutive(table, stretch, 4)[:, 0], [1.5, 3.5, 5.5, 13.5])


def test_windows_are_as_long_as_half_of_the_vectors_have_consecutive_ones() -> None:
    assert longest(np.repeat(np.arange(40), 256)) == 256
    assert longest(np.repeat(np.arange(40), [512] + [128] * 39)) == 128
    # Ten windows without overlap are the fewest.
    assert longest(np.zeros(1_000, np.intp)) == 100
    assert longest(np.arange(1_000)) == 0
    assert longest(np.repeat(np.arange(100), 11)) == 0


# The design effect


def flat(mean: float, deviation: float, windows: int = 40) -> Floats:
    """Two statistics whose mean and deviation are exactly these."""
    wave = np.where(np.arange(windows) % 2, 1.0, -1.0)[:, None]
    return np.repeat(mean + deviation * wave, 2, axis=1)


def independent(size: int) -> Floats:
    return flat(2.0, 1.0, 800)


def fit(together: Callable[[int], Floats]) -> Dependence | None:
    return Dependence.fit(SIZES, WHOLE, independent, together)


def test_the_effect_is_the_ratio_of_the_means_and_two_standard_errors() -> None:
    found = fit(lambda size: flat(6.0, 3.0))
    assert found is not None
    # Forty windows that overlap by half are twenty: an error of 3 / sqrt(20), in units of 2.
    error = 3 / 20**0.5 / 2
    np.testing.assert_allclose(found.effect[:2], 3 + 2 * error)
    np.testing.assert_allclose(found.freedom[:2], 2 * (3 / error) ** 2)
    # Both vary by half of their mean, and the deviation of twenty windows is as uncertain.
    np.testing.assert_allclose(found.rougher, 1 + 2 / 40**0.5)


def test_windows_longer_than_a_stretch_have_the_effect_extrapolated_from_two_lengths() -> None:
    means = {20: 3.0, 30: 4.0, 60: 5.0, 90: 6.0}
    found = fit(lambda size: flat(means[size], 1.0))
    assert found is not None
    error = 1 / 20**0.5 / 2
    expected = [3 / 2 + 2 * error, 5 / 2 + 2 * error, (2 * 6 - 4) / 2 + 2 * error * 5**0.5]
    np.testing.assert_allclose(found.effect[:, 0], expected)
    np.testing.assert_allclose(found.freedom[2, 0], 2 * (4 / error) ** 2 / 5)


def test_sessions_that_vary_more_raise_the_variation_and_those_that_vary_less_do_not() -> None:
    more, less = fit(lambda size: flat(6.0, 4.8)), fit(lambda size: flat(6.0, 1.0))
    assert more is not None
    assert less is not None
    margin = 1 + 2 / 40**0.5
    np.testing.assert_allclose(more.rougher, (4.8 / 6.0) / (1.0 / 2.0) * margin)
    np.testing.assert_allclose(less.rougher, 1)


def test_three_standard_errors_of_chance_are_no_dependence() -> None:
    # Chance lets the mean of twenty windows vary by 1 / sqrt(20).
    error = 1 / 20**0.5
    assert fit(lambda size: flat(2.0 + 2.9 * error, 5.0)) is None
    assert fit(lambda size: flat(2.0 + 3.1 * error, 5.0)) is not None


@pytest.mark.parametrize("depends", [WHOLE, WHOLE // 3])
def test_dependence_of_one_statistic_at_one_length_is_dependence_of_all(depends: int) -> None:
    def together(size: int) -> Floats:
        values = flat(2.2, 1.0)
        if size == depends:
            values[:, 1] *= 3
        return values

    found = fit(together)
    assert found is not None
    assert (found.effect > 1).all()
    assert np.isfinite(found.freedom).all()


def test_larger_windows_have_at_least_the_effect_of_smaller_ones() -> None:
    means = {20: 8.0, 30: 6.0, 60: 5.0, 90: 6.0}
    found = fit(lambda size: flat(means[size], 1.0))
    assert found is not None
    assert (np.diff(found.effect, axis=0) == 0).all()


def test_an_effect_is_never_below_one() -> None:
    def together(size: int) -> Floats:
        return np.column_stack([np.zeros(40), flat(8.0, 1.0)[:, 0]])

    found = fit(together)
    assert found is not None
    np.testing.assert_array_equal(found.effect[:, 0], 1)
    assert (found.freedom >= 1).all()


@pytest.mark.parametrize("users", [1, 4])
def test_the_effect_of_interleaved_sessions_is_found_from_stretches_shorter_than_they(
    users: int,
) -> None:
    """Each user sends 30 equal values: means of many sessions vary 30 times as much."""
    random = np.random.default_rng(0)
    drawn = random.normal(size=(users, 20_000 // 30, 1, 3))
    values = np.repeat(drawn, 30, axis=2).reshape(users, -1, 3)
    table = values.transpose(1, 0, 2).reshape(-1, 3).astype(np.float32)
    stretch = np.arange(len(table)) // 100

    def squares(means: NDArray[np.float32], size: int) -> Floats:
        of_means: Floats = np.square(means, dtype=np.float64).sum(axis=1, keepdims=True)
        return size * of_means

    found = Dependence.fit(
        SIZES,
        100,
        lambda size: squares(random.normal(size=(4_000, 3)).astype("f4") / size**0.5, size),
        lambda size: squares(consecutive(table, stretch, size), size),
    )
    assert found is not None
    within = squares(consecutive(table, stretch, 100), 100).mean() / 3
    # Of four users, a stretch holds less than a session each.
    assert within < (29 if users == 1 else 20)
    # Two errors are added.
    assert 27 < found.effect[-1, 0] < 50
