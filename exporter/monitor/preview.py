"""Preview: what is known of the vectors of a baseline before it is pinned."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg

from exporter.detector.ratio import ChangedRatio
from exporter.monitor import baseline, maturing
from exporter.monitor.history import past_scores
from exporter.monitor.windows import REFERENCE_RATIO
from ingest.store import baselines
from ingest.store.selection import Selection, select

RECENT = timedelta(minutes=15)
"""As long as an alert keeps firing after its last sign of drift."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the baseline in use says of the selected vectors.

    Attributes
    ----------
    version : int
        Of the baseline in use.
    score : float
        Of the selected vectors, or of an even sample if they are more than it calibrates.
    changed : ChangedRatio
        Share of them that it does not explain.
    alarm_ratio : float or None
        Share of the recorded scores in their span that were drift; None without any.
    drifts : bool
        Whether there was drift within the last minutes.
    """

    version: int
    score: float
    changed: ChangedRatio
    alarm_ratio: float | None
    drifts: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """The vectors of a selection.

    Attributes
    ----------
    vectors : int
    first_at, last_at : datetime or None
        When the oldest and the newest of them arrived; None if there are none.
    comparison : Comparison or None
        None if there are none, or the model has no baseline.
    """

    vectors: int
    first_at: datetime | None
    last_at: datetime | None
    comparison: Comparison | None


def preview(
    connection: psycopg.Connection, model_name: str, selection: Selection, now: datetime
) -> Preview:
    """Read the vectors of a selection, and compare them with the baseline in use.

    Raises
    ------
    NotFound
        If there is no such model.
    ValueError
        If this version cannot read the baseline in use.
    """
    rows = select(connection, model_name, selection)
    if not len(rows):
        return Preview(0, None, None, None)
    first, last = (datetime.fromtimestamp(at, UTC) for at in rows["received_at"][[0, -1]])
    version = baselines.in_use(connection, model_name)
    compared = None
    if version is not None:
        used = baseline.load(connection, model_name, version)
        most = used.detector.n_reference // REFERENCE_RATIO
        sample = rows[:: -(-len(rows) // most)]
        sums = used.detector.sums(sample["embedding"], sample["received_at"])
        since = min(first, now - RECENT)
        drift = np.array(
            list(maturing.drift(past_scores(connection, model_name, since, version, used.stage))),
            dtype=np.float64,
        ).reshape(-1, 2)
        inside = drift[drift[:, 0] <= last.timestamp(), 1]
        recent = drift[drift[:, 0] > (now - RECENT).timestamp(), 1]
        compared = Comparison(
            version,
            used.detector.score(sums),
            used.detector.changed_ratio(sample["embedding"]),
            float(inside.mean()) if len(inside) else None,
            bool(recent.any()),
        )
    return Preview(len(rows), first, last, compared)
