"""Metric families: each is defined once, and reads its samples from a snapshot."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from exporter.detector.detector import Detector
from exporter.detector.exact import compare
from exporter.detector.ratio import ChangedRatio
from exporter.metrics import families
from exporter.metrics.families import FAMILIES
from exporter.metrics.shapes import SnapshotFamily
from exporter.monitor.baseline import Baseline
from exporter.monitor.forecast import Forecast
from exporter.monitor.maturing import Maturing
from exporter.monitor.model import Model
from exporter.monitor.ring import Arrivals
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


def test_names_are_unique_and_follow_prometheus() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    for family in FAMILIES:
        assert family.name.startswith("embedding_drift_")
        assert family.name.endswith("_total") == (family.type == "counter")
        assert family.help.endswith(".")


def test_every_family_of_the_module_is_on_the_page() -> None:
    defined = {each for each in vars(families).values() if isinstance(each, SnapshotFamily)}
    assert defined == set(FAMILIES)


@pytest.fixture(scope="module")
def full(vectors: Vectors, detector: Detector) -> Snapshot:
    """A snapshot from which each family has something to read."""
    fresh = vectors[1_000:1_100]
    canaries = {"canary_median_distance": 1e-8, "canary_max_distance": 1e-7, "canary_gap": 60.0}
    row = ModelRow("m", 8, len(fresh), NOW, None, None, NOW, canaries_received_at=NOW, **canaries)
    model = Model(row, MonitoringSettings())
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
        {"quality": ExaminationStatus(True, 0.5)},
        standbys=Standbys(1, 2, 0),
    )


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_each_family_has_samples_with_the_labels_that_it_declares(
    family: SnapshotFamily, full: Snapshot
) -> None:
    samples = list(family.read(full))
    assert samples
    for labels, value in samples:
        assert len(labels) == len(family.labels)
        assert all(isinstance(label, str) for label in labels)
        assert isinstance(value, int | float)


def test_what_is_not_known_has_no_sample() -> None:
    empty = Snapshot(())
    assert list(families.POLL_TIMESTAMP.read(empty)) == []
    assert list(families.UP.read(empty)) == [((), 0.0)]
    assert list(families.SCORE.read(empty)) == []


def test_slices_have_series_of_their_own_in_few_families(full: Snapshot) -> None:
    sliced = {
        family.name
        for family in FAMILIES
        for labels, _ in family.read(full)
        if "window" in family.labels and "tenant=acme" in labels
    }
    assert sliced == {
        "embedding_drift_state",
        "embedding_drift_score",
        "embedding_drift_magnitude",
        "embedding_drift_magnitude_lower",
        "embedding_drift_magnitude_upper",
        "embedding_drift_window_vectors",
    }


def test_shares_of_values_are_told_once_for_all_windows(full: Snapshot) -> None:
    one_model = replace(full, models=full.models[:1])
    assert list(families.SLICE_RATIO.read(one_model)) == [(("m", "tenant", "acme"), 1.0)]
    assert list(families.SLICE_BASELINE_RATIO.read(one_model)) == [(("m", "tenant", "acme"), 0.9)]
