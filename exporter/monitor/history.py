"""Rows of the drift history: the verdict on a window at one check."""

from __future__ import annotations

from exporter.detector.ratio import ChangedRatio
from exporter.monitor.series import Series
from exporter.monitor.verdict import Verdict
from ingest.store.history import HistoryRow


def history_row(
    series: Series, verdict: Verdict, norm: float | None, changed: ChangedRatio | None = None
) -> HistoryRow:
    """Convert a verdict to a row of the drift history.

    Parameters
    ----------
    series : Series
    verdict : Verdict
    norm : float or None
        Mean Euclidean norm of the window's vectors.
    changed : ChangedRatio or None
        Share of them that has changed, if it was measured.
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
        score=measured.score,
        changed_ratio=None if changed is None else changed.estimate,
        changed_ratio_lower=None if changed is None else changed.lower,
        changed_ratio_upper=None if changed is None else changed.upper,
        cosine_similarity=measured.cosine_similarity,
        norm=norm,
        components=dict(measured.components),
    )
