"""One line when drift of a window begins, and one when it ends."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.monitor.baseline import Baseline
from exporter.monitor.drifting import Drifting
from exporter.monitor.model import Model
from exporter.monitor.ring import Arrivals
from exporter.monitor.rise import Rise
from exporter.monitor.series import Series
from exporter.monitor.snapshot import ModelSnapshot
from exporter.monitor.states import UNMEASURED, State
from exporter.monitor.windows import ModelWindows
from exporter.stats.quality import Quality
from ingest.runtime.settings.settings import MonitoringSettings
from ingest.runtime.thresholds import DRAINED_SECONDS, HELD_SECONDS, KEPT_SECONDS, SCORE
from ingest.store.changes import ModelRow

CHECK = 300.0
SUDDEN, LASTING, _ = SCORE["provisional"]["fast"]
RISE = SCORE["weekly"]["slow"].rise
HIGH, BETWEEN = SUDDEN + 1, (SUDDEN + LASTING) / 2


QUALITY = Quality(norm=2.5, effective_rank=6.5, dead_dimensions=1, duplicate_ratio=0.25)


@pytest.fixture
def snapshot(vectors: NDArray[np.float32], detector: Detector) -> ModelSnapshot:
    """A snapshot of a model with a provisional baseline, and 100 vectors newer than it."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    settings = MonitoringSettings()
    model = Model(ModelRow("m", 8, 1_100, at, None, 1, at), settings)
    windows = ModelWindows(8, settings, detector)
    windows.append(Arrivals.numbered(vectors[1_000:1_100], np.full(100, at.timestamp())))
    model.adopt(Baseline(1, at, 0, at, at, False, "first 1000", QUALITY, detector), windows)
    return model.snapshot(at.timestamp())


def told(
    snapshot: ModelSnapshot,
    scores: Sequence[float],
    caplog: pytest.LogCaptureFixture,
    set_back_at: float = math.inf,
) -> list[tuple[str, dict[str, Any]]]:
    """What the log says of checks at which the fast window has these scores.

    From the check of a number on, the clock is a day behind.
    """
    drifting = Drifting()
    caplog.set_level(logging.INFO)
    fast, slow = snapshot.series
    measured = fast.verdict.measurement
    assert measured is not None
    still = replace(slow, verdict=replace(slow.verdict, measurement=None))
    for number, score in enumerate(scores):
        verdict = (
            replace(fast.verdict, state="stale", measurement=None)
            if math.isnan(score)
            else replace(fast.verdict, measurement=replace(measured, score=score))
        )
        series = (replace(fast, verdict=verdict), still)
        now = number * CHECK - (86_400 if number >= set_back_at else 0)
        drifting.notice(replace(snapshot, series=series, computed_at=now), 1)
        drifting.keep({"m"})
    fields = ("model_name", "window", "score", "threshold", "state", "highest_score", "seconds")
    return [
        (record.message, {key: vars(record)[key] for key in fields if key in vars(record)})
        for record in caplog.records
    ]


def test_a_sudden_drift_is_told_with_its_score_and_the_threshold_it_is_above(
    snapshot: ModelSnapshot, caplog: pytest.LogCaptureFixture
) -> None:
    began = {"model_name": "m", "window": "fast", "score": HIGH, "threshold": SUDDEN}
    assert told(snapshot, [0.0, HIGH, HIGH + 1], caplog) == [("drift began", began)]


def test_a_drift_that_lasts_is_told_with_its_average(
    snapshot: ModelSnapshot, caplog: pytest.LogCaptureFixture
) -> None:
    began = {"model_name": "m", "window": "fast", "score": BETWEEN, "threshold": LASTING}
    assert told(snapshot, [BETWEEN] * 12, caplog) == []
    assert told(snapshot, [BETWEEN] * 13, caplog) == [("drift began", began)]


def test_the_scores_of_a_quarter_of_each_hour_are_no_average_of_an_hour(
    snapshot: ModelSnapshot, caplog: pytest.LogCaptureFixture
) -> None:
    hour = [*[BETWEEN] * 3, *[math.nan] * 9]
    assert told(snapshot, hour * 4, caplog) == []
    assert len(told(snapshot, [*[BETWEEN] * 11, math.nan] * 2, caplog)) == 1


def test_its_end_is_told_when_it_was_not_seen_for_as_long_as_the_rules_wait(
    snapshot: ModelSnapshot, caplog: pytest.LogCaptureFixture
) -> None:
    quiet = int(KEPT_SECONDS / CHECK)
    assert len(told(snapshot, [HIGH, HIGH, *[0.5] * (quiet - 1)], caplog)) == 1
    caplog.clear()
    _, (message, fields) = told(snapshot, [HIGH, HIGH, *[0.5] * quiet], caplog)
    assert message == "drift ended"
    assert fields == {
        "model_name": "m",
        "window": "fast",
        "state": "ok",
        "score": 0.5,
        "highest_score": HIGH,
        "seconds": CHECK,
    }


def test_a_score_about_the_threshold_is_one_drift(
    snapshot: ModelSnapshot, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(told(snapshot, [HIGH, 0.0, 0.0] * 20, caplog)) == 1


def test_a_drift_that_is_not_measured_any_more_ends_with_its_state(
    snapshot: ModelSnapshot, caplog: pytest.LogCaptureFixture
) -> None:
    _, (message, fields) = told(snapshot, [HIGH, *[math.nan] * 4], caplog)
    assert (message, fields["state"], fields["score"]) == ("drift ended", "stale", None)


FEW: State = "too_few_vectors"


def unmeasured(snapshot: ModelSnapshot, at: float, state: State = FEW) -> ModelSnapshot:
    """A snapshot of the fast window alone, in a state without a score."""
    fast, _ = snapshot.series
    series = (replace(fast, verdict=replace(fast.verdict, state=state, measurement=None)),)
    return replace(snapshot, series=series, computed_at=at)


@pytest.mark.parametrize("state", sorted(UNMEASURED))
def test_a_drift_goes_on_while_its_window_is_not_measured(
    snapshot: ModelSnapshot, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    drifting = Drifting()
    drifting.notice(with_score(snapshot, HIGH), 1)
    for number in range(1, 40):
        drifting.notice(unmeasured(snapshot, number * CHECK, state), 1)
        [drift] = drifting.now.values()
        assert (drift.began_at, drift.seen_at) == (0.0, number * CHECK)
    drifting.notice(with_score(snapshot, HIGH, 40 * CHECK), 1)
    assert caplog.messages == ["drift began"]
    drifting.notice(unmeasured(snapshot, 41 * CHECK, state), 1)
    drifting.notice(unmeasured(snapshot, 41 * CHECK + KEPT_SECONDS, "stale"), 1)
    assert not drifting.now


def test_a_drift_goes_on_for_a_day_without_a_measurement_at_most(snapshot: ModelSnapshot) -> None:
    drifting = Drifting()
    drifting.notice(with_score(snapshot, HIGH), 1)
    drifting.notice(unmeasured(snapshot, 0.5 * HELD_SECONDS), 1)
    drifting.notice(unmeasured(snapshot, HELD_SECONDS), 1)
    drifting.notice(unmeasured(snapshot, HELD_SECONDS + KEPT_SECONDS - 1), 1)
    assert len(drifting.now) == 1
    drifting.notice(unmeasured(snapshot, HELD_SECONDS + KEPT_SECONDS), 1)
    assert not drifting.now


def test_a_drift_that_was_not_seen_last_ends_although_its_window_is_not_measured(
    snapshot: ModelSnapshot,
) -> None:
    drifting = Drifting()
    drifting.notice(with_score(snapshot, HIGH), 1)
    for number in range(1, 3):
        drifting.notice(with_score(snapshot, 0.0, number * CHECK), 1)
    drifting.notice(unmeasured(snapshot, DRAINED_SECONDS + 1), 1)
    assert len(drifting.now) == 1
    drifting.notice(unmeasured(snapshot, KEPT_SECONDS), 1)
    assert not drifting.now


def test_a_drift_goes_on_although_the_last_vectors_of_the_window_did_not_show_it(
    snapshot: ModelSnapshot,
) -> None:
    drifting = Drifting()
    drifting.notice(with_score(snapshot, HIGH), 1)
    drifting.notice(with_score(snapshot, 0.0, CHECK), 1)
    for number in range(2, 40):
        drifting.notice(unmeasured(snapshot, number * CHECK), 1)
    assert len(drifting.now) == 1
    # Held once, it is not held again by the same sight.
    drifting.notice(with_score(snapshot, 0.0, 40 * CHECK), 1)
    drifting.notice(unmeasured(snapshot, 41 * CHECK), 1)
    drifting.notice(unmeasured(snapshot, 39 * CHECK + KEPT_SECONDS), 1)
    assert not drifting.now


def test_a_drift_that_is_seen_again_goes_on_again(snapshot: ModelSnapshot) -> None:
    drifting = Drifting()
    drifting.notice(with_score(snapshot, HIGH), 1)
    drifting.notice(with_score(snapshot, 0.0, CHECK), 1)
    drifting.notice(with_score(snapshot, HIGH, 2 * CHECK), 1)
    drifting.notice(unmeasured(snapshot, 2 * CHECK + KEPT_SECONDS), 1)
    assert len(drifting.now) == 1


def test_against_another_baseline_no_drift_goes_on(snapshot: ModelSnapshot) -> None:
    drifting = Drifting()
    drifting.notice(with_score(snapshot, HIGH), 1)
    drifting.notice(unmeasured(pinned_again(snapshot, 2), CHECK), 1)
    assert not drifting.now


def test_scores_that_are_missing_while_a_drift_goes_on_count_as_0(snapshot: ModelSnapshot) -> None:
    drifting = Drifting()
    drifting.notice(with_score(snapshot, HIGH), 1)
    for number in range(1, 11):
        drifting.notice(unmeasured(snapshot, number * CHECK), 1)
    for number in range(11, 13):
        drifting.notice(with_score(snapshot, BETWEEN, number * CHECK), 1)
    [drift] = drifting.now.values()
    assert (drift.measured_at, drift.lasts) == (0.0, False)


def test_the_drift_of_a_slice_goes_on_while_its_window_is_not_measured(
    snapshot: ModelSnapshot,
) -> None:
    drifting = Drifting()
    drifting.notice(of_slice(snapshot, HIGH, 0.0), 2)
    # The examination of the slices may stop, too.
    for number in range(1, 10):
        drifting.notice(unmeasured(snapshot, number * CHECK), 1)
    assert list(drifting.now) == [("m", "fast", "tenant=acme")]
    drifting.notice(with_score(snapshot, 0.0, 9 * CHECK + KEPT_SECONDS), 1)
    assert not drifting.now


def test_against_another_baseline_no_drift_of_a_slice_goes_on(snapshot: ModelSnapshot) -> None:
    drifting = Drifting()
    drifting.notice(of_slice(snapshot, HIGH, 0.0), 2)
    drifting.notice(unmeasured(pinned_again(snapshot, 2), KEPT_SECONDS), 1)
    assert not drifting.now


def test_a_drift_ends_though_the_clock_was_set_back(
    snapshot: ModelSnapshot, caplog: pytest.LogCaptureFixture
) -> None:
    quiet = int(KEPT_SECONDS / CHECK)
    began, ended = told(snapshot, [HIGH, HIGH, *[0.5] * (quiet + 1)], caplog, set_back_at=2)
    assert (began[0], ended[0]) == ("drift began", "drift ended")
    assert ended[1]["seconds"] == 0


def test_an_hour_begins_anew_when_the_clock_was_set_back(
    snapshot: ModelSnapshot, caplog: pytest.LogCaptureFixture
) -> None:
    assert told(snapshot, [0.0, *[BETWEEN] * 12], caplog, set_back_at=1) == []
    [(message, _)] = told(snapshot, [0.0, *[BETWEEN] * 13], caplog, set_back_at=1)
    assert message == "drift began"


def test_scores_against_another_baseline_do_not_count(
    snapshot: ModelSnapshot, caplog: pytest.LogCaptureFixture
) -> None:
    drifting = Drifting()
    fast, _ = snapshot.series
    assert fast.verdict.measurement is not None
    measured = replace(fast.verdict.measurement, score=BETWEEN)
    series = (replace(fast, verdict=replace(fast.verdict, measurement=measured)),)
    for number in range(20):
        of_another = number >= 10
        found = pinned_again(snapshot, 2) if of_another else snapshot
        drifting.notice(replace(found, series=series, computed_at=number * CHECK), 1)
    assert caplog.messages == []


def pinned_again(snapshot: ModelSnapshot, version: int) -> ModelSnapshot:
    """A snapshot against a baseline that was pinned a minute later."""
    assert snapshot.baseline is not None
    later = snapshot.baseline.pinned_at + timedelta(minutes=1)
    return replace(snapshot, baseline=replace(snapshot.baseline, version=version, pinned_at=later))


def with_score(snapshot: ModelSnapshot, score: float, at: float = 0.0) -> ModelSnapshot:
    """A snapshot of the fast window alone, with this score."""
    fast, _ = snapshot.series
    assert fast.verdict.measurement is not None
    measured = replace(fast.verdict.measurement, score=score)
    series = (replace(fast, verdict=replace(fast.verdict, measurement=measured)),)
    return replace(snapshot, series=series, computed_at=at)


def test_thresholds_grow_with_the_fleet_as_in_the_rules(snapshot: ModelSnapshot) -> None:
    alone, many = Drifting(), Drifting()
    high = with_score(snapshot, HIGH)
    assert alone.is_news(high, 1)
    assert not many.is_news(high, 100)
    alone.notice(high, 1)
    many.notice(high, 100)
    assert len(alone.now) == 1
    assert not alone.is_news(high, 1)
    assert not many.now


def test_drift_against_another_baseline_is_another_one(snapshot: ModelSnapshot) -> None:
    drifting = Drifting()
    drifting.notice(with_score(snapshot, HIGH, 0.0), 1)
    drifting.notice(with_score(pinned_again(snapshot, 2), HIGH, CHECK), 1)
    [drift] = drifting.now.values()
    assert (drift.began_at, drift.baseline_version) == (CHECK, 2)


def test_drift_of_another_model_of_the_same_name_is_another_one(snapshot: ModelSnapshot) -> None:
    drifting = Drifting()
    drifting.notice(with_score(snapshot, HIGH, 0.0), 1)
    # Removed, made again, and pinned again: its baseline has the same version.
    drifting.notice(with_score(pinned_again(snapshot, 1), HIGH, CHECK), 1)
    [drift] = drifting.now.values()
    assert drift.began_at == CHECK


def test_a_model_that_was_made_again_does_not_drift_before_it_has_a_baseline(
    snapshot: ModelSnapshot,
) -> None:
    drifting = Drifting()
    drifting.notice(with_score(snapshot, HIGH, 0.0), 1)
    drifting.notice(replace(snapshot, baseline=None, computed_at=CHECK), 1)
    assert not drifting.now
    drifting.notice(with_score(snapshot, 0.0, 2 * CHECK), 1)
    assert not drifting.now


def test_an_average_of_an_hour_that_was_high_does_not_outlast_the_drift(
    snapshot: ModelSnapshot,
) -> None:
    drifting = Drifting()
    for number in range(13):
        drifting.notice(with_score(snapshot, 10 * HIGH, number * CHECK), 1)
    for number in range(13, 16):
        drifting.notice(with_score(snapshot, 0.0, number * CHECK), 1)
    assert not drifting.now


@pytest.fixture
def weekly(snapshot: ModelSnapshot, vectors: NDArray[np.float32]) -> ModelSnapshot:
    """The same against a baseline that has seen a week."""
    times = np.linspace(0, 8 * 86_400, 1_000)
    detector = Detector.fit(vectors[:1_000], timestamps=times)
    assert snapshot.baseline is not None
    return replace(snapshot, baseline=replace(snapshot.baseline, detector=detector))


def with_rise(weekly: ModelSnapshot, score: float, rise: float, at: float) -> ModelSnapshot:
    """A snapshot of the slow window alone, with a score and a rise."""
    found = with_score(weekly, score, at)
    [each] = found.series
    findings = replace(each.findings, rise=Rise({"": rise}, at))
    slow = replace(each, series=Series("m", "slow"), findings=findings)
    return replace(found, series=(slow,))


@pytest.mark.parametrize(("rise", "drifts"), [(RISE + 0.1, True), (RISE - 0.1, False)])
def test_scores_that_are_higher_than_a_week_before_are_drift(
    weekly: ModelSnapshot, rise: float, drifts: bool
) -> None:
    drifting = Drifting()
    found = with_rise(weekly, 1.5, rise, 0.0)
    assert drifting.is_news(found, 1) is drifts
    assert not drifting.is_news(found, 1_000)
    drifting.notice(found, 1)
    assert (list(drifting.now) == [("m", "slow", "")]) is drifts


def test_a_rise_is_told_with_its_threshold_and_is_no_news_twice(
    weekly: ModelSnapshot, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    drifting = Drifting()
    for number in range(4):
        drifting.notice(with_rise(weekly, 1.5 + number, 1.4, number * CHECK), 1)
        assert not drifting.is_news(with_rise(weekly, 1.5, 1.4, number * CHECK), 1)
    [drift] = drifting.now.values()
    assert (drift.began_at, drift.seen_at, drift.highest) == (0.0, 3 * CHECK, 4.5)
    for number in range(4, 8):
        drifting.notice(with_rise(weekly, 1.5, 1.2, number * CHECK), 1)
    assert not drifting.now
    began, ended = caplog.records
    assert (vars(began)["rise"], vars(began)["threshold"]) == (1.4, RISE)
    assert "score" not in vars(began)
    assert ended.message == "drift ended"


def test_the_wait_is_that_of_the_rules() -> None:
    text = files("rules").joinpath("drift.rules.yaml").read_text()
    rules = yaml.safe_load(text)["groups"][0]["rules"]
    [kept] = [
        rule["keep_firing_for"] for rule in rules if rule.get("alert") == "EmbeddingDriftDetected"
    ]
    assert kept == f"{KEPT_SECONDS // 60}m"


def test_it_goes_on_in_the_states_of_the_rules() -> None:
    text = files("rules").joinpath("drift.rules.yaml").read_text()
    [states] = re.findall(r'max_over_time\(embedding_drift_state\{state=~"([^"]+)"', text)
    assert set(states.split("|")) == UNMEASURED
    assert f'score:max{{slice=""}}[{HELD_SECONDS // 3_600}h]' in text
    assert f"embedding_drift_detected_score:max[{DRAINED_SECONDS // 60}m]" in text


def of_slice(snapshot: ModelSnapshot, score: float, at: float) -> ModelSnapshot:
    """A snapshot of a model whose fast window is quiet, but one tenant has this score."""
    quiet = with_score(snapshot, 0.0, at)
    acme = with_score(snapshot, score, at).series[0]
    acme = replace(acme, series=Series("m", "fast", "tenant=acme"))
    return replace(quiet, slices=(acme,))


def test_a_slice_drifts_by_itself_and_the_log_names_it(
    snapshot: ModelSnapshot, caplog: pytest.LogCaptureFixture
) -> None:
    drifting = Drifting()
    assert drifting.is_news(of_slice(snapshot, HIGH, 0.0), 2)
    drifting.notice(of_slice(snapshot, HIGH, 0.0), 2)
    assert list(drifting.now) == [("m", "fast", "tenant=acme")]
    [record] = caplog.records
    assert vars(record)["slice"] == "tenant=acme"
    assert not drifting.is_news(of_slice(snapshot, HIGH, CHECK), 2)


def test_the_scores_of_a_slice_that_went_are_forgotten(snapshot: ModelSnapshot) -> None:
    drifting = Drifting()
    for number in range(12):
        drifting.notice(of_slice(snapshot, BETWEEN, number * CHECK), 1)
    drifting.notice(with_score(snapshot, 0.0, 12 * CHECK), 1)
    drifting.notice(of_slice(snapshot, BETWEEN, 13 * CHECK), 1)
    assert not drifting.now


def test_the_drift_of_a_slice_that_is_not_measured_any_more_ends(snapshot: ModelSnapshot) -> None:
    drifting = Drifting()
    drifting.notice(of_slice(snapshot, HIGH, 0.0), 2)
    drifting.notice(with_score(snapshot, 0.0, KEPT_SECONDS - 1), 1)
    assert len(drifting.now) == 1
    drifting.notice(with_score(snapshot, 0.0, KEPT_SECONDS), 1)
    assert len(drifting.now) == 0
