"""Rows of the drift history: the verdict on a window at one check."""

from __future__ import annotations

from exporter.monitor.series import Series
from exporter.monitor.verdict import Verdict
from ingest.store.history import HistoryRow


def history_row(series: Series, verdict: Verdict, norm: float | None) -> HistoryRow:
    """Convert a verdict to a row of the drift history.

    Parameters
    ----------
    series : Series
    verdict : Verdict
    norm : float or None
        Mean Euclidean norm of the window's vectors.
    """
    measured, version = verdict.measurement, verdict.baseline_version
    if measured is None:
        return HistoryRow(series.model_name, series.window, verdict.state, verdict.vectors, version)
    return HistoryRow(
        series.model_name,
        series.window,
        verdict.state,
        verdict.vectors,
        version,
        measured.score,
        measured.magnitude,
        measured.cosine_similarity,
        norm,
        dict(measured.components),
    )
