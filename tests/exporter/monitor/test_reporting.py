"""Reports: JSON whose numbers come from one snapshot."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.detector.exact import compare
from exporter.detector.ratio import ChangedRatio
from exporter.monitor import reporting
from exporter.monitor.baseline import Baseline
from exporter.monitor.model import Model
from exporter.monitor.report import ListedModel
from exporter.monitor.ring import Arrivals
from exporter.monitor.rise import Rise
from exporter.monitor.snapshot import Magnitude
from exporter.monitor.windows import ModelWindows
from exporter.stats.quality import Quality
from ingest.runtime.settings.settings import MonitoringSettings
from ingest.store.changes import ModelRow
from tests.exporter.explained import explained
from tests.exporter.shown import ACME, BOLT, SECONDS, scored, sliced

Vectors = NDArray[np.float32]

TOKYO = timezone(timedelta(hours=9))
NOW = datetime(2026, 1, 1, 9, tzinfo=TOKYO)
RATIO = ChangedRatio(0.12, 0.09, 0.15)
QUALITY = Quality(norm=float("nan"), effective_rank=6.5, dead_dimensions=1, duplicate_ratio=0.25)


@pytest.fixture
def model(vectors: Vectors, detector: Detector) -> Model:
    """A model with 100 vectors newer than its baseline."""
    model = Model(ModelRow("m", 8, 1_100, NOW, None, 1, NOW), MonitoringSettings())
    windows = ModelWindows(8, MonitoringSettings(), detector)
    windows.append(Arrivals.numbered(vectors[1_000:1_100], np.full(100, NOW.timestamp())))
    model.adopt(Baseline(1, NOW, 0, NOW, NOW, False, "first 1000", QUALITY, detector), windows)
    return model


def encoded(value: object) -> dict[str, object]:
    found: dict[str, object] = json.loads(msgspec.json.encode(value))
    return found


def test_a_model_that_is_measured_is_listed_with_its_score(model: Model) -> None:
    model.standing.attach("magnitude", {"slow": Magnitude(RATIO, NOW.timestamp())})
    snapshot = model.snapshot(NOW.timestamp())
    measured = snapshot.series[0].verdict.measurement
    assert measured is not None
    window = {
        "state": "ok",
        "vectors": 100,
        "score": measured.score,
        "magnitude": None,
        "cause": None,
        "rise": None,
    }
    assert encoded(reporting.listed(snapshot)) == {
        "model_name": "m",
        "stage": "provisional",
        "age": 0.0,
        "overdue": False,
        "windows": {"fast": window, "slow": window | {"magnitude": 0.12}},
        "watched": 1,
        "slices": [],
    }


def test_a_magnitude_is_shown_with_its_interval_and_its_time(model: Model) -> None:
    model.standing.attach("magnitude", {"slow": Magnitude(RATIO, NOW.timestamp())})
    windows = reporting.detail(model.snapshot(NOW.timestamp())).windows
    assert windows.fast.magnitude is msgspec.UNSET
    assert msgspec.to_builtins(windows.slow.magnitude, builtin_types=[datetime]) == {
        "estimate": 0.12,
        "lower": 0.09,
        "upper": 0.15,
        "computed_at": NOW,
    }


def test_a_rise_is_shown_where_it_is_known_and_the_window_is_measured(model: Model) -> None:
    at = NOW.timestamp()
    model.standing.attach("rise", {"slow": Rise({"": 1.25, "tenant=acme": 3.0}, at)})
    windows = reporting.detail(model.snapshot(at)).windows
    assert (windows.fast.rise, windows.slow.rise) == (msgspec.UNSET, 1.25)
    listed = reporting.listed(model.snapshot(at)).windows
    assert (listed.fast.rise, listed.slow.rise) == (None, 1.25)
    assert reporting.detail(model.snapshot(at + 901)).windows.slow.rise is msgspec.UNSET
    model.settings = model.settings.model_copy(update={"stale_after": 60})
    assert reporting.detail(model.snapshot(at + 61)).windows.slow.rise is msgspec.UNSET


def test_a_report_of_an_exporter_that_knew_no_rise_is_read(model: Model) -> None:
    at = NOW.timestamp()
    model.standing.attach("rise", {"slow": Rise({"": 1.25}, at)})
    written = msgspec.json.encode(reporting.listed(model.snapshot(at)))
    assert msgspec.json.decode(written, type=ListedModel).windows.slow.rise == 1.25
    older = re.sub(rb',"rise":[^}]+', b"", written)
    assert b"rise" not in older
    assert msgspec.json.decode(older, type=ListedModel).windows.slow.rise is None


def test_a_model_that_is_not_measured_is_listed_with_its_state() -> None:
    new = Model(ModelRow("m", 8, 0, None, None, None, NOW), MonitoringSettings())
    unknown = dict.fromkeys(("score", "magnitude", "cause", "rise"))
    window = {"state": "no_baseline", "vectors": 0, **unknown}
    assert encoded(reporting.listed(new.snapshot(NOW.timestamp()))) == {
        "model_name": "m",
        "stage": None,
        "age": 0.0,
        "overdue": False,
        "windows": {"fast": window, "slow": window},
        "watched": 0,
        "slices": [],
    }


def test_a_report_that_was_stored_is_read_as_it_was(model: Model, vectors: Vectors) -> None:
    model.standing.attach("magnitude", {"slow": Magnitude(RATIO, NOW.timestamp())})
    exact = compare(vectors[:1_000], vectors[1_000:1_100], [5])
    model.standing.attach("exact", {"fast": exact})
    model.standing.attach("quality", {"fast": QUALITY})
    snapshot = model.snapshot(NOW.timestamp())
    for made in (reporting.detail(snapshot), reporting.listed(snapshot)):
        text = msgspec.json.encode(made)
        read = msgspec.json.decode(text, type=type(made))
        assert msgspec.json.encode(read) == text


def test_numbers_that_are_not_known_are_absent_and_what_is_not_finite_is_null(
    model: Model,
) -> None:
    new = Model(ModelRow("m", 8, 0, None, None, None, NOW), MonitoringSettings())
    found = msgspec.to_builtins(reporting.detail(new.snapshot(NOW.timestamp())))
    assert found["baseline"] is None
    assert set(found["windows"]["fast"]) == {
        "state",
        "seconds",
        "min_vectors",
        "max_vectors",
        "vectors",
        "sampled_ratio",
        "start",
        "revisions",
    }
    text = msgspec.json.encode(reporting.detail(model.snapshot(NOW.timestamp())))
    assert json.loads(text)["baseline"]["quality"]["norm"] is None


def test_times_are_utc_whatever_the_session_of_the_store_says(model: Model) -> None:
    found = json.loads(msgspec.json.encode(reporting.detail(model.snapshot(NOW.timestamp()))))
    moments = {found["last_vector_at"], found["computed_at"], found["baseline"]["pinned_at"]}
    assert moments == {"2026-01-01T00:00:00Z"}


def test_findings_are_shown_with_their_window(model: Model, vectors: Vectors) -> None:
    exact = compare(vectors[:1_000], vectors[1_000:1_100], [5])
    model.standing.attach("exact", {"fast": exact})
    model.standing.attach("quality", {"fast": QUALITY})
    windows = msgspec.to_builtins(reporting.detail(model.snapshot(NOW.timestamp())))["windows"]
    assert windows["fast"]["top_dimensions_exact"]["dimension"] == [5]
    assert windows["fast"]["top_dimensions_exact"]["ks"] == exact.ks.tolist()
    assert windows["fast"]["quality"]["effective_rank"] == 6.5
    assert windows["fast"]["history"]["state"] == "too_short"
    assert "quality" not in windows["slow"]


def test_canaries_are_reported_in_utc_or_as_null() -> None:
    bare = ModelRow("m", 8, 0, None, None, None, NOW)
    row = replace(
        bare, canaries_received_at=NOW, canary_median_distance=2.4e-8, canary_max_distance=0.5
    )
    with_canaries = Model(row, MonitoringSettings()).snapshot(NOW.timestamp())
    assert encoded(reporting.canaries(with_canaries)) == {
        "received_at": "2026-01-01T00:00:00Z",
        "median_distance": 2.4e-8,
        "max_distance": 0.5,
        "longest_gap": None,
    }
    without = Model(ModelRow("m", 8, 0, None, None, None, NOW), MonitoringSettings())
    assert encoded(reporting.detail(without.snapshot(NOW.timestamp())))["canaries"] is None


def test_the_report_has_the_shares_and_the_windows_of_slices(
    detector: Detector, vectors: Vectors
) -> None:
    told = reporting.detail(sliced(detector, vectors))
    assert told.slices_folded == 7
    [tenant] = told.slices
    assert tenant.key == "tenant"
    assert [(each.value, each.share, each.changed) for each in tenant.values] == [
        ("<b>acme", 0.5, False),
        ("bolt", 0.3, True),
        ("new", 0.2, True),
    ]
    acme, bolt, new = (each.windows for each in tenant.values)
    assert new is None
    assert acme is not None
    assert bolt is not None
    assert acme.fast is not None
    assert acme.fast.state == "ok"
    assert acme.fast.vectors == 100
    assert acme.fast.magnitude is not None
    assert acme.fast.magnitude.lower == 0.4
    assert bolt.slow is not None
    assert (acme.fast.score or 0) > 15 > (bolt.slow.score or 0)


@pytest.mark.parametrize(
    ("acme", "bolt", "rise", "is_explained", "worst"),
    [
        (3.0, 2.0, 0.0, False, ACME),
        (3.0, 2.0, 31.0, False, BOLT),
        (50.0, 2.0, 31.0, False, ACME),
        (50.0, 2.0, 31.0, True, BOLT),
        (38.0, 33.0, 0.0, True, BOLT),
        (38.0, 33.0, 0.0, False, ACME),
        (3.0, 2.0, 0.0, True, ACME),
    ],
    ids=[
        "the highest score",
        "a rise before a score without drift",
        "the highest of two that drift",
        "what is explained before what drifts by the thresholds of one model",
        "the average of an hour, which is explained",
        "a score that nothing says more about",
        "an explanation that is kept for some time after the drift",
    ],
)
def test_a_model_is_listed_with_the_slice_that_drifts(
    acme: float,
    bolt: float,
    rise: float,
    is_explained: bool,
    worst: str,
    detector: Detector,
    vectors: Vectors,
) -> None:
    scores = {("slow", ACME): acme, ("slow", BOLT): bolt}
    model = scored(sliced(detector, vectors), scores, {BOLT: rise})
    row = explained(SECONDS)
    told = tuple(
        replace(each, explanation=row if is_explained and each.series.slice == BOLT else None)
        for each in model.slices
    )
    _, slow = reporting.listed(replace(model, slices=told)).slices
    assert (slow.window, slow.slice) == ("slow", worst)
