"""Models to show, without a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from exporter.detector import Detector
from exporter.detector.ratio import ChangedRatio
from exporter.http.model_page import Past
from exporter.monitor import reporting
from exporter.monitor.baseline import Baseline
from exporter.monitor.model import Model
from exporter.monitor.report import Drift
from exporter.monitor.ring import Arrivals
from exporter.monitor.rise import Rise
from exporter.monitor.series import Series
from exporter.monitor.slices import Slice, SliceFinding, SlicesFinding, Slicing
from exporter.monitor.snapshot import ModelSnapshot
from exporter.monitor.verdict import measure
from exporter.monitor.windows import ModelWindows
from exporter.stats.arrays import Vectors
from exporter.stats.quality import assess
from exporter.stats.shares import Share
from ingest.runtime.settings.settings import MonitoringSettings
from ingest.store.baselines import Version
from ingest.store.changes import ModelRow
from ingest.store.history import HistoryRow, Point
from tests.exporter.explained import explained

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = NOW.timestamp()
ACME, BOLT = "tenant=<b>acme", "tenant=bolt"
HOSTILE = "<script>alert(1)</script>"


def snapshot(name: str) -> ModelSnapshot:
    return Model(ModelRow(name, 8, 0, None, None, None, NOW), MonitoringSettings()).snapshot(
        SECONDS
    )


def detail(name: str) -> Drift:
    return reporting.detail(snapshot(name))


def past(*points: Point, rows: tuple[HistoryRow, ...] = ()) -> Past:
    pinned = Version(7, NOW - timedelta(hours=1), 1_000, NOW, NOW, True, HOSTILE, False)
    return Past(points, {}, rows, [pinned])


def drifting(kind: str = "new content", name: str = "m") -> ModelSnapshot:
    """A snapshot whose fast window drifts and is explained."""
    vectors = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    model = Model(ModelRow(name, 8, 600, NOW, None, 1, NOW), MonitoringSettings())
    detector = Detector.fit(vectors[:500])
    windows = ModelWindows(8, MonitoringSettings(), detector)
    windows.append(Arrivals.numbered(5 + vectors[500:], np.full(100, SECONDS)))
    model.adopt(Baseline(1, NOW, 0, NOW, NOW, True, "x", assess(vectors), detector), windows)
    model.standing.explained = {Series(name, "fast"): explained(SECONDS - 300, name, kind)}
    return model.snapshot(SECONDS)


def scored(
    model: ModelSnapshot, scores: Mapping[tuple[str, str], float], rises: Mapping[str, float] = {}
) -> ModelSnapshot:
    """Give windows of slices other scores, by window and slice, and slices a rise."""
    rise = Rise(rises, SECONDS)
    return replace(
        model,
        slices=tuple(
            replace(
                each,
                verdict=replace(each.verdict, measurement=replace(measured, score=score)),
                findings=replace(each.findings, rise=rise if window == "slow" else None),
            )
            for each in model.slices
            if (measured := each.verdict.measurement) is not None
            for window in [each.series.window]
            for score in [scores.get((window, each.series.slice), 0.3)]
        ),
    )


def sliced(detector: Detector, vectors: Vectors) -> ModelSnapshot:
    """A model whose tenant <b>acme drifts, beside one that does not and a new one."""
    settings = MonitoringSettings(slices=["tenant"])
    model = Model(ModelRow("m", 8, 1_100, NOW, None, 1, NOW), settings)
    windows = ModelWindows(8, MonitoringSettings(), detector)
    windows.append(Arrivals.numbered(vectors[1_000:1_100], np.full(100, SECONDS)))
    pinned = Baseline(1, NOW, 0, NOW, NOW, False, "first", assess(vectors[:1_000]), detector)
    model.adopt(pinned, windows)
    names = ("<b>acme", "bolt")
    parts = [Slice("tenant", name, detector, True) for name in names]
    found = [
        SliceFinding(
            each,
            100,
            SECONDS,
            SECONDS,
            1.0,
            measure(detector, detector.sums(vectors[1_000:1_100] + moved)),
            ChangedRatio(0.5, 0.4, 0.6),
        )
        for each, moved in zip(parts, (np.float32(3), np.float32(0)), strict=True)
    ]
    shares = (
        Share("<b>acme", 0.5, 0.4, 0.2, False),
        Share("bolt", 0.3, 0.6, 1e-9, True),
        Share("new", 0.2, 0.0, 1e-9, True),
    )
    finding = SlicesFinding({"tenant": shares}, tuple(found), SECONDS)
    model.standing.slicing = Slicing(("tenant",), {}, tuple(parts), 7)
    model.standing.attach("slices", {"fast": finding, "slow": finding})
    return model.snapshot(SECONDS)
