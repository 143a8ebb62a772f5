"""Enrichment compares frequencies, vector by vector or by blocks of arrival."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import fisher_exact

from exporter.stats.enrichment import log_p_value, log_p_value_in_blocks


@pytest.mark.parametrize(("ours", "theirs"), [(0, 4), (3, 2), (12, 1), (30, 30), (50, 0)])
def test_it_is_fishers_exact_test(ours: int, theirs: int) -> None:
    table = np.array([[ours, 50 - ours], [theirs, 200 - theirs]])
    expected = fisher_exact(table, alternative="greater").pvalue
    assert np.exp(log_p_value(ours, 50, theirs, 200)) == pytest.approx(expected)


def test_a_design_effect_of_five_leaves_a_fifth_of_the_counts() -> None:
    assert log_p_value(50, 1_000, 10, 5_000, 5.0) == log_p_value(10, 200, 2, 1_000)


def test_each_count_may_have_its_own_design_effect() -> None:
    found = log_p_value([50, 50, 1_000], 1_000, [10, 10, 0], 5_000, [1.0, 5.0, 2.0])
    assert found[0] == log_p_value(50, 1_000, 10, 5_000)
    assert found[1] == log_p_value(50, 1_000, 10, 5_000, 5.0)
    assert found[2] == log_p_value(500, 500, 0, 2_500)


def test_a_p_value_that_underflows_has_a_logarithm() -> None:
    found = log_p_value([900, 1_000], 1_000, [0, 0], 5_000)
    assert found[1] < found[0] < -750
    assert np.isfinite(found).all()
    assert float(log_p_value(1_000, 1_000, 0, 5_000)) == found[1]


def test_a_group_that_comes_in_one_session_does_not_stand_out_in_blocks() -> None:
    spread = np.arange(0, 1_000, 20)
    session = np.arange(200, 250)
    others = np.arange(0, 5_000, 500)
    assert log_p_value(50, 1_000, 10, 5_000) < np.log(1e-9)
    assert log_p_value_in_blocks(spread, 1_000, others, 5_000) < np.log(1e-6)
    assert log_p_value_in_blocks(session, 1_000, others, 5_000) > np.log(0.05)


def test_a_window_without_any_is_not_surer_than_the_sessions_of_the_other_side() -> None:
    sessions = np.concatenate([np.arange(first, first + 40) for first in (300, 2_100, 3_900)])
    assert log_p_value(120, 5_000, 0, 1_000) < np.log(1e-5)
    none = np.array([], np.intp)
    assert log_p_value_in_blocks(sessions, 5_000, none, 1_000) > np.log(0.05)


def test_the_sessions_of_the_other_side_count_if_the_first_is_even() -> None:
    even, session = np.arange(25, 1_000, 50), np.arange(300, 340)
    assert log_p_value_in_blocks(even, 1_000, session, 5_000) > np.log(0.05)


def test_without_a_difference_the_test_in_blocks_keeps_its_level() -> None:
    random = np.random.default_rng(0)
    below = 0
    for _ in range(400):
        ours, theirs = random.random(1_000) < 0.05, random.random(4_000) < 0.05
        rows, others = np.flatnonzero(ours), np.flatnonzero(theirs)
        below += log_p_value_in_blocks(rows, 1_000, others, 4_000) < np.log(0.05)
    assert below <= 25


def test_a_single_vector_shows_nothing_in_blocks() -> None:
    one = np.array([0])
    assert log_p_value_in_blocks(one, 1, one, 1_000) == 0
