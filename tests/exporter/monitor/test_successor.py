"""A successor is judged before it is used: over a drift it is refused, over a season it is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from unittest.mock import ANY

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.monitor.baseline import Baseline, Fit, fit
from exporter.monitor.maturing import Maturing, Score, Wait
from exporter.monitor.successor import RETRY_SECONDS, succeed, suggest
from exporter.stats.arrays import Floats, Vectors
from ingest.runtime.errors import FitFailed
from ingest.runtime.settings.settings import (
    BaselineSettings,
    MonitoringSettings,
    WindowSettings,
    WindowsSettings,
)
from ingest.store import copy
from ingest.store.explanations import LastSeen
from ingest.store.history import Average

HOUR = 3_600.0
DAY = 24 * HOUR
START = 1_800_000_000.0
SETTINGS = MonitoringSettings(baseline=BaselineSettings(vectors=400, mature_vectors=1_000))

Change = Callable[[Vectors, Floats], Vectors]
"""Of vectors that arrived at hours after the start."""


def usual(vectors: Vectors, hours: Floats) -> Vectors:
    """Change nothing."""
    return vectors


def season(vectors: Vectors, hours: Floats) -> Vectors:
    """Move all vectors by a standard deviation with the hour of the day."""
    moved = vectors.copy()
    moved[:, 0] += 2 * np.cos(2 * np.pi * hours / 24)
    return moved


def between(first: float, last: float) -> Change:
    """Move all vectors by two standard deviations between two hours."""

    def change(vectors: Vectors, hours: Floats) -> Vectors:
        inside = (first <= hours) & (hours < last)
        return vectors + 4 * inside.astype(np.float32)[:, None]

    return change


class Stream:
    """A model with 100 vectors an hour, whose first 400 are its baseline."""

    model_name = "m"

    def __init__(self, hours: float, *changes: Change) -> None:
        random = np.random.default_rng(0)
        count = round(100 * hours)
        vectors = (random.normal(size=(count, 8)) @ random.normal(size=(8, 8)) + 1).astype("f4")
        passed = np.arange(count) / 100
        for change in changes:
            vectors = change(vectors, passed).astype(np.float32)
        self.rows = np.empty(count, copy.row_type(8))
        self.rows["seq"] = 1 + np.arange(count)
        self.rows["received_at"] = START + HOUR * passed
        self.rows["embedding"] = vectors
        self.now = START + HOUR * hours
        self.seen = LastSeen(-math.inf, -math.inf)
        self.averaged: Average | None = Average(1.01, 84)
        self.pinned_at = datetime.fromtimestamp(START + 7 * DAY, UTC)
        self.recorded = [
            Score("slow", float(time), 0.0, "provisional")
            for time in np.arange(START + 5 * HOUR, self.now, 300)
        ]

    def scores(self, since: float) -> Sequence[Score]:
        return [score for score in self.recorded if score.time >= since]

    def drift_seen(self) -> LastSeen:
        return self.seen

    def vectors(self, start: float, end: float, most: int) -> NDArray[np.void]:
        times = self.rows["received_at"]
        found = self.rows[(times >= start) & (times < end)]
        return found[:: max(-(-len(found) // most), 1)]

    def reference(self) -> NDArray[np.void]:
        return self.rows[:400]

    def next(
        self,
        current: Mapping[str, float] = MappingProxyType({}),
        settings: MonitoringSettings = SETTINGS,
    ) -> tuple[Maturing | None, Fit | None]:
        rows = self.reference()
        first, last = (datetime.fromtimestamp(at, UTC) for at in rows["received_at"][[0, -1]])
        made = fit("m", rows, "first", settings.zone)
        found = Baseline(1, last, 400, first, last, True, "first", made.quality, made.detector)
        return succeed(found, self, current, settings, self.now)

    def average(self, since: float) -> Average | None:
        assert since == self.now - 7 * DAY
        return self.averaged

    def suggested(self, current: Mapping[str, float] = MappingProxyType({})) -> Maturing | None:
        rows = self.rows[:16_800]
        first, last = (datetime.fromtimestamp(at, UTC) for at in rows["received_at"][[0, -1]])
        made = fit("m", rows[::10], "a week", SETTINGS.zone)
        found = Baseline(
            3, self.pinned_at, 16_800, first, last, True, "", made.quality, made.detector
        )
        return suggest(found, self, current, self.now)

    def waits_for(self, current: Mapping[str, float] = MappingProxyType({})) -> Wait | None:
        planned, successor = self.next(current)
        assert planned is not None
        assert (successor is None) == (planned.waits_for is not None)
        return planned.waits_for


def always_high(stream: Stream) -> Stream:
    stream.recorded = [score._replace(value=50.0) for score in stream.recorded]
    return stream


def test_a_day_without_drift_becomes_the_next_baseline() -> None:
    stream = Stream(30)
    planned, successor = stream.next()
    assert planned == Maturing("daily", START + DAY, None)
    assert successor is not None
    assert successor.source == "from 2027-01-15 14:00:00 UTC to 2027-01-16 13:58:12 UTC"
    assert successor.detector.seasons == ("daily",)
    assert successor.rows["received_at"].min() == pytest.approx(stream.now - DAY, abs=300)


@pytest.mark.parametrize("period", [2, 4])
def test_kinds_of_vectors_that_take_turns_are_not_unlike_each_other(period: int) -> None:
    def in_turns(vectors: Vectors, hours: Floats) -> Vectors:
        changed = vectors.copy()
        changed[::period] += 4
        return changed

    assert Stream(30, in_turns).waits_for() is None


def test_all_vectors_of_the_day_tell_which_means_to_expect() -> None:
    stream = Stream(30)
    _, successor = stream.next()
    assert successor is not None
    assert len(successor.rows) == successor.detector.n_reference == 800
    assert successor.detector._linear_season.covariance[0, 0] == pytest.approx(1 / 2_400, rel=0.1)


def test_a_week_is_looked_at_before_a_day() -> None:
    planned, successor = Stream(8 * 24).next()
    assert planned is not None
    assert planned.stage == "weekly"
    assert successor is not None
    assert successor.detector.seasons == ("daily", "weekly")


def test_a_drift_that_the_next_baseline_would_tolerate_is_found_by_the_one_in_use() -> None:
    """The next one tolerates as much as the hours of its day differ."""

    def moved(vectors: Vectors, hours: Floats) -> Vectors:
        changed = vectors.copy()
        changed[:, 0] += 1.5 * (hours >= 10)
        return changed

    assert always_high(Stream(97, season)).waits_for() is None
    assert always_high(Stream(97, season, moved)).waits_for() == "unlike"


def test_a_drift_is_found_although_nothing_arrives_at_the_hours_of_the_baseline() -> None:
    stream = always_high(Stream(108, between(10, math.inf)))
    hours = (stream.rows["received_at"] - START) / HOUR
    stream.rows = stream.rows[(hours < 4) | (hours % 24 >= 4.5)]
    assert stream.waits_for() == "unlike"


def test_a_high_score_now_defers_to_the_next_look_only() -> None:
    stream = Stream(30)
    planned, _ = stream.next({"fast": 0.1, "slow": 12.0})
    assert planned == Maturing("daily", START + DAY, "drift")
    assert planned.due_at < stream.now
    assert stream.waits_for({"fast": 0.1, "slow": 9.0}) is None


def test_drift_in_the_scores_is_waited_out() -> None:
    stream = Stream(30)
    stream.recorded[-60] = stream.recorded[-60]._replace(value=20.0)
    planned, _ = stream.next()
    assert planned is not None
    assert planned.waits_for == "drift"
    assert planned.due_at == START + 2 * DAY


def test_the_drift_of_a_slice_is_waited_out() -> None:
    stream = Stream(30)
    stream.seen = LastSeen(-math.inf, START + 5 * HOUR)
    assert stream.next() == (Maturing("daily", START + 29 * HOUR, None), ANY)
    stream.seen = LastSeen(-math.inf, START + 20 * HOUR)
    assert stream.next() == (Maturing("daily", START + 44 * HOUR, "drift"), None)


def test_a_slice_that_drifts_puts_off_the_comparison_of_two_days() -> None:
    stream = always_high(Stream(49, season))
    stream.seen = LastSeen(stream.now, stream.now - 800)
    assert stream.next({"fast": 50.0}) == (
        Maturing("daily", stream.now + 100, "drift", compares=True),
        None,
    )
    rare = SETTINGS.model_copy(update={"check_interval": 3_600})
    planned, _ = stream.next({"fast": 50.0}, rare)
    assert planned is not None
    assert planned.due_at == stream.now - 800 + 7_200
    stream.seen = LastSeen(stream.now, stream.now - 1_000)
    assert stream.waits_for({"fast": 50.0}) is None


def test_a_rise_of_the_scores_is_drift_of_the_span() -> None:
    stream = Stream(30)
    stream.seen = LastSeen(START + 20 * HOUR, -math.inf)
    assert stream.waits_for() == "drift"


@pytest.mark.parametrize(
    ("average", "suggested"),
    [
        (Average(1.01, 84), True),
        (Average(1.01, 83), False),
        (Average(1.0, 168), False),
        (None, False),
    ],
)
def test_another_weekly_baseline_is_suggested_if_the_week_was_a_little_unlike_it(
    average: Average | None, suggested: bool
) -> None:
    stream = Stream(15 * 24)
    stream.averaged = average
    expected = Maturing("weekly", stream.now, "person") if suggested else None
    assert stream.suggested({"fast": 1.6, "slow": 3.0}) == expected


def test_no_week_with_drift_is_suggested() -> None:
    stream = Stream(15 * 24)
    stream.recorded[-2_000] = stream.recorded[-2_000]._replace(value=5.1, stage="weekly")
    assert stream.suggested() is None
    stream.recorded[-2_000] = stream.recorded[-2_000]._replace(value=5.0)
    assert stream.suggested() is not None
    assert stream.suggested({"fast": 1.7, "slow": 2.9}) is None
    within, before = stream.now - 6.9 * DAY, stream.now - 7.1 * DAY
    for seen in (LastSeen(within, before), LastSeen(before, within)):
        stream.seen = seen
        assert stream.suggested() is None
    stream.seen = LastSeen(before, before)
    assert stream.suggested() is not None


def test_no_week_is_suggested_that_began_before_the_baseline_was_pinned() -> None:
    """Its vectors may be much older. The drift of the week from an earlier one is not known."""
    stream = Stream(15 * 24)
    stream.pinned_at = datetime.fromtimestamp(stream.now - 6.9 * DAY, UTC)
    assert stream.suggested() is None


@pytest.mark.parametrize("lost", ["all", "first 15 hours", "states that are not ok"])
def test_without_scores_nothing_shows_that_there_was_no_drift(lost: str) -> None:
    stream = Stream(26)
    if lost == "all":
        stream.recorded = []
    elif lost == "first 15 hours":
        stream.recorded = [score for score in stream.recorded if score.time > START + 19 * HOUR]
    else:
        stream.recorded = [score._replace(value=math.nan) for score in stream.recorded]
    planned, successor = stream.next()
    assert planned == Maturing("daily", stream.now + RETRY_SECONDS, "scores")
    assert successor is None


def test_without_scores_the_second_day_shows_it() -> None:
    stream = Stream(50)
    stream.recorded = []
    planned, successor = stream.next()
    assert planned == Maturing("daily", START + 2 * DAY, None, compares=True)
    assert successor is not None
    assert successor.rows["received_at"].max() < stream.now - DAY


def test_an_hour_without_scores_does_no_harm() -> None:
    stream = Stream(26)
    stream.recorded = [
        each for each in stream.recorded if not 19 < (each.time - START) / HOUR <= 20
    ]
    assert stream.waits_for() is None


def test_a_season_that_looks_like_drift_every_day_becomes_normal_after_two_days() -> None:
    assert always_high(Stream(47, season)).waits_for() == "drift"
    assert always_high(Stream(49, season)).waits_for({"fast": 50.0, "slow": 50.0}) is None


@pytest.mark.parametrize("seasons", [[], [season]], ids=["no season", "season"])
@pytest.mark.parametrize("hours", [49, 97, 241])
def test_a_drift_that_lasts_never_becomes_normal(hours: int, seasons: list[Change]) -> None:
    stream = always_high(Stream(hours, *seasons, between(10, math.inf)))
    planned, successor = stream.next({"slow": 50.0})
    assert successor is None
    assert planned is not None
    assert planned.waits_for == "unlike"
    assert planned.due_at == stream.now + RETRY_SECONDS


@pytest.mark.parametrize(("first", "last"), [(10, 14), (20, 26), (30, 34), (44, 49)])
def test_a_drift_that_came_and_went_within_two_days_is_not_made_normal(
    first: float, last: float
) -> None:
    stream = always_high(Stream(49, season, between(first, last)))
    assert stream.waits_for() == "unlike"


def test_a_baseline_is_refused_if_its_detector_finds_drift_in_what_has_none() -> None:
    """As one vector of a size that hides the others may do."""
    stream = Stream(30)
    clean = stream.rows[:400].copy()
    clean["embedding"] += 3
    stream.reference = lambda: clean  # type: ignore[method-assign]
    planned, successor = stream.next()
    assert successor is None
    assert planned == Maturing("daily", stream.now + RETRY_SECONDS, "unlike")


def test_what_cannot_be_fitted_is_said_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    stream = Stream(30)
    stream.rows["embedding"] = 1
    planned, _ = stream.next()
    assert planned == Maturing("daily", stream.now + RETRY_SECONDS, "unfit")
    [record] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.message == "next baseline not pinned"
    assert record.__dict__["detail"] == "its vectors are equal"


def test_a_fit_that_has_too_little_memory_is_refused_as_one_that_is_impossible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(*_: object) -> None:
        raise FitFailed("the process ended with SIGKILL")

    stream = Stream(30)
    monkeypatch.setattr("exporter.monitor.successor.fit", killed)
    planned, found = stream.next()
    assert found is None
    assert planned == Maturing("daily", stream.now + RETRY_SECONDS, "unfit")


def test_absurd_vectors_are_left_out_and_said() -> None:
    stream = Stream(30)
    stream.rows["embedding"][2_400:2_403] = 1e30  # at an hour of the baseline
    _, successor = stream.next()
    assert successor is not None
    assert successor.source.endswith(" UTC, without 1 absurdly long")


def test_a_heartbeat_does_not_stretch_what_the_others_span() -> None:
    stream = Stream(26)
    beats = np.arange(0, 2_600, 25)
    hours = (stream.rows["received_at"] - START) / HOUR
    kept = (hours < 12) | np.isin(np.arange(2_600), beats)
    stream.rows["embedding"][beats] = 7
    stream.rows = stream.rows[kept]
    assert stream.waits_for() == "vectors"


@pytest.mark.parametrize(("days", "waits_for"), [(3.5, "vectors"), (8.5, None)])
def test_the_baseline_of_a_nightly_job_waits_for_a_week(
    days: float, waits_for: Wait | None, caplog: pytest.LogCaptureFixture
) -> None:
    stream = Stream(24 * days)
    whole, part = np.divmod(stream.rows["received_at"] - START, DAY)
    stream.rows["received_at"] = START + DAY * whole + part / 48
    assert stream.waits_for() == waits_for
    said = {each.__dict__["detail"] for each in caplog.records if each.levelname == "WARNING"}
    assert said == ({"they do not fill a day"} if waits_for else set())


@pytest.mark.parametrize(("days", "waits_for"), [(1.5, "vectors"), (8, None)])
def test_the_last_baseline_may_be_of_fewer_vectors(days: float, waits_for: Wait | None) -> None:
    """Otherwise a slow model would keep the thresholds of a provisional baseline for ever."""
    stream = Stream(24 * days)
    first = stream.rows[:400]
    stream.rows = np.append(first, stream.rows[400::150])
    assert stream.waits_for() == waits_for


@pytest.mark.parametrize("hours", [36, 8 * 24], ids=["a day", "a week"])
def test_no_window_loses_its_baseline_to_one_that_is_too_small_for_it(
    hours: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The baseline of 400 vectors serves a window of 200; 380 vectors would not."""
    allowed = BaselineSettings(vectors=400, mature_vectors=380)
    for least, waits_for in ((170, None), (200, "vectors")):
        slow = WindowSettings(seconds=21_600, min_vectors=least)
        settings = MonitoringSettings(baseline=allowed, windows=WindowsSettings(slow=slow))
        planned, _ = Stream(hours).next(settings=settings)
        assert planned is not None
        assert planned.waits_for == waits_for
    assert "and 400 are needed" in caplog.records[-1].__dict__["detail"]


def test_a_window_that_no_baseline_serves_does_not_keep_the_others_from_a_better_one() -> None:
    slow = WindowSettings(seconds=21_600, min_vectors=2_000)
    settings = MonitoringSettings(baseline=SETTINGS.baseline, windows=WindowsSettings(slow=slow))
    planned, _ = Stream(36).next(settings=settings)
    assert planned is not None
    assert planned.waits_for is None


def test_where_vectors_expire_before_a_week_a_day_is_enough() -> None:
    stream = Stream(8 * 24)
    reference = stream.rows[:400].copy()
    stream.reference = lambda: reference  # type: ignore[method-assign]
    stream.rows = stream.rows[stream.rows["received_at"] > stream.now - 5 * DAY]
    planned, successor = stream.next()
    assert planned is not None
    assert planned.stage == "daily"
    assert successor is not None
