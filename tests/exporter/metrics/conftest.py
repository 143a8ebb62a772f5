"""A snapshot that has everything."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from exporter.detector.detector import Detector
from exporter.detector.exact import compare
from exporter.detector.ratio import ChangedRatio
from exporter.monitor.baseline import Baseline
from exporter.monitor.forecast import Forecast
from exporter.monitor.maturing import Maturing
from exporter.monitor.model import Model
from exporter.monitor.ring import Arrivals
from exporter.monitor.rise import Rise
from exporter.monitor.series import Series
from exporter.monitor.slices import Slice, SliceFinding, SlicesFinding, Slicing
from exporter.monitor.snapshot import ExaminationStatus, Magnitude, PollStatus, Snapshot
from exporter.monitor.verdict import measure
from exporter.monitor.windows import ModelWindows
from exporter.stats.arrays import Vectors
from exporter.stats.quality import assess
from exporter.stats.shares import Share
from ingest.runtime.settings.settings import MonitoringSettings
from ingest.runtime.worker import WorkStatus
from ingest.store.changes import ModelRow
from ingest.store.standbys import Standbys
from tests.exporter.explained import explained

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FORECAST = Forecast("daily", 0.5, 0.45, 0.55, -6.5, -0.01, 3.5, 1_700_000_000.0)


@pytest.fixture(scope="package")
def full(vectors: Vectors, detector: Detector) -> Snapshot:
    """A snapshot from which each family has something to read."""
    fresh = vectors[1_000:1_100]
    bare = ModelRow("m", 8, len(fresh), NOW, None, None, NOW)
    row = replace(
        bare,
        canaries_received_at=NOW,
        canary_median_distance=1e-8,
        canary_max_distance=1e-7,
        canary_gap=60.0,
        mismatched_dimension=4,
        mismatched_at=NOW,
    )
    model = Model(row, MonitoringSettings(slices=["tenant"]))
    windows = ModelWindows(8, MonitoringSettings(), detector)
    cosines = np.full(len(fresh), 0.5, np.float32)
    windows.append(Arrivals.numbered(fresh, np.full(len(fresh), NOW.timestamp()), cosines=cosines))
    model.adopt(
        Baseline(1, NOW, 0, NOW, NOW, False, "first 1000", assess(vectors[:1_000]), detector),
        windows,
    )
    model.standing.explained = {Series("m", "fast"): explained(NOW.timestamp())}
    exact = compare(vectors[:1_000], fresh, [5])
    model.standing.attach("quality", {"fast": assess(fresh)})
    magnitude = Magnitude(ChangedRatio(0.12, 0.09, 0.15), NOW.timestamp())
    model.standing.attach("magnitude", {"fast": magnitude})
    model.standing.attach("exact", {"fast": exact})
    model.standing.attach("forecast", {"fast": FORECAST})
    risen = Rise({"": 1.25, "tenant=acme": 2.5}, NOW.timestamp())
    model.standing.attach("rise", {"slow": risen})
    model.maturing = Maturing("daily", NOW.timestamp(), "time")
    acme = Slice("tenant", "acme", detector, True)
    model.standing.slicing = Slicing(("tenant",), {"tenant": ["acme"] * 1_000}, (acme,), 0)
    measured = measure(acme.detector, acme.detector.sums(fresh))
    found = SliceFinding(
        acme, 100, NOW.timestamp(), NOW.timestamp(), 1.0, measured, ChangedRatio(0.1, 0.0, 0.2)
    )
    shares = {"tenant": (Share("acme", 1.0, 0.9, 0.5, False),)}
    sliced = SlicesFinding(shares, (found,), NOW.timestamp())
    model.standing.attach("slices", {"fast": sliced, "slow": sliced})
    followed = model.snapshot(NOW.timestamp())
    return Snapshot(
        (followed, replace(followed, not_followed="behind")),
        PollStatus(True, 1_000.0, 0.25, 3),
        WorkStatus(True, 900.0, 1.5, 2),
        300.0,
        {"quality": ExaminationStatus(True, 0.5)},
        standbys=Standbys(1, 2, 0),
    )
