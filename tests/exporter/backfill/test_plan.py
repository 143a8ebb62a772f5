"""The plan of a history: windows made of segments hold what they should."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from exporter.backfill.plan import Fitted, Plan, check_times, recorded
from exporter.monitor.windows import Limits
from ingest.runtime.settings.settings import MonitoringSettings, WindowSettings
from ingest.store.changes import is_sampled
from tests.exporter.backfill.lake import held

Floats = NDArray[np.float64]

LIMITS = {
    "fast": Limits(WindowSettings(seconds=7, min_vectors=2), 5),
    "slow": Limits(WindowSettings(seconds=40, min_vectors=2), 12),
}
NOTHING_FITTED = Fitted(-2.0, -1.0)


def planned(times: Floats, checks: Floats, fitted: Fitted = NOTHING_FITTED) -> Plan:
    wanted = dict.fromkeys(LIMITS, np.ones(len(checks), bool))
    return Plan.of(times, checks, wanted, LIMITS, fitted)


def sampled(young: NDArray[np.intp], level: int) -> NDArray[np.intp]:
    return young[is_sampled(young + 1, level)]


# Whole seconds, so that vectors share times and lie on the edges of windows.
seconds = st.lists(st.integers(1, 120), min_size=1, max_size=60).map(
    lambda found: np.array(sorted(found), np.float64)
)


@settings(max_examples=200)
@given(times=seconds, interval=st.integers(1, 12))
def test_a_window_spans_its_seconds_and_holds_all_vectors_or_a_sample(
    times: Floats, interval: int
) -> None:
    checks = check_times(times[0], times[-1], interval)
    assume(len(checks))
    plan = planned(times, checks)
    kept = np.flatnonzero(plan.kept)
    for at, check in enumerate(plan.whole.checks):
        for name, (window, capacity) in LIMITS.items():
            young = np.flatnonzero((times > check - window.seconds) & (times <= check))
            found, level = held(plan.whole, name, at)
            np.testing.assert_array_equal(kept[found], sampled(young, level))
            assert len(found) <= capacity
            assert (level == 0) == (len(young) <= capacity)
        assert plan.whole.received[at] == times[times <= check][-1]
    np.testing.assert_array_equal(plan.whole.times, times[plan.kept])


@settings(max_examples=200)
@given(times=seconds, ends=st.tuples(st.integers(1, 60), st.integers(0, 60)))
def test_what_the_baseline_was_fitted_to_is_in_no_window(
    times: Floats, ends: tuple[int, int]
) -> None:
    fitted = Fitted(ends[0], ends[0] + ends[1])
    plan = planned(times, check_times(times[0], times[-1], 1), fitted)
    kept = np.flatnonzero(plan.kept)
    for at, check in enumerate(plan.whole.checks):
        began = bool(((times >= fitted.oldest) & (times <= check)).any())
        for name, (window, _) in LIMITS.items():
            young = (times > check - window.seconds) & (times <= check)
            if began:
                young &= times > fitted.newest
            found, level = held(plan.whole, name, at)
            np.testing.assert_array_equal(kept[found], sampled(np.flatnonzero(young), level))


def test_a_baseline_spans_the_time_in_which_it_was_incomplete() -> None:
    checks = np.array([9.0, 10.0, 19.0, 20.0])
    np.testing.assert_array_equal(Fitted(10, 20).spans(checks), [False, True, True, False])


def test_a_sample_spreads_evenly_over_an_overfull_span() -> None:
    limits = {"slow": Limits(WindowSettings(seconds=100_000, min_vectors=2), 500)}
    times = np.arange(1.0, 50_001.0)
    checks = np.array([50_000.0])
    plan = Plan.of(times, checks, {"slow": np.ones(1, bool)}, limits, NOTHING_FITTED)
    found = np.flatnonzero(plan.kept)
    assert 350 < len(found) <= 500
    tenths = np.histogram(found, 10, (0, 50_000))[0] / (len(found) / 10)
    # As even as chance makes 40 vectors in each tenth.
    assert abs(tenths - 1).max() < 4 / 40**0.5


def test_vectors_that_no_window_holds_are_not_kept() -> None:
    times = np.repeat(np.arange(10.0, 50.0, 10.0), 5)
    plan = planned(times, np.array([20.0]))
    np.testing.assert_array_equal(np.flatnonzero(plan.kept), np.arange(10))


@settings(max_examples=100)
@given(seed=st.integers(0, 999), least=st.integers(1, 20), gaps=st.booleans(), bursts=st.booleans())
def test_runs_cover_all_check_times_and_hold_all_they_need(
    seed: int, least: int, gaps: bool, bursts: bool
) -> None:
    random = np.random.default_rng(seed)
    times = np.sort(random.uniform(0, 100_000, 3_000))
    if bursts:
        # Windows change their level, and back.
        times[1_000:1_040] = times[1_000]
        times[2_000:2_300] = np.linspace(times[2_000], times[2_000] + 30, 300)
        times.sort()
    checks = check_times(times[0], times[-1], 100)
    plan = planned(times, checks[random.random(len(checks)) < 0.3] if gaps else checks)
    runs = list(plan.runs(least))
    np.testing.assert_array_equal(np.concatenate([run.checks for run in runs]), plan.whole.checks)
    kept = np.flatnonzero(plan.kept)
    at = 0
    for run in runs:
        for here in range(len(run)):
            for name in LIMITS:
                found, level = held(run, name, here)
                whole, expected = held(plan.whole, name, at + here)
                assert level == expected
                np.testing.assert_array_equal(kept[run.vectors][found], kept[whole])
        np.testing.assert_array_equal(run.times, times[kept[run.vectors]])
        at += len(run)


def test_a_plan_and_its_runs_take_few_bytes_per_vector() -> None:
    """Busy days and quiet nights, so that windows are at many levels."""
    limits = {name: Limits.of(window, 5_000) for name, window in MonitoringSettings().windows}
    random = np.random.default_rng(0)
    drawn = np.sort(random.uniform(0, 20 * 86_400, 1_200_000))
    times = drawn[random.random(len(drawn)) < (1 + np.sin(drawn * 2 * np.pi / 86_400)) / 2]
    checks = check_times(times[0], times[-1], 300)
    wanted = dict.fromkeys(limits, np.ones(len(checks), bool))
    tracemalloc.start()
    try:
        plan = Plan.of(times, checks, wanted, limits, NOTHING_FITTED)
        assert len(plan.whole.samples) > 8
        assert sum(len(run) for run in plan.runs(8)) == len(checks)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak / len(times) < 50


def test_runs_share_the_work_evenly() -> None:
    times = np.sort(np.random.default_rng(0).uniform(0, 100_000, 3_000))
    plan = planned(times, check_times(times[0], times[-1], 100))
    assert [len(run) for run in plan.runs(1)] == [999]
    assert [len(run) for run in plan.runs(8)] == [125, 125, 125, 125, 125, 125, 125, 124]
    # Not into ever smaller ones.
    assert len(list(plan.runs(1_000))) == 15


def test_a_run_ends_where_a_restart_would_lose_much() -> None:
    limits = {"fast": Limits(WindowSettings(seconds=10, max_vectors=1_000_000), 1_000_000)}
    times = np.repeat(np.arange(10.0, 110.0, 10.0), 100_000)
    checks = np.arange(10.0, 110.0, 10.0)
    plan = Plan.of(times, checks, {"fast": np.ones(10, bool)}, limits, NOTHING_FITTED)
    assert [len(run) for run in plan.runs(1)] == [3, 2, 3, 2]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (1.0, 30.0, [10, 20, 30]),
        (10.0, 29.9, [10, 20]),
        (11.0, 19.0, []),
        (-15.0, 0.0, [-10, 0]),
    ],
)
def test_check_times_are_multiples_of_the_interval_between_the_first_and_the_last_vector(
    first: float, last: float, expected: list[float]
) -> None:
    np.testing.assert_array_equal(check_times(first, last, 10), expected)


def test_a_record_stands_for_the_check_time_that_ends_its_interval() -> None:
    found = recorded(np.array([10.0, 20.0, 30.0, 40.0]), np.array([10.0, 33.3, 20.001]), 10)
    np.testing.assert_array_equal(found, [True, False, True, True])
