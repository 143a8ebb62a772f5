"""A model: snapshots whose numbers belong together, measured once for each change."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.detector.ratio import ChangedRatio
from exporter.monitor.baseline import Baseline
from exporter.monitor.forecast import Forecast
from exporter.monitor.model import Model, Models
from exporter.monitor.ring import Arrivals
from exporter.monitor.series import Series
from exporter.monitor.snapshot import Magnitude, SeriesSnapshot
from exporter.monitor.windows import ModelWindows
from exporter.stats.quality import Quality
from ingest.runtime.settings.settings import (
    MonitoringSettings,
    WindowSettings,
    WindowsSettings,
)
from ingest.store.changes import ModelRow

Vectors = NDArray[np.float32]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RECEIVED = NOW - timedelta(seconds=5)
QUALITY = Quality(norm=2.5, effective_rank=6.5, dead_dimensions=1, duplicate_ratio=0.25)


def adopt(
    model: Model,
    vectors: Vectors,
    detector: Detector,
    version: int = 1,
    settings: MonitoringSettings | None = None,
) -> None:
    windows = ModelWindows(vectors.shape[1], settings or MonitoringSettings(), detector)
    windows.append(Arrivals.numbered(vectors, np.full(len(vectors), RECEIVED.timestamp())))
    model.adopt(
        Baseline(version, NOW, 0, NOW, NOW, False, "first 1000", QUALITY, detector), windows
    )


@pytest.fixture
def model(vectors: Vectors, detector: Detector) -> Model:
    """A model with 100 vectors newer than its baseline."""
    model = Model(ModelRow("m", 8, 1_100, RECEIVED, None, 1, NOW), MonitoringSettings())
    adopt(model, vectors[1_000:1_100], detector)
    return model


def fast(model: Model, deadline: float = float("inf")) -> SeriesSnapshot:
    return model.snapshot(NOW.timestamp(), deadline).series[0]


def test_a_snapshot_names_each_series_and_what_it_is_measured_against(
    model: Model, vectors: Vectors, detector: Detector
) -> None:
    snapshot = model.snapshot(NOW.timestamp(), with_vectors=True)
    assert [each.series for each in snapshot.series] == [Series("m", "fast"), Series("m", "slow")]
    assert snapshot.baseline is model.baseline
    assert snapshot.computed_at == NOW.timestamp()
    each = snapshot.series[0]
    assert each.vectors is not None
    np.testing.assert_array_equal(each.vectors, vectors[1_000:1_100])
    assert each.verdict.measurement is not None
    assert each.verdict.measurement.score == detector.score(vectors[1_000:1_100])
    assert each.verdict.start == RECEIVED.timestamp()


def test_a_window_that_samples_is_measured_though_the_sample_is_smaller_than_the_minimum(
    model: Model, vectors: Vectors, detector: Detector
) -> None:
    least = WindowSettings(seconds=900, min_vectors=500)
    settings = MonitoringSettings(windows=WindowsSettings(fast=least))
    adopt(model, vectors[1_000:1_499], detector, settings=settings)
    assert fast(model).verdict.state == "too_few_vectors"
    adopt(model, vectors[1_000:1_700], detector, settings=settings)
    each = fast(model)
    assert each.verdict.vectors < 500
    assert each.verdict.state == "ok"
    assert each.verdict.measurement is not None


def test_a_changed_dimension_stays_while_the_other_vectors_are_measured(model: Model) -> None:
    measured = fast(model).verdict.measurement
    mismatched = RECEIVED - timedelta(seconds=60)
    model.row = replace(model.row, mismatched_dimension=4, mismatched_at=mismatched)
    assert fast(model).verdict.state == "dimension_changed"
    assert fast(model).verdict.measurement == measured is not None
    model.row = replace(model.row, last_received_at=NOW - timedelta(hours=2))
    assert fast(model).verdict.state == "dimension_changed"
    assert fast(model).verdict.measurement is None


def test_a_model_is_stale_after_its_own_time(model: Model) -> None:
    model.row = replace(model.row, last_received_at=NOW - timedelta(hours=2))
    assert fast(model).verdict.state == "stale"
    for name, state in (("m", "ok"), ("other", "stale")):
        own = MonitoringSettings.model_validate({"models": {name: {"stale_after": 7_201}}})
        model.settings = own
        assert fast(model).verdict.state == state


def test_a_snapshot_stays_as_it_was_when_another_baseline_is_adopted(
    model: Model, vectors: Vectors, detector: Detector
) -> None:
    before = model.snapshot(NOW.timestamp(), with_vectors=True)
    adopt(model, vectors[:0], detector, version=2)
    after = model.snapshot(NOW.timestamp())
    assert before.baseline is not None
    assert before.baseline.version == 1
    assert {each.verdict.baseline_version for each in before.series} == {1}
    assert {each.verdict.vectors for each in before.series} == {100}
    assert {each.verdict.baseline_version for each in after.series} == {2}
    assert {each.verdict.state for each in after.series} == {"too_few_vectors"}


def test_a_magnitude_goes_away_with_the_measurement_and_when_it_is_old(model: Model) -> None:
    magnitude = Magnitude(ChangedRatio(0.12, 0.09, 0.15), NOW.timestamp())
    model.standing.attach("magnitude", {"fast": magnitude})
    now, interval = NOW.timestamp(), MonitoringSettings().check_interval

    def shown(at: float) -> Magnitude | None:
        return model.snapshot(at).series[0].findings.magnitude

    assert shown(now) == shown(now + 3 * interval) == magnitude
    assert shown(now + 3 * interval + 1) is None
    # Without new vectors the windows are stale.
    model.standing.attach("magnitude", {"fast": replace(magnitude, computed_at=now + 7_200)})
    assert shown(now + 7_200) is None


def test_findings_are_attached_to_their_window_until_the_next_run(model: Model) -> None:
    model.standing.attach("quality", {"fast": QUALITY})
    before = fast(model)
    model.standing.attach("quality", {})
    assert before.findings.quality is QUALITY
    assert fast(model).findings.quality is None
    assert fast(model).findings.forecast == Forecast("too_short")


def test_a_measurement_is_kept_until_its_window_changes(model: Model, vectors: Vectors) -> None:
    first = fast(model).verdict.measurement
    assert first is not None
    assert fast(model).verdict.measurement is first
    model.windows.append(Arrivals.numbered(vectors[1_100:1_101], np.full(1, NOW.timestamp())))
    assert fast(model).verdict.measurement is not first


def test_after_the_deadline_the_last_measurement_is_shown(model: Model, vectors: Vectors) -> None:
    late = time.monotonic() - 1
    first = fast(model, late).verdict
    assert (first.state, first.measurement, first.is_overdue) == ("ok", None, True)
    measured = fast(model).verdict
    assert not measured.is_overdue
    model.windows.append(Arrivals.numbered(vectors[1_100:1_101], np.full(1, NOW.timestamp())))
    again = fast(model, late).verdict
    assert again.measurement is measured.measurement
    assert again.is_overdue


def test_models_are_judged_at_the_time_of_the_store(model: Model) -> None:
    clock = [100.0]
    models = Models(monotonic=lambda: clock[0])
    models.set_clock(NOW.timestamp())
    models.add(model)
    clock[0] += 10
    [snapshot] = models.snapshots()
    assert snapshot.computed_at == NOW.timestamp() + 10
    models.remove("m")
    assert list(models.snapshots()) == []


def test_a_model_that_raises_is_left_out_and_logged_once(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    models = Models(monotonic=lambda: 0.0)
    models.set_clock(NOW.timestamp())
    other = Model(ModelRow("other", 8, 0, RECEIVED, None, None, NOW), MonitoringSettings())
    for each in (model, other):
        models.add(each)
    sums = model.windows.views["fast"].window.sums
    assert sums is not None
    sums.total = sums.total[:3]
    for _ in range(2):
        assert [each.row.model_name for each in models.snapshots()] == ["other"]
    [record] = caplog.records
    assert (record.message, record.__dict__["model_name"]) == ("model not judged", "m")
