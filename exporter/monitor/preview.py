"""Preview: what is known of the vectors of a baseline before it is pinned."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg

from exporter.detector.ratio import ChangedRatio
from exporter.detector.waves import known_seasons
from exporter.monitor import baseline, maturing
from exporter.monitor.history import past_scores
from exporter.monitor.local_time import to_local
from exporter.monitor.windows import REFERENCE_RATIO
from exporter.stats.thinning import thinned
from ingest.runtime.settings.settings import MonitoringSettings
from ingest.runtime.thresholds import STEADY, Stage
from ingest.store import baselines, explanations
from ingest.store.selection import Selection, select


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
        Whether the selected vectors are drift, or there was drift within the last minutes, of all
        vectors or of a slice.
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
    stage : Stage
        That a baseline of them would have.
    comparison : Comparison or None
        None if there are none, or the model has no baseline.
    """

    vectors: int
    first_at: datetime | None
    last_at: datetime | None
    stage: Stage
    comparison: Comparison | None


def preview(
    connection: psycopg.Connection,
    model_name: str,
    selection: Selection,
    settings: MonitoringSettings,
    now: datetime,
) -> Preview:
    """Read the vectors of a selection, and compare them with the baseline in use.

    Parameters
    ----------
    connection : psycopg.Connection
    model_name : str
    selection : Selection
    settings : MonitoringSettings
    now : datetime

    Raises
    ------
    NotFound
        If there is no such model.
    ValueError
        If this version cannot read the baseline in use.
    """
    rows = select(connection, model_name, selection)
    if not len(rows):
        return Preview(0, None, None, "provisional", None)
    first, last = (datetime.fromtimestamp(at, UTC) for at in rows["received_at"][[0, -1]])
    version = baselines.in_use(connection, model_name)
    compared = None
    if version is not None:
        used = baseline.load_or_fit(connection, model_name, version)
        most = used.detector.n_reference // REFERENCE_RATIO
        sample = rows[thinned(len(rows), most)]
        local = to_local(sample["received_at"], used.zone)
        score = used.detector.score(used.detector.sums(sample["embedding"], local))
        recently = now - timedelta(seconds=maturing.recent_seconds(settings.check_interval))
        since, recent = min(first, recently), recently.timestamp()
        drift = np.array(
            list(maturing.drift(past_scores(connection, model_name, since, version, used.stage))),
            dtype=np.float64,
        ).reshape(-1, 2)
        times, drifted = drift.T
        inside = drifted[(times >= first.timestamp()) & (times <= last.timestamp())]
        compared = Comparison(
            version,
            score,
            used.detector.changed_ratio(sample["embedding"]),
            float(inside.mean()) if len(inside) else None,
            score > STEADY[used.stage]["slow"].lasting
            or bool(drifted[times > recent].any())
            # The scores of the windows show neither a rise over the week before nor a slice.
            or max(explanations.last_seen(connection, model_name, version)) >= recent,
        )
    stage = maturing.stage_of(known_seasons(to_local(rows["received_at"], settings.zone)))
    return Preview(len(rows), first, last, stage, compared)
