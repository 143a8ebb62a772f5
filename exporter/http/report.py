"""The report behind ``GET /drift/{model_name}``: the verdicts' numbers as JSON."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from exporter.detector.exact import Exact, compare
from exporter.monitor.baseline import Baseline
from exporter.monitor.forecast import History
from exporter.monitor.model import Model, Models
from exporter.monitor.verdict import Measurement, Verdict
from exporter.monitor.windows import Window

Json = dict[str, object]


def listing(models: Models) -> Json:
    """List all models with the state and score of each window."""
    states: defaultdict[str, dict[str, Json]] = defaultdict(dict)
    for model_name, window_name, verdict in models.verdicts():
        measured = verdict.measurement
        states[model_name][window_name] = {
            "state": verdict.state,
            "score": None if measured is None else measured.score,
            "magnitude": None if measured is None else measured.magnitude,
        }
    return {"models": [{"model_name": name, "windows": w} for name, w in states.items()]}


def detail(model: Model, now: float, reference: NDArray[np.float32] | None = None) -> Json:
    """Tell everything known of one model.

    Parameters
    ----------
    model : Model
    now : float
        Seconds since the epoch.
    reference : ndarray of float32, shape (n, d), or None
        The baseline's vectors; with them, every dimension is compared exactly.
    """
    row, baseline, windows = model.row, model.baseline, model.windows
    return {
        "model_name": row.model_name,
        "dimension": row.dimension,
        "vectors": row.last_seq,
        "last_vector_at": row.last_received_at,
        "computed_at": _moment(now),
        "baseline": None if baseline is None else _baseline(baseline),
        "windows": {
            name: _window(model.verdict(name, now), window)
            | _checked(model, name)
            | ({} if reference is None else _compared(reference, windows.vectors(name)))
            for name, window in windows.windows.items()
        },
    }


def _baseline(baseline: Baseline) -> Json:
    return {
        "version": baseline.version,
        "pinned_at": baseline.pinned_at,
        "source": baseline.source,
        "vectors": baseline.detector.n_reference,
        "cosine_similarity": baseline.detector.reference_cosine_similarity,
        "seasonal": baseline.detector.seasonal,
        "quality": asdict(baseline.quality),
    }


def _window(verdict: Verdict, window: Window) -> Json:
    return {
        "state": verdict.state,
        "seconds": window.settings.seconds,
        "min_vectors": window.settings.min_vectors,
        "max_vectors": window.capacity,
        "vectors": verdict.vectors,
        "start": None if verdict.start is None else _moment(verdict.start),
        **({} if verdict.measurement is None else _measurement(verdict.measurement)),
    }


def _checked(model: Model, window_name: str) -> Json:
    """Tell what the last check found out."""
    found: Json = {}
    # Read once each: the tail and the check replace them at any time.
    standing = model.standing
    if (quality := model.quality.get(window_name)) is not None:
        found["quality"] = asdict(quality)
    if (exact := standing.exact.get(window_name)) is not None:
        found["top_dimensions_exact"] = _exact(exact)
    if (history := standing.history.get(window_name)) is not None:
        found["history"] = _history(history)
    return found


def _history(history: History) -> Json:
    changed = None if history.changed_at is None else _moment(history.changed_at)
    return asdict(history) | {"changed_at": changed}


def _measurement(measurement: Measurement) -> Json:
    named = [dimension._asdict() for dimension in measurement.top_dimensions]
    return asdict(measurement) | {"top_dimensions": named}


def _compared(reference: NDArray[np.float32], current: NDArray[np.float32]) -> Json:
    return {"exact": _exact(compare(reference, current))} if len(current) else {}


def _exact(exact: Exact) -> Json:
    return {name: values.tolist() for name, values in asdict(exact).items()}


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
