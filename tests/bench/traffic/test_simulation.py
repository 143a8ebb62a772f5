"""The simulation drives the production objects: baseline, windows, states, scores, pages."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import as_file
from pathlib import Path

import numpy as np
import pytest

from bench.traffic import simulation
from bench.traffic.__main__ import DEMO
from bench.traffic.arrivals import Arrivals
from bench.traffic.drifts import DRIFTS
from bench.traffic.simulation import Outcome, Stream, simulate
from bench.traffic.source import Source
from exporter.detector import Detector
from ingest.runtime import thresholds
from ingest.runtime.settings.settings import BaselineSettings, MonitoringSettings, Settings
from ingest.runtime.thresholds import Stage
from ingest.store.changes import is_sampled

SETTINGS = Settings(monitoring=MonitoringSettings(baseline=BaselineSettings(vectors=1_000)))
START = 1_000_000 * 60.0


def minute(source: Source, number: int, count: int = 17) -> Arrivals:
    random = np.random.default_rng(number)
    rows = random.integers(len(source.vectors), size=count)
    times = START + 60 * (number + (1 + np.arange(count)) / (count + 1))
    return Arrivals(times, source.fresh(rows, random), source.topic[rows])


def fed(source: Source, minutes: int) -> Stream:
    stream = Stream(SETTINGS, 16, START)
    for number in range(minutes):
        stream.step(minute(source, number), START + 60 * (number + 1))
    return stream


def test_the_first_vectors_become_the_baseline_and_later_ones_are_measured(source: Source) -> None:
    assert fed(source, 58).stage is None
    stream = fed(source, 59)
    assert stream.stage == "provisional"
    assert stream.scores == {"fast": None, "slow": None}  # 3 vectors after the baseline
    stream = fed(source, 70)
    vectors = np.concatenate([minute(source, number).vectors for number in range(70)])
    judge = Detector.fit(vectors[:1_000])
    expected = judge.score(vectors[1_000:])
    assert stream.scores == {"fast": pytest.approx(expected), "slow": pytest.approx(expected)}


def test_after_a_week_fewer_vectors_become_the_baseline_if_they_fill_it(source: Source) -> None:
    week = 7 * 1_440

    def stages(minutes: range) -> list[Stage | None]:
        stream, seen = Stream(SETTINGS, 16, START), []
        for number in range(week + 120):
            count = 1 if number in minutes else 0
            stream.step(minute(source, number, count), START + 60 * (number + 1))
            seen.append(stream.stage)
        return seen

    all_week = stages(range(0, week, 20))
    assert week - 2 <= all_week.index("weekly") < week + 60
    assert set(all_week) == {None, "weekly"}
    # All of them in a few hours show no week.
    assert set(stages(range(300))) == {None}


def test_a_window_loses_what_is_too_old_and_samples_what_is_too_much(source: Source) -> None:
    stream = fed(source, 90)
    vectors = np.concatenate([minute(source, number).vectors for number in range(90)])
    judge = Detector.fit(vectors[:1_000])
    assert stream.scores["fast"] == pytest.approx(judge.score(vectors[-255:]))
    # 530 are more than half of the baseline.
    newer = np.arange(1_001, 1_531)
    slow = vectors[newer[is_sampled(newer, 1)] - 1]
    assert stream.scores["slow"] == pytest.approx(judge.score(slow))
    quiet = minute(source, 90, count=0)
    for number in range(90, 100):
        stream.step(quiet, START + 60 * (number + 1))
    assert stream.scores["fast"] == pytest.approx(judge.score(vectors[-85:]))
    for number in range(100, 149):
        stream.step(quiet, START + 60 * (number + 1))
    assert stream.scores == {"fast": None, "slow": pytest.approx(judge.score(slow))}
    for number in range(149, 151):
        stream.step(quiet, START + 60 * (number + 1))
    assert stream.scores == {"fast": None, "slow": None}  # stale after an hour


def test_a_drift_is_paged_and_a_fork_leaves_the_original_as_it_was(source: Source) -> None:
    stream = fed(source, 100)
    before = dict(stream.scores)
    other = stream.fork(START + 6_000)
    for number in range(100, 110):
        arrivals = minute(source, number)
        other.step(replace_vectors(arrivals, 1.5), START + 60 * (number + 1))
    assert set(other.pager.firing) == {"fast", "slow"}
    assert stream.pager.firing == ()
    assert stream.scores == before
    # The original got nothing for more than an hour, whatever the other got.
    stream.step(minute(source, 160, count=0), START + 60 * 165)
    assert stream.scores == {"fast": None, "slow": None}


def test_a_stream_is_paged_in_the_minutes_in_which_prometheus_fires(
    source: Source, promtool_agrees: Callable[..., None]
) -> None:
    stream = Stream(SETTINGS, 16, START)
    scores: dict[str, list[float | None]] = {"fast": [], "slow": []}
    fired = []
    stages: list[str | None] = []
    for number in range(240):
        arrivals = minute(source, number, count=17 * (number < 215))
        drifted = replace_vectors(arrivals, 1.0 + 0.2 * (100 <= number < 130))
        stream.step(drifted, START + 60 * (number + 1))
        for name, score in stream.scores.items():
            scores[name].append(score)
        fired.append(stream.pager.firing)
        stages.append(stream.stage)
    assert {(), ("fast", "slow")} <= set(fired)
    promtool_agrees(scores, fired, stages)


def test_a_fork_goes_on_as_the_original_does(source: Source) -> None:
    # Its windows hold everything, so that it makes no difference when they are read.
    stream = fed(source, 80)
    other = stream.fork(START + 4_800)
    for number in range(80, 83):
        for each in (stream, other):
            each.step(minute(source, number), START + 60 * (number + 1))
        assert other.scores == pytest.approx(stream.scores)


def replace_vectors(arrivals: Arrivals, factor: float) -> Arrivals:
    return arrivals._replace(vectors=arrivals.vectors * np.float32(factor))


def test_a_baseline_matures_after_a_day_and_after_a_week(source: Source) -> None:
    stream, stages = Stream(SETTINGS, 16, START), []
    for number in range(0, 8 * 1_440, 10):
        stream.step(minute(source, number, count=10), START + 60 * (number + 10))
        stages.append(stream.stage)
    changes = {stage: stages.index(stage) / 144 for stage in ("provisional", "daily", "weekly")}
    assert changes == {
        "provisional": pytest.approx(0.7, abs=0.02),
        "daily": pytest.approx(1, abs=0.02),
        "weekly": pytest.approx(7, abs=0.02),
    }


def test_a_drift_that_lasts_never_becomes_normal(source: Source) -> None:
    stream = Stream(SETTINGS, 16, START)
    for number in range(0, 4 * 1_440, 10):
        arrivals = minute(source, number, count=10)
        drifted = replace_vectors(arrivals, 1.0 + 0.5 * (number > 1_200))
        stream.step(drifted, START + 60 * (number + 10))
    assert stream.stage == "provisional"


@pytest.fixture(scope="module")
def slow(source: Source) -> Outcome:
    """A week at one vector a minute, with one onset of each drift."""
    return simulate(source, "seasonal-1", 7, 0, 0, SETTINGS)


@pytest.mark.xdist_group("slow")
def test_the_same_seed_and_number_give_the_same_outcome(source: Source, slow: Outcome) -> None:
    again = simulate(source, "seasonal-1", 7, 0, 0, SETTINGS)
    assert replace(again, cpu_seconds=0) == replace(slow, cpu_seconds=0)


@pytest.mark.xdist_group("slow")
def test_each_drift_is_injected_once_in_three_days_from_day_four_on(slow: Outcome) -> None:
    assert {kind: len(delays) for kind, delays in slow.delays.items()} == dict.fromkeys(DRIFTS, 1)
    found = {kind: delays[0] for kind, delays in slow.delays.items()}
    # A rotation shows in less than half of the slow window, which has 360 vectors.
    assert found["rotation"] is not None
    assert found["rotation"] < 180
    assert all(each is None or 1 <= each <= 1_440 for each in found.values())


def test_a_rate_in_place_of_that_of_the_regime_may_be_too_low_for_a_baseline(
    source: Source,
) -> None:
    found = simulate(source, "seasonal-1", 7, 0, 0, SETTINGS, per_minute=0.01)
    assert found.delays == {kind: [] for kind in DRIFTS}  # and none is injected before it


@pytest.mark.parametrize("regime", ["independent", "retries"])
def test_pages_are_in_order_and_within_the_days(regime: str, source: Source) -> None:
    found = simulate(source, regime, 1, 0, 0, SETTINGS)
    times = [time for page in found.pages for time in page]
    assert times == sorted(times)
    assert all(0 < time <= 1 for time in times)
    assert all(delays == [] for delays in found.delays.values())


@pytest.fixture(scope="module")
def sentences() -> Source:
    """Those of the demo, by the defaults of `python -m bench.traffic`."""
    with as_file(DEMO) as demo:
        return Source.load(str(demo))


@pytest.mark.parametrize("regime", ["one-user", "eight-users", "reindex", "popular", "retries"])
def test_usual_traffic_pages_nobody_on_its_first_day(
    regime: str, sentences: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even by lower thresholds, which are those of later days for single scores."""
    sudden = thresholds.SCORE["weekly"]["fast"].sudden
    for stage in ("provisional", "daily"):
        limits = {window: thresholds.Thresholds(sudden, 3.5) for window in ("fast", "slow")}
        monkeypatch.setitem(thresholds.SCORE, stage, limits)
    assert simulate(sentences, regime, 1, 0, 0, Settings()).pages == []


def test_topics_that_follow_the_day_page_nobody_in_a_week_and_drift_does(
    sentences: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ("rotation", "scale 1.05", "topic 25 %")
    monkeypatch.setattr(simulation, "DRIFTS", {kind: DRIFTS[kind] for kind in kinds})
    found = simulate(sentences, "seasonal-17", 7, 0, 0, Settings())
    assert found.pages == []
    delays = {kind: delay for kind, [delay] in found.delays.items()}
    assert delays["rotation"] is not None
    assert delays["rotation"] < 10
    assert all(delays[kind] is not None for kind in kinds)


def test_the_command_prints_tables_and_writes_a_file(source: Source, tmp_path: Path) -> None:
    data, written = tmp_path / "data.npz", tmp_path / "numbers.json"
    np.savez(data, embedding=source.vectors, topic=source.topic)
    command = [sys.executable, "-m", "bench.traffic", str(data), "--days", "1", "--streams", "2"]
    command += ["--regime", "seasonal-1", "--seed", "3", "--rate", "2", "--json", str(written)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "False pages of a model in 1 days, 2 streams of each regime" in answer.stdout
    assert answer.stdout.count("seasonal-1") == 2
    numbers = json.loads(written.read_text())
    assert numbers["seasonal-1"]["streams"] == 2
    assert [each["days"] for each in numbers["seasonal-1"]["each"]] == [1, 1]
