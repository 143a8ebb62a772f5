"""Segments: summed in parts, in any order, they are the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.plan import Fitted, Limits, Plan, check_times
from exporter.quality import assess, norms
from exporter.score import Detector
from exporter.segments import Judge, Segment, measure_run
from ingest.runtime.settings import (
    WindowSettings,
)
from tests.exporter.lake import (
    Vectors,
)


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
    )


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(0, 400), max_size=12))
def test_parts_in_any_order_make_the_whole(
    seed: int, cuts: list[int], vectors: Vectors, judge: Judge
) -> None:
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(0, 2_000, 400)).astype(np.float64)
    # From a few, so that vectors come again.
    here = random.choice(vectors[1_000:1_150], 400)
    checks = check_times(times[0], times[-1], 50)
    wanted = dict.fromkeys(judge.limits, np.ones(len(checks), bool))
    plan = Plan.of(times, checks, wanted, judge.limits, Fitted(-2, -1))
    segments = plan.segments(400)
    parts = []
    for part in np.split(random.permutation(400), sorted(cuts)):
        numbers = np.unique(segments[part])
        chosen = [(int(n), here[part[segments[part] == n]]) for n in numbers[numbers >= 0]]
        parts.append([Segment(n, judge.detector.pack(v), float(norms(v).sum())) for n, v in chosen])
    found = measure_run(plan.whole, parts, judge)
    assert len(found) == 2 * len(checks)
    for check, row in found:
        window, capacity = judge.limits[row.window_name]
        young = np.flatnonzero((times > check - window.seconds) & (times <= check))[-capacity:]
        assert row.vectors == len(young)
        if row.state == "ok":
            middle = (times[young[0]] + times[young[-1]]) / 2
            score, components = judge.detector.scores(here[young], middle)
            assert row.score == pytest.approx(score, abs=1e-9)
            assert row.components == pytest.approx(components, abs=1e-9)
            assert row.magnitude == pytest.approx(judge.detector.magnitude(here[young]), abs=1e-9)
            assert row.norm == pytest.approx(assess(here[young]).norm, abs=1e-9)
