"""Evidence: the vectors of a window and of its baseline, with what clients said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC

import numpy as np
import psycopg

from exporter.detector import Detector
from exporter.explain.explanation import Group
from exporter.explain.observations import TEXT, Observations
from exporter.monitor import baseline, slices
from exporter.monitor.baseline import Baseline
from exporter.monitor.local_time import to_local
from exporter.monitor.slices import Shares
from exporter.monitor.windows import Limits
from exporter.stats.arrays import Vectors
from ingest.runtime.errors import NotFound
from ingest.runtime.settings.settings import ExplanationSettings, Settings
from ingest.store import baselines
from ingest.store import slices as stored_slices
from ingest.store.dimension import require_dimension
from ingest.store.newest import newest
from ingest.store.stored_vector import StoredVector


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an explanation is made from.

    Attributes
    ----------
    detector : Detector
        Of the baseline in use.
    rows, reference_rows : sequence of StoredVector
        The vectors of the window, and of the baseline, in the order of their arrival.
    window, reference : Observations
        The same, as far as `explanation` allows their metadata to be read.
    shares : Shares
        Of the values of the keys in `monitoring.slices`.
    """

    detector: Detector
    rows: Sequence[StoredVector]
    window: Observations
    reference_rows: Sequence[StoredVector]
    reference: Observations
    shares: Shares

    def examples(self, group: Group, with_texts: bool) -> list[dict[str, object]]:
        """Return what is known of the examples of a group."""
        rows = self.rows if group.change == "grown" else self.reference_rows
        return [_told(rows[at], with_texts) for at in group.examples.tolist()]


def gather(
    connection: psycopg.Connection, model_name: str, window_name: str, settings: Settings
) -> Evidence:
    """Read the newest vectors of a window, and those of the baseline in use.

    A window that holds a sample is read as its newest vectors.

    Raises
    ------
    NotFound
        If there is no such model, or it has no baseline.
    """
    dimension = require_dimension(connection, model_name)
    version = baselines.in_use(connection, model_name)
    if version is None:
        raise NotFound(f"model {model_name} has no baseline yet")
    found = baseline.load_or_fit(connection, model_name, version)
    window = dict(settings.monitoring.windows)[window_name]
    most = Limits.of(window, found.detector.n_reference).capacity
    latest, vectors = newest(connection, model_name, dimension, window.seconds, most)
    kept = [at for at, row in enumerate(latest) if row.seq > found.last_seq][::-1]
    rows = [latest[at] for at in kept]
    reference_rows, reference = baselines.described(connection, model_name, version, dimension)
    return Evidence(
        found.detector,
        rows,
        _observed(rows, vectors[kept], found, settings.explanation),
        reference_rows,
        _observed(reference_rows, reference, found, settings.explanation),
        _shares(connection, model_name, rows, reference_rows, version, settings),
    )


def _shares(
    connection: psycopg.Connection,
    model_name: str,
    rows: Sequence[StoredVector],
    reference_rows: Sequence[StoredVector],
    version: int,
    settings: Settings,
) -> Shares:
    keys = settings.monitoring.slices_of(model_name)
    if not keys or not rows:
        return {}
    seqs = [row.seq for row in rows]
    times = [row.received_at.timestamp() for row in rows]
    now = stored_slices.of_vectors(connection, model_name, keys, seqs, min(times), max(times))
    before = stored_slices.of_baseline(connection, model_name, version, keys)
    return slices.compare(
        slices.by_key(keys, seqs, now),
        slices.by_key(keys, [row.seq for row in reference_rows], before),
    )


def _told(row: StoredVector, with_texts: bool) -> dict[str, object]:
    at = row.received_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    told: dict[str, object] = {"seq": row.seq, "id": row.id, "received_at": at}
    return told | {"text": (row.metadata or {}).get(TEXT)} if with_texts else told


def _observed(
    rows: Sequence[StoredVector], vectors: Vectors, found: Baseline, allowed: ExplanationSettings
) -> Observations:
    times = np.array([row.received_at.timestamp() for row in rows], np.float64)
    metadata = [_allowed(row.metadata, allowed) for row in rows]
    return Observations(vectors, metadata, to_local(times, found.zone))


def _allowed(
    metadata: Mapping[str, object] | None, allowed: ExplanationSettings
) -> dict[str, object]:
    return {
        key: value
        for key, value in (metadata or {}).items()
        if (
            allowed.texts != "none"
            if key == TEXT
            else allowed.metadata_keys is None or key in allowed.metadata_keys
        )
    }
