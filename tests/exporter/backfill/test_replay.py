"""Segments: what passes through a run's windows, in time, in the exporter's numbers."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.backfill.plan import Fitted, Plan, check_times
from exporter.backfill.replay import Judge, measure_run
from exporter.detector.detector import Detector
from exporter.detector.sums import Part
from exporter.monitor.windows import Limits
from exporter.stats.quality import assess
from ingest.runtime.settings.settings import WindowSettings
from tests.exporter.backfill.lake import Vectors, held


@pytest.fixture(scope="module")
def judge(detector: Detector) -> Judge:
    return Judge(
        "m",
        1,
        detector,
        {
            "fast": Limits(WindowSettings(seconds=60, min_vectors=2), 40),
            "slow": Limits(WindowSettings(seconds=600, min_vectors=2), 150),
        },
        3_600,
        True,
    )


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(0, 400), max_size=12),
    least=st.integers(1, 9),
)
def test_windows_are_the_same_whichever_way_their_vectors_come(
    seed: int, cuts: list[int], least: int, vectors: Vectors, judge: Judge
) -> None:
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(0, 2_000, 400)).astype(np.float64)
    # From a few, so that vectors come again.
    here = random.choice(vectors[1_000:1_150], 400)
    # Two vectors come between two checks, on average, and sometimes none.
    checks = check_times(times[0], times[-1], 10)
    wanted = dict.fromkeys(judge.limits, np.ones(len(checks), bool))
    plan = Plan.of(times, checks, wanted, judge.limits, Fitted(-2, -1))
    kept = here[plan.kept]
    found = []
    for run in plan.runs(least):
        found += measure_run(run, iter(np.split(kept[run.vectors], sorted(cuts))), judge)
    assert len(found) == 2 * len(checks)
    for at, (check, row) in enumerate(found):
        window, capacity = judge.limits[row.window_name]
        members, level = held(plan.whole, row.window_name, at // 2)
        young = np.flatnonzero(plan.kept)[members]
        if level == 0:
            span = np.flatnonzero((times > check - window.seconds) & (times <= check))
            np.testing.assert_array_equal(young, span)
        assert row.vectors == len(young) <= capacity
        if row.state == "ok":
            recount = judge.detector.sums(here[young], times[young])
            score, components = judge.detector.scores(recount)
            assert row.score == pytest.approx(score, abs=1e-9)
            assert row.components == pytest.approx(components, abs=1e-9)
            assert row.norm == pytest.approx(assess(here[young]).norm, abs=1e-9)


def test_windows_are_measured_in_the_time_zone_of_the_baseline(
    vectors: Vectors, judge: Judge
) -> None:
    detector = Detector.fit(vectors[:1_000], timestamps=691.0 * np.arange(1_000))
    there = replace(judge, detector=detector, zone=ZoneInfo("Asia/Kolkata"))
    times, here = np.arange(300.0), vectors[1_000:1_300] + np.float32(0.5)
    checks = np.array([250.0])
    wanted = dict.fromkeys(judge.limits, np.ones(1, bool))
    plan = Plan.of(times, checks, wanted, judge.limits, Fitted(-2, -1))
    found = measure_run(plan.whole, iter([here[plan.kept]]), there)
    scores = {row.window_name: row.score for _, row in found}
    members, _ = held(plan.whole, "fast", 0)
    young = np.flatnonzero(plan.kept)[members]
    local = detector.sums(here[young], times[young] + 19_800)
    assert scores["fast"] == pytest.approx(detector.score(local))
    assert scores["fast"] != pytest.approx(detector.score(detector.sums(here[young], times[young])))


def test_only_windows_that_are_wanted_say_something(vectors: Vectors, judge: Judge) -> None:
    times = np.arange(1_000.0)
    checks = check_times(times[0], times[-1], 50)
    wanted = {"fast": checks > 500, "slow": checks <= 500}
    plan = Plan.of(times, checks, wanted, judge.limits, Fitted(-2, -1))
    kept = vectors[1_000:2_000][plan.kept]
    found = measure_run(plan.whole, iter([kept]), judge)
    assert [(check, row.window_name) for check, row in found] == [
        (check, "slow" if check <= 500 else "fast") for check in checks
    ]
    assert {row.state for _, row in found[1:]} == {"ok"}


def most_parts(count: int, vectors: Vectors, judge: Judge) -> int:
    """Return how many parts are held, at most, by a run of five vectors for each check time."""
    times = np.arange(float(count))
    checks = times[::5]
    wanted = dict.fromkeys(judge.limits, np.ones(len(checks), bool))
    plan = Plan.of(times, checks, wanted, judge.limits, Fitted(-2, -1))
    kept = vectors[np.flatnonzero(plan.kept) % len(vectors)]
    held = []

    def batches() -> Iterator[Vectors]:
        for first in range(0, len(kept), 100):
            held.append(sum(isinstance(each, Part) for each in gc.get_objects()))
            yield kept[first : first + 100]

    assert len(measure_run(plan.whole, batches(), judge)) == 2 * len(checks)
    return max(held)


def test_a_run_forgets_what_its_windows_have_passed(vectors: Vectors, judge: Judge) -> None:
    assert 100 < most_parts(5_000, vectors, judge) < 1.2 * most_parts(2_000, vectors, judge)
