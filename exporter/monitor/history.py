"""The drift history: the verdict on a window at one check, and the scores of the past."""

from __future__ import annotations

from datetime import datetime

import psycopg

from exporter.detector.ratio import ChangedRatio
from exporter.monitor.maturing import Score
from exporter.monitor.series import Series
from exporter.monitor.verdict import Verdict
from ingest.runtime.thresholds import Stage
from ingest.store import history
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


def past_scores(
    connection: psycopg.Connection, model_name: str, since: datetime, version: int, stage: Stage
) -> list[Score]:
    """Read the scores of a model since a time, oldest first.

    Those of another baseline than this version, of this stage, count as provisional: automatic
    baselines only mature.
    """
    return [
        Score(window, at, score, stage if measured_by == version else "provisional")
        for window, at, score, measured_by in history.scores(connection, model_name, since)
    ]
