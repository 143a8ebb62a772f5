"""Replay the incident of the demo for a real Prometheus."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from demo import stack
from demo.incident import BASELINE_VECTORS, Incident
from exporter.detector.detector import Detector
from exporter.detector.exact import Exact
from exporter.detector.ratio import ChangedRatio
from exporter.metrics.collector import DriftCollector
from exporter.monitor.baseline import Baseline
from exporter.monitor.examinations import MagnitudeExamination, QualityExamination
from exporter.monitor.forecast import Forecast
from exporter.monitor.maturing import Maturing
from exporter.monitor.model import Model, Models
from exporter.monitor.ring import Arrivals
from exporter.monitor.rise import Rise
from exporter.monitor.series import Series
from exporter.monitor.slices import Slice, SliceFinding, SlicesFinding, Slicing
from exporter.monitor.snapshot import ExaminationStatus, ModelSnapshot, PollStatus, Snapshot
from exporter.monitor.verdict import measure
from exporter.monitor.windows import ModelWindows
from exporter.stats.quality import assess
from exporter.stats.shares import Share
from ingest.pipeline.metrics import IngestMetrics, WatchMetrics
from ingest.runtime.http import lag, listener
from ingest.runtime.settings.reload import LiveSettings
from ingest.runtime.settings.settings import MonitoringSettings, Settings
from ingest.runtime.thresholds import SCORE
from ingest.runtime.worker import WorkStatus
from ingest.store.changes import ModelRow
from ingest.store.standbys import Standbys
from rules.render import render
from tests.exporter.explained import explained

MODEL = "all-MiniLM-L6-v2"
BATCHES_A_SCRAPE = 10
# The forecast of two weeks of history; the replay lasts only a few seconds.
HISTORY = Forecast("weekly", 0.5, 0.45, 0.55, -6.5, -0.01, 3.5, 1_700_000_000.0)
# Pipeline alerts take minutes to fire, so the page exports one as Prometheus would record it.
STALE = (
    'ALERTS{alertname="EmbeddingDriftWindowStale",alertstate="firing",area="pipeline",'
    'severity="warning",model_name="unused"} 1\n'
)
NOT_FOLLOWED = f'embedding_drift_not_followed{{model_name="{MODEL}",reason="behind"}} 1\n'
"""The incident's model is followed throughout, and so has no such sample by itself."""
REFUSED = (
    "embedding_drift_dimension_mismatch_timestamp_seconds"
    f'{{model_name="{MODEL}",dimensions="768"}} 1\n'
)
"""All vectors of the incident have the same dimension."""


EXACT = Exact(np.array([7]), np.array([0.4]), np.array([1e-9]), np.array([0.5]))


def trust_baseline(rendered: Path, model_name: str) -> None:
    """Add rules that give a model the thresholds of a weekly baseline.

    The replay takes seconds, so its scores do not reach the thresholds of a provisional one.
    """
    overrides = [
        {
            "record": f"model_window:embedding_drift_score_{name}:override",
            "expr": f"vector({threshold})",
            "labels": {"model_name": model_name, "window": window},
        }
        for window, thresholds in SCORE["weekly"].items()
        for name, threshold in thresholds._asdict().items()
        if math.isfinite(threshold)
    ]
    groups = {"groups": [{"name": "demo", "rules": overrides}]}
    (rendered / "demo.rules.yaml").write_text(yaml.safe_dump(groups), encoding="utf-8")


class Replay:
    """Exporter and ingest in one. Every page advances the incident."""

    def __init__(self) -> None:
        story = Incident()
        self._stream = story.stream()
        self._models = Models()
        self._drifting = self._add(MODEL)
        self._add("unused")
        self._polls = 0
        self._registry = CollectorRegistry()
        self._registry.register(DriftCollector(self._snapshot))
        self._ingest = IngestMetrics(self._registry)
        self._watch = WatchMetrics(self._registry, MODEL)
        self._lag = lag.histogram(self._registry)
        self._closed = listener.counter(self._registry)
        LiveSettings(Settings).register(self._registry)
        vectors = story.baseline().vectors
        pinned = datetime.now(UTC)
        detector = Detector.fit(vectors)
        self._drifting.adopt(
            Baseline(
                1,
                pinned,
                BASELINE_VECTORS,
                pinned,
                pinned,
                False,
                "first",
                assess(vectors),
                detector,
            ),
            ModelWindows(detector.dimension, MonitoringSettings(), detector),
        )
        self._drifting.maturing = Maturing("daily", time.time(), "time")
        self._slice = Slice("language", "en", detector, True)
        self._drifting.standing.slicing = Slicing(("language",), {}, (self._slice,), 0)
        self._drifting.standing.attach("forecast", dict.fromkeys(self._drifting.windows, HISTORY))

    def page(self) -> bytes:
        """Advance the incident and return the page that shows it."""
        for rows in islice(self._stream, BATCHES_A_SCRAPE):
            self._receive(rows.vectors)
        now = self._drifting.snapshot(self._models.now(), with_vectors=True)
        for examination in (QualityExamination(), MagnitudeExamination()):
            self._drifting.standing.attach(examination.name, examination.examine(now))
        self._drifting.standing.attach("exact", {"fast": EXACT})
        self._drifting.standing.attach("rise", {"slow": Rise({"": 0.5}, now.computed_at)})
        self._drifting.standing.explained = {Series(MODEL, "fast"): explained(time.time(), MODEL)}
        self._drifting.standing.attach("slices", dict.fromkeys(("fast", "slow"), self._sliced(now)))
        self._polls += 1
        self._watch.succeeded()
        return generate_latest(self._registry) + (STALE + NOT_FOLLOWED + REFUSED).encode()

    def _sliced(self, now: ModelSnapshot) -> SlicesFinding:
        vectors = now.series[0].vectors
        assert vectors is not None
        detector, at = self._slice.detector, now.computed_at
        measured = measure(detector, detector.sums(vectors))
        ratio = ChangedRatio(0.3, 0.2, 0.4)
        found = SliceFinding(self._slice, len(vectors), at, at, 1.0, measured, ratio)
        return SlicesFinding({"language": (Share("en", 1.0, 0.9, 0.5, False),)}, (found,), at)

    def _receive(self, vectors: np.ndarray) -> None:
        times, cosines = np.full(len(vectors), time.time()), np.full(len(vectors), 0.5, "f4")
        self._drifting.windows.append(Arrivals.numbered(vectors, times, cosines=cosines))
        self._ingest.requests.labels("/embeddings", "201").inc()
        self._ingest.requests.labels("/embeddings", "422").inc()
        self._ingest.rejected.labels("/embeddings", "DimensionMismatch").inc()
        self._ingest.spans.labels("rejected").inc()
        self._ingest.client_lost.labels(MODEL, "dropped").inc()
        self._ingest.vectors.labels(MODEL).inc(len(vectors))
        self._ingest.duplicates.labels(MODEL).inc()
        self._ingest.revisions.labels(MODEL).inc()
        self._ingest.sampled_out.labels(MODEL).inc()
        self._lag.observe(0.001)
        self._closed.labels("idle").inc()
        self._ingest.commit_duration.observe(0.01)
        self._ingest.commit_vectors.observe(len(vectors))

    def _add(self, name: str) -> Model:
        now = datetime.now(UTC)
        bare = ModelRow(name, 384, 0, now, None, None, now)
        row = replace(
            bare,
            canaries_received_at=now,
            canary_median_distance=1e-8,
            canary_max_distance=1e-7,
            canary_gap=3600.0,
        )
        model = Model(row, MonitoringSettings(slices=["language"]))
        self._models.set_clock(now.timestamp())
        self._models.add(model)
        return model

    def _snapshot(self, deadline: float) -> Snapshot:
        return Snapshot(
            tuple(self._models.snapshots(deadline)),
            PollStatus(True, time.time(), 0.25, failures=self._polls),
            WorkStatus(True, time.time(), 0.5, failures=self._polls),
            300.0,
            {"quality": ExaminationStatus(True, 0.1)},
            standbys=Standbys(1, 2, 0),
        )


@pytest.fixture(scope="module")
def incident() -> Iterator[str]:
    """Return the URL of the replay's metrics page. Every scrape advances the incident."""
    replay = Replay()
    page = replay.page()
    wanted, done = threading.Event(), threading.Event()

    def advance() -> None:
        nonlocal page
        while wanted.wait() and not done.is_set():
            wanted.clear()
            page = replay.page()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(page)
            # Meanwhile, because a scrape has a second, which a busy machine may take for a page.
            wanted.set()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threads = [
        threading.Thread(target=server.serve_forever, args=(0.05,)),
        threading.Thread(target=advance),
    ]
    for thread in threads:
        thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    done.set()
    wanted.set()
    for thread in threads:
        thread.join()


@pytest.fixture(scope="module")
def prometheus(
    incident: str, tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]
) -> Iterator[stack.Prometheus]:
    """Run Prometheus with the shipped rules until the drift alert fires."""
    tool("prometheus")
    folder = tmp_path_factory.mktemp("grafana")
    rules = folder / "rules"
    render(Settings(), rules)
    stack.shorten_waits(rules)
    trust_baseline(rules, MODEL)
    absent = f"http://127.0.0.1:{stack.free_port()}"
    with stack.prometheus(folder / "prometheus", rules, incident, absent) as prometheus:
        deadline = time.monotonic() + 240
        fires = f'ALERTS{{alertname="EmbeddingDriftDetected", model_name="{MODEL}"}}'
        while not prometheus.query(fires):
            assert time.monotonic() < deadline, "the incident's alert did not fire"
            time.sleep(0.5)
        yield prometheus


@pytest.fixture(scope="module")
def tool(release: None, tool: Callable[[str], str]) -> Callable[[str], str]:
    """Find the programs of each release."""
    return tool
