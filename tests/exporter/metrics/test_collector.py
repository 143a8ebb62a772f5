"""The collector: the page as Prometheus reads it."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, generate_latest

from exporter.detector.detector import Detector
from exporter.detector.exact import compare
from exporter.detector.ratio import ChangedRatio
from exporter.metrics.collector import DriftCollector
from exporter.metrics.families import (
    CANARY_DISTANCE,
    CANARY_GAP,
    CANARY_TIMESTAMP,
    FAMILIES,
    MISMATCH_TIMESTAMP,
    NOT_FOLLOWED,
    REVISION_COSINE,
    SLICE_BASELINE_RATIO,
    SLICE_RATIO,
    SLICES_FOLDED,
)
from exporter.monitor.baseline import Baseline
from exporter.monitor.forecast import Forecast
from exporter.monitor.maturing import Maturing
from exporter.monitor.model import Model, Models
from exporter.monitor.ring import Arrivals
from exporter.monitor.rise import Rise
from exporter.monitor.series import Series
from exporter.monitor.snapshot import ExaminationStatus, Magnitude, PollStatus, Snapshot
from exporter.monitor.windows import ModelWindows
from exporter.stats.quality import Quality, assess
from ingest.runtime.http.exposition import deadline
from ingest.runtime.settings.settings import MonitoringSettings
from ingest.runtime.version import __version__
from ingest.runtime.worker import WorkStatus
from ingest.store.changes import ModelRow
from ingest.store.standbys import Standbys
from tests.exporter.explained import SUMMARY, explained

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RECEIVED = NOW - timedelta(seconds=5)
HISTORY = Forecast("daily", 0.5, 0.45, 0.55, -6.5, -0.01, 3.5, 1_700_000_000.0)
QUALITY = Quality(norm=2.5, effective_rank=6.5, dead_dimensions=1, duplicate_ratio=0.25)


@pytest.fixture
def models() -> Models:
    models = Models(monotonic=lambda: 0.0)
    models.set_clock(NOW.timestamp())
    return models


def add(models: Models, vectors: NDArray[np.float32], name: str = "m") -> Model:
    row = ModelRow(name, vectors.shape[1], len(vectors), RECEIVED, None, None, NOW)
    model = Model(row, MonitoringSettings())
    model.windows.append(Arrivals.numbered(vectors, np.full(len(vectors), RECEIVED.timestamp())))
    models.add(model)
    return model


def adopt(model: Model, vectors: NDArray[np.float32], baseline: Baseline) -> None:
    """Have a model measured against a baseline that all these vectors are newer than."""
    windows = ModelWindows(vectors.shape[1], MonitoringSettings(), baseline.detector)
    windows.append(Arrivals.numbered(vectors, np.full(len(vectors), RECEIVED.timestamp())))
    model.adopt(baseline, windows)


def page(
    models: Models,
    status: PollStatus | None = None,
    checked: WorkStatus | None = None,
    has_words: bool = True,
) -> list[str]:
    """The samples of a scrape, without comments."""

    def snapshot(deadline: float) -> Snapshot:
        return Snapshot(
            tuple(models.snapshots(deadline)),
            status or PollStatus(True, 1_000.0, 0.25, 3),
            checked or WorkStatus(True, 900.0, 1.5, 2),
            300.0,
            {"quality": ExaminationStatus(True, 0.5)},
            duration=0.125,
            has_words=has_words,
            standbys=Standbys(1, 2, 0),
        )

    registry = CollectorRegistry()
    registry.register(DriftCollector(snapshot))
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_a_page_without_models_describes_the_exporter(models: Models) -> None:
    lines = page(models)
    assert lines == [
        "embedding_drift_up 1.0",
        f'embedding_drift_build_info{{version="{__version__}"}} 1.0',
        "embedding_drift_store_poll_timestamp_seconds 1000.0",
        "embedding_drift_store_poll_duration_seconds 0.25",
        "embedding_drift_store_poll_failures_total 3.0",
        "embedding_drift_store_rewinds_total 0.0",
        'embedding_drift_store_standbys{replication="synchronous"} 1.0',
        'embedding_drift_store_standbys{replication="asynchronous"} 2.0',
        'embedding_drift_store_standbys{replication="hidden"} 0.0',
        "embedding_drift_check_timestamp_seconds 900.0",
        "embedding_drift_check_interval_seconds 300.0",
        "embedding_drift_check_failures_total 2.0",
        'embedding_drift_examination_success{examination="quality"} 1.0',
        'embedding_drift_examination_duration_seconds{examination="quality"} 0.5',
        "embedding_drift_models 0.0",
        "embedding_drift_models_missing 0.0",
        "embedding_drift_shard_ordinal 0.0",
        "embedding_drift_total_shards 1.0",
        "embedding_drift_collect_duration_seconds 0.125",
        "embedding_drift_collect_overdue_windows 0.0",
    ]


def test_before_the_first_poll_what_is_not_known_is_absent(models: Models) -> None:
    lines = page(models, PollStatus(), WorkStatus())
    assert "embedding_drift_up 0.0" in lines
    absent = ("poll_timestamp", "poll_duration", "check_timestamp")
    assert not any(name in line for line in lines for name in absent)


def test_a_model_without_baseline_has_states_and_no_statistics(
    models: Models, vectors: NDArray[np.float32]
) -> None:
    add(models, vectors[:60])
    lines = page(models)
    assert 'embedding_drift_dimensions{model_name="m"} 8.0' in lines
    assert 'embedding_drift_vectors_total{model_name="m"} 60.0' in lines
    assert 'embedding_drift_state{model_name="m",state="no_baseline",window="fast"} 1.0' in lines
    assert 'embedding_drift_window_vectors{model_name="m",window="slow"} 60.0' in lines
    [received] = [line for line in lines if "last_vector_timestamp" in line]
    assert float(received.split()[1]) == RECEIVED.timestamp()
    for absent in ("score", "magnitude", "ks_statistic", "baseline_version"):
        assert not any(line.startswith(f"embedding_drift_{absent}") for line in lines)


def test_a_window_has_a_series_of_its_state_only(
    models: Models, vectors: NDArray[np.float32]
) -> None:
    add(models, vectors[:60])
    states = [line for line in page(models) if line.startswith("embedding_drift_state")]
    assert states == [
        f'embedding_drift_state{{model_name="m",state="no_baseline",window="{window}"}} 1.0'
        for window in ("fast", "slow")
    ]


def test_a_model_with_a_baseline_has_every_family(
    models: Models, vectors: NDArray[np.float32], detector: Detector
) -> None:
    model = add(models, vectors[1_000:1_100])
    yesterday = NOW - timedelta(days=1)
    pinned = Baseline(2, yesterday, 0, yesterday, yesterday, True, "first 1000", QUALITY, detector)
    adopt(model, vectors[1_000:1_100], pinned)
    model.maturing = Maturing("daily", NOW.timestamp(), "drift")
    model.standing.attach("quality", {"fast": QUALITY})
    magnitude = Magnitude(ChangedRatio(0.12, 0.09, 0.15), NOW.timestamp() - 60)
    model.standing.attach("magnitude", {"fast": magnitude})
    model.standing.attach("forecast", {"slow": HISTORY})
    model.standing.attach("rise", {"slow": Rise({"": 1.25}, NOW.timestamp())})
    exact = compare(vectors[:1_000], vectors[1_000:1_100], [5])
    model.standing.attach("exact", {"fast": exact})
    model.standing.explained = {Series("m", "fast"): explained(NOW.timestamp() - 60)}
    lines = page(models)
    [moved] = [line for line in lines if "top_dimension" in line]
    assert 'dimension="5",model_name="m",window="fast"' in moved
    assert 'embedding_drift_seasonal_anomaly{model_name="m",window="slow"} -6.5' in lines
    assert 'embedding_drift_history_state{model_name="m",state="daily",window="slow"} 1.0' in lines
    assert 'embedding_drift_score_rise{model_name="m",window="slow"} 1.25' in lines
    for suffix, value in (("", 0.12), ("_lower", 0.09), ("_upper", 0.15)):
        series = f'embedding_drift_magnitude{suffix}{{model_name="m",window="fast"}}'
        assert f"{series} {value}" in lines
    assert 'embedding_drift_norm{model_name="m",window="baseline"} 2.5' in lines
    assert 'embedding_drift_dead_dimensions{model_name="m",window="fast"} 1.0' in lines
    found = {line.split("{")[0].split(" ")[0] for line in lines}
    # It is followed, and has no revisions, no canaries, no slices, and no refused vectors.
    canaries = {CANARY_DISTANCE.name, CANARY_TIMESTAMP.name, CANARY_GAP.name}
    slices = {SLICE_RATIO.name, SLICE_BASELINE_RATIO.name, SLICES_FOLDED.name}
    absent = {NOT_FOLLOWED.name, REVISION_COSINE.name, MISMATCH_TIMESTAMP.name} | canaries | slices
    assert found == {family.name for family in FAMILIES} - absent
    score = detector.score(vectors[1_000:1_100])
    assert f'embedding_drift_score{{model_name="m",window="fast"}} {score!r}' in lines
    assert 'embedding_drift_baseline_version{model_name="m"} 2.0' in lines
    components = [line for line in lines if line.startswith("embedding_drift_component_score")]
    assert len(components) == 2 * len(detector.COMPONENTS)


def test_what_changed_is_one_cause_shares_by_rank_a_time_and_a_summary(
    models: Models, vectors: NDArray[np.float32]
) -> None:
    model = add(models, vectors[1_000:1_100])
    model.standing.explained = {Series("m", "fast"): explained(NOW.timestamp() - 60)}
    lines = page(models)
    window = 'model_name="m",{}window="fast"'
    causes = [line for line in lines if line.startswith("embedding_drift_cause")]
    assert causes == [f'embedding_drift_cause{{cause="new content",{window.format("")}}} 1.0']
    rank = 'rank="1",'
    assert [line for line in lines if line.startswith("embedding_drift_group_ratio")] == [
        f"embedding_drift_group_ratio{{{window.format(rank)}}} 0.095"
    ]
    summary = f'summary="{SUMMARY}",'
    assert f"embedding_drift_explanation_info{{{window.format(summary)}}} 1.0" in lines
    [at] = [line for line in lines if line.startswith("embedding_drift_explanation_timestamp")]
    assert float(at.rpartition(" ")[2]) == NOW.timestamp() - 60


def test_one_setting_keeps_words_out_of_prometheus(
    models: Models, vectors: NDArray[np.float32]
) -> None:
    model = add(models, vectors[1_000:1_100])
    model.standing.explained = {Series("m", "fast"): explained(NOW.timestamp() - 60)}
    lines = page(models, has_words=False)
    assert not any("audio" in line for line in lines)
    assert any(line.startswith("embedding_drift_cause") for line in lines)


def test_canaries_have_two_distances_a_time_and_a_gap(
    models: Models, vectors: NDArray[np.float32]
) -> None:
    model = add(models, vectors[1_000:1_100])
    model.row = replace(
        model.row,
        canaries_received_at=RECEIVED,
        canary_median_distance=2e-8,
        canary_max_distance=0.5,
        canary_gap=3600.0,
    )
    lines = page(models)
    distance = "embedding_drift_canary_distance"
    assert f'{distance}{{aggregate="median",model_name="m"}} 2e-08' in lines
    assert f'{distance}{{aggregate="max",model_name="m"}} 0.5' in lines
    assert 'embedding_drift_canary_gap_seconds{model_name="m"} 3600.0' in lines
    stored = next(line for line in lines if line.startswith(CANARY_TIMESTAMP.name))
    assert float(stored.rpartition(" ")[2]) == RECEIVED.timestamp()


def test_a_refused_dimension_is_told_with_its_time(
    models: Models, vectors: NDArray[np.float32]
) -> None:
    model = add(models, vectors[1_000:1_100])
    assert not any(line.startswith(MISMATCH_TIMESTAMP.name) for line in page(models))
    model.row = replace(model.row, mismatched_dimension=4, mismatched_at=RECEIVED)
    [told] = [line for line in page(models) if line.startswith(MISMATCH_TIMESTAMP.name)]
    labels, value = told.split(" ")
    assert labels == f'{MISMATCH_TIMESTAMP.name}{{dimensions="4",model_name="m"}}'
    assert float(value) == RECEIVED.timestamp()


@pytest.mark.parametrize("component", [1e20, 3e38])
def test_an_absurd_vector_leaves_every_number_finite(
    models: Models, vectors: NDArray[np.float32], detector: Detector, component: float
) -> None:
    window = vectors[1_000:1_100].copy()
    window[7] = component
    model = add(models, window)
    adopt(model, window, Baseline(1, NOW, 0, NOW, NOW, False, "x", QUALITY, detector))
    top = range(5)
    model.standing.attach("quality", {"fast": assess(window)})
    model.standing.attach("exact", {"fast": compare(vectors[:1_000], window, top)})
    lines = page(models)
    found = {line.split("{")[0] for line in lines}
    assert {
        "embedding_drift_score",
        "embedding_drift_norm",
        "embedding_drift_effective_rank",
        "embedding_drift_top_dimension_wasserstein_distance",
    } <= found
    assert not [line for line in lines if not math.isfinite(float(line.split()[-1]))]


def test_the_deadline_of_a_scrape_reaches_the_models(
    models: Models, vectors: NDArray[np.float32], detector: Detector
) -> None:
    model = add(models, vectors[1_000:1_100])
    adopt(model, vectors[1_000:1_100], Baseline(1, NOW, 0, NOW, NOW, False, "x", QUALITY, detector))
    token = deadline.set(time.monotonic() - 1)
    try:
        assert "embedding_drift_collect_overdue_windows 2.0" in page(models)
    finally:
        deadline.reset(token)
