"""The bound finds the share that stands out, and nothing where the fold itself shows nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.stats.arrays import Floats
from exporter.stats.variation import Bound, lower_bound

FOLDS = 10


def bound(current: Floats, reference: Floats, *more: tuple[Floats, Floats]) -> Bound:
    """Bound the variation between scores, in ten folds of consecutive ones each."""
    scores = [np.concatenate(pair) for pair in ((current, reference), *more)]
    return lower_bound(scores, *sides(len(current), len(reference)))


def sides(n: int, n_reference: int) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    is_current = np.arange(n + n_reference) < n
    folds = [np.arange(count) * FOLDS // count for count in (n, n_reference)]
    return is_current, np.concatenate(folds)


def normal(seed: int, n: int) -> Floats:
    return np.random.default_rng(seed).normal(size=n)


def test_samples_that_do_not_overlap_differ_entirely() -> None:
    assert bound(normal(0, 200) + 100, normal(1, 500)) == Bound(1.0, 0.0)


def test_a_cut_is_halfway_between_the_samples() -> None:
    # The scores of a fold are those of its own model, and a little lower or higher than others.
    shift = np.linspace(-1, 1, FOLDS).repeat(20)
    assert bound(100 + shift, shift).estimate == 1


def test_a_share_that_stands_out_is_the_estimate() -> None:
    current = normal(0, 1_000)
    current[::4] += 100
    found = bound(current, normal(1, 2_000))
    assert found.estimate == pytest.approx(0.25, abs=0.002)
    # The standard error of a share of 1/4 among 1,000.
    assert found.error == pytest.approx(math.sqrt(0.25 * 0.75 / 1_000), rel=0.05)


def test_the_error_has_the_part_of_either_sample() -> None:
    current, reference = np.zeros(100), np.zeros(400)
    current[::2] = reference[::4] = 1
    found = bound(current, reference)
    assert found.estimate == pytest.approx(0.25)
    assert found.error == pytest.approx(math.sqrt(0.5**2 / 100 + 0.25 * 0.75 / 400))


def test_samples_of_one_distribution_do_not_differ_on_average() -> None:
    found = [bound(normal(2 * seed, 200), normal(2 * seed + 1, 600)) for seed in range(300)]
    estimates = np.array([each.estimate for each in found])
    assert abs(estimates.mean()) < 0.003
    assert np.quantile(estimates, 0.95) < 0.05
    assert np.mean(estimates == 0) > 0.4
    assert np.mean([each.estimate > 2 * each.error for each in found]) < 0.08


def test_where_nothing_stands_out_the_error_is_the_largest_possible() -> None:
    found = bound(np.zeros(100), np.zeros(400))
    assert found == pytest.approx((0, math.sqrt(0.25 / 100 + 0.25 / 400)))


def test_equal_scores_are_never_separated() -> None:
    # The order in the arrays says which vectors are current.
    current = np.repeat([0.0, 1.0], 100)
    assert bound(current, current).estimate == 0


def test_a_fold_is_measured_by_what_the_others_choose() -> None:
    current = normal(0, 1_000)
    current[:100] += 100
    # Without the first fold nothing stands out. With it a set does, which the other folds lack.
    found = bound(current, normal(1, 1_000))
    assert abs(found.estimate) < 0.02
    assert found.estimate < 2 * found.error


def test_folds_that_disagree_widen_the_error() -> None:
    current = np.zeros(1_000)
    current[:500] = 1
    found = bound(current, np.zeros(1_000))
    assert found.estimate == pytest.approx(0.5)
    # Five differences of 1 and five of 0; their mean has the error sqrt(0.25 / 9).
    assert found.error == pytest.approx(math.sqrt(0.25 / 9))


def test_the_score_that_separates_better_is_chosen() -> None:
    useless = normal(2, 200), normal(3, 500)
    useful = normal(0, 200) + 100, normal(1, 500)
    assert bound(*useless, useful).estimate == 1
    assert bound(*useful, useless).estimate == 1
    assert bound(*useless).estimate < 0.1
