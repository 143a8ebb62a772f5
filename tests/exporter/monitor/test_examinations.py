"""Examinations: each has a name, an interval and a finding for the windows that deserve one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from zoneinfo import ZoneInfo

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from exporter.detector.ratio import ChangedRatio
from exporter.monitor import baseline
from exporter.monitor.examinations import (
    Examination,
    ForecastExamination,
    MagnitudeExamination,
    QualityExamination,
    RiseExamination,
)
from exporter.monitor.forecast import Forecast
from exporter.monitor.model import Models
from exporter.monitor.monitor import examinations
from exporter.monitor.ring import Arrivals
from exporter.monitor.rise import Rise
from exporter.monitor.snapshot import Findings, Magnitude, ModelSnapshot
from exporter.monitor.tail import Tail
from exporter.stats.arrays import Floats
from exporter.stats.quality import assess
from ingest.runtime.settings.settings import MonitoringSettings, WindowSettings, WindowsSettings
from ingest.store import history
from ingest.store.history import HistoryRow
from ingest.store.pool import Pool
from ingest.store.selection import Selection

Vectors = NDArray[np.float32]
Send = Callable[..., None]

SETTINGS = MonitoringSettings(
    windows=WindowsSettings(
        fast=WindowSettings(seconds=900, min_vectors=60),
        slow=WindowSettings(seconds=21_600, min_vectors=80),
    ),
)


@pytest.fixture
def snapshot(
    pool: Pool, send: Send, vectors: Vectors, connection: psycopg.Connection
) -> ModelSnapshot:
    """The model m with a baseline of 600 vectors, and 70 newer ones that drifted."""
    send(vectors[:600])
    baseline.pin(connection, "m", Selection(first=600))
    send(vectors[600:670] + np.float32(3))
    models = Models()
    Tail(pool, models, SETTINGS).poll()
    return models.by_name["m"].snapshot(models.now(), with_vectors=True)


@pytest.fixture
def all_examinations(pool: Pool) -> tuple[Examination, ...]:
    return examinations(pool)


def test_every_examination_has_a_field_for_its_findings(
    all_examinations: tuple[Examination, ...],
) -> None:
    names = [examination.name for examination in all_examinations]
    assert sorted(names) == sorted(field.name for field in fields(Findings))


def test_every_examination_returns_findings_by_window(
    snapshot: ModelSnapshot, all_examinations: tuple[Examination, ...]
) -> None:
    found = {each.name: set(each.examine(snapshot)) for each in all_examinations}
    assert found == {
        "quality": {"fast"},
        "magnitude": {"fast"},
        "exact": {"fast"},
        "forecast": {"fast", "slow"},
        "rise": {"slow"},
        "slices": set(),
    }


def test_quality_is_assessed_where_a_window_has_enough_vectors(
    snapshot: ModelSnapshot, vectors: Vectors
) -> None:
    assert QualityExamination().examine(snapshot) == {
        "fast": assess(vectors[600:670] + np.float32(3))
    }


def test_vectors_that_differ_in_their_last_digits_are_duplicates_for_a_model_with_a_baseline(
    snapshot: ModelSnapshot, vectors: Vectors
) -> None:
    stuck = np.repeat(vectors[600:601], 70, axis=0)
    stuck *= 1 + np.linspace(0, 1e-6, 70, dtype=np.float32)[:, None]
    arrivals = Arrivals.numbered(stuck, np.full(70, snapshot.computed_at))
    series = tuple(replace(each, arrivals=arrivals) for each in snapshot.series)
    examined = QualityExamination().examine(replace(snapshot, series=series))
    assert examined["fast"].duplicate_ratio == 69 / 70
    without = replace(snapshot, series=series, baseline=None)
    assert QualityExamination().examine(without)["fast"].duplicate_ratio < 0.9


def test_the_magnitude_is_the_changed_ratio_of_the_windows_vectors(
    snapshot: ModelSnapshot, vectors: Vectors
) -> None:
    assert snapshot.baseline is not None
    ratio = snapshot.baseline.detector.changed_ratio(vectors[610:670] + np.float32(3))
    assert ratio.estimate > 0.9
    assert MagnitudeExamination().examine(snapshot) == {
        "fast": Magnitude(ratio, snapshot.computed_at)
    }


@pytest.mark.parametrize(
    ("age", "score", "awaited"),
    [(None, 0.0, True), (59, 9.0, False), (61, 9.0, True), (299, 1.9, False)],
)
def test_a_magnitude_is_awaited_if_it_is_missing_or_old_at_a_high_score(
    snapshot: ModelSnapshot, age: float | None, score: float, awaited: bool
) -> None:
    fast, slow = snapshot.series
    ratio = ChangedRatio(0.5, 0.4, 0.6)
    magnitude = None if age is None else Magnitude(ratio, snapshot.computed_at - age)
    measured = fast.verdict.measurement
    assert measured is not None
    verdict = replace(fast.verdict, measurement=replace(measured, score=score))
    changed = replace(fast, verdict=verdict, findings=replace(fast.findings, magnitude=magnitude))
    # The slow window is too small to be measured, so nothing is awaited of it.
    subject = replace(snapshot, series=(changed, slow))
    assert MagnitudeExamination().is_awaited(subject) is awaited


def test_a_forecast_is_made_in_the_time_zone_of_the_baseline(
    pool: Pool, snapshot: ModelSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    zones = []

    def judge(times: Floats, values: Floats, now: float, zone: ZoneInfo) -> Forecast:
        zones.append(zone)
        return Forecast("too_short")

    monkeypatch.setattr("exporter.monitor.forecast.judge", judge)
    assert snapshot.baseline is not None
    kolkata = ZoneInfo("Asia/Kolkata")
    pinned = replace(snapshot.baseline, zone=kolkata)
    ForecastExamination(pool).examine(replace(snapshot, baseline=pinned))
    assert zones == [kolkata, kolkata]


def test_a_rise_is_that_of_the_scores_recorded_against_the_baseline_in_use(
    pool: Pool, snapshot: ModelSnapshot, connection: psycopg.Connection
) -> None:
    now, week = snapshot.computed_at, 7 * 86_400
    recorded = [
        (now - 1_800 - 3_600 * hour - ago, version, score)
        for hour in range(8)
        for ago, version, score in ((0, 1, 2.0), (week, 1, 0.5), (60, 2, 9.0), (week + 60, 2, 0.1))
    ]
    history.fill(
        connection,
        [
            (at, HistoryRow("m", "slow", "ok", 100, version, score=score))
            for at, version, score in recorded
        ],
    )
    assert RiseExamination(pool).examine(snapshot) == {"slow": Rise({"": 1.5}, now)}


def test_nothing_else_is_awaited(
    snapshot: ModelSnapshot, all_examinations: tuple[Examination, ...]
) -> None:
    assert [each.name for each in all_examinations if each.is_awaited(snapshot)] == ["magnitude"]


def test_without_a_baseline_there_is_nothing_to_compare_with(
    pool: Pool, send: Send, vectors: Vectors, all_examinations: tuple[Examination, ...]
) -> None:
    send(vectors[:100], "new")
    models = Models()
    Tail(pool, models, SETTINGS).poll()
    subject = models.by_name["new"].snapshot(models.now(), with_vectors=True)
    found = {each.name: set(each.examine(subject)) for each in all_examinations}
    assert found == {
        "quality": {"fast", "slow"},
        "magnitude": set(),
        "exact": set(),
        "forecast": set(),
        "rise": set(),
        "slices": set(),
    }
