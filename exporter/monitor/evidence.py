"""Evidence: the vectors of a window and of its baseline, with what clients said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

import numpy as np
import psycopg

from exporter.detector import Detector
from exporter.explain.explanation import Explanation, Group
from exporter.explain.map import Map, shown
from exporter.explain.observations import TEXT, Observations
from exporter.monitor import baseline, slices
from exporter.monitor.baseline import Baseline
from exporter.monitor.local_time import to_local
from exporter.monitor.privacy import permits
from exporter.monitor.recorded import is_readable
from exporter.monitor.slices import Shares, Slice
from exporter.monitor.windows import Limits
from exporter.stats.arrays import Vectors
from ingest.runtime.errors import NotFound
from ingest.runtime.settings.settings import ExplanationSettings, Settings
from ingest.runtime.thresholds import KEPT_SECONDS
from ingest.store import baselines, explanations
from ingest.store import slices as stored_slices
from ingest.store.dimension import require_dimension
from ingest.store.explanations import ExplanationRow
from ingest.store.newest import newest
from ingest.store.stored_vector import StoredVector

_LONGEST_ON_MAP = 80
"""Characters of a text that a map has of each vector."""


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
        Of the values of the keys in `monitoring.slices`; none of a slice.
    """

    detector: Detector
    rows: Sequence[StoredVector]
    window: Observations
    reference_rows: Sequence[StoredVector]
    reference: Observations
    shares: Shares

    def examples(
        self, found: Explanation, allowed: ExplanationSettings
    ) -> dict[str, list[dict[str, object]]]:
        """Return what is known of the examples of each group, by its id."""
        return {group.id: self._examples(group, allowed.texts == "full") for group in found.groups}

    def for_map(self) -> Evidence:
        """Return what a map is drawn from: of the baseline, which may be large, what it shows."""
        rows = shown(len(self.reference))
        return replace(
            self,
            reference_rows=[self.reference_rows[row] for row in rows.tolist()],
            reference=self.reference.take(rows),
        )

    def drawn(
        self, chart: Map, found: Explanation, allowed: ExplanationSettings
    ) -> dict[str, object]:
        """Return a map as JSON objects: positions from -1 to 1, and what is known of each vector.

        Vectors of grown groups have their ids, and the typical ones come first.
        """
        grown = [group for group in found.groups if group.change == "grown"]
        group_of = {row: group.id for group in grown for row in group.rows.tolist()}
        typical = {row for group in grown for row in group.examples.tolist()}
        points = sorted(
            zip(chart.rows.tolist(), chart.window.tolist(), strict=True),
            key=lambda point: point[0] not in typical,
        )
        return {
            "baseline": np.round(chart.baseline, 3).tolist(),
            "regions": [asdict(each) for each in chart.regions],
            "rings": [asdict(each) for each in chart.rings],
            "points": [
                {
                    "x": round(x, 3),
                    "y": round(y, 3),
                    "group": group_of.get(row),
                    **_told(self.rows[row], allowed.texts == "full", _LONGEST_ON_MAP),
                }
                for row, (x, y) in points
            ],
        }

    def _examples(self, group: Group, with_texts: bool) -> list[dict[str, object]]:
        rows = self.rows if group.change == "grown" else self.reference_rows
        return [_told(rows[at], with_texts) for at in group.examples.tolist()]


def gather(
    connection: psycopg.Connection,
    model_name: str,
    window_name: str,
    settings: Settings,
    slice_name: str = "",
) -> Evidence:
    """Read the newest vectors of a window or of a slice of it, and those of the baseline in use.

    A window that holds a sample is read as its newest vectors.

    Raises
    ------
    NotFound
        If there is no such model, it has no baseline, or there is no such slice.
    """
    dimension = require_dimension(connection, model_name)
    version = baselines.in_use(connection, model_name)
    if version is None:
        raise NotFound(f"model {model_name} has no baseline yet")
    found = baseline.load_or_fit(connection, model_name, version)
    window = dict(settings.monitoring.windows)[window_name]
    limits = Limits.of(window, found.detector.n_reference)
    keys = settings.monitoring.slices_of(model_name)
    part = slices.one(connection, model_name, found, keys, slice_name) if slice_name else None
    whole = read(
        connection,
        model_name,
        dimension,
        found,
        limits,
        settings.explanation,
        () if part is not None else keys,
    )
    if part is None or not whole.rows:
        return whole
    capacity = Limits.of(window, part.detector.n_reference).capacity
    return of_slice(connection, model_name, whole, part, version, capacity)


def read(
    connection: psycopg.Connection,
    model_name: str,
    dimension: int,
    found: Baseline,
    limits: Limits,
    allowed: ExplanationSettings,
    keys: Sequence[str] = (),
) -> Evidence:
    """Read the newest vectors of a window with these limits, and those of a baseline.

    Of the keys, the shares of their values are compared.
    """
    seconds, most = limits.settings.seconds, limits.capacity
    latest, vectors = newest(connection, model_name, dimension, seconds, most, found.last_seq)
    rows = latest[::-1]
    reference_rows, reference = baselines.described(
        connection, model_name, found.version, dimension
    )
    return Evidence(
        found.detector,
        rows,
        _observed(rows, vectors[::-1], found, allowed),
        reference_rows,
        _observed(reference_rows, reference, found, allowed),
        _shares(connection, model_name, rows, reference_rows, found.version, keys),
    )


def of_slice(
    connection: psycopg.Connection,
    model_name: str,
    whole: Evidence,
    part: Slice,
    version: int,
    capacity: int,
) -> Evidence:
    """Keep of this evidence what belongs to a slice.

    Of the window, that is at most the ``capacity`` of the slice, its newest vectors.
    """
    values = _values(connection, model_name, whole.rows, whole.reference_rows, version, [part.key])
    ours, theirs = (
        np.flatnonzero(np.array(side[part.key], object) == part.value) for side in values
    )
    ours = ours[-capacity:]
    return Evidence(
        part.detector,
        [whole.rows[row] for row in ours.tolist()],
        whole.window.take(ours),
        [whole.reference_rows[row] for row in theirs.tolist()],
        whole.reference.take(theirs),
        {},
    )


def _shares(
    connection: psycopg.Connection,
    model_name: str,
    rows: Sequence[StoredVector],
    reference_rows: Sequence[StoredVector],
    version: int,
    keys: Sequence[str],
) -> Shares:
    if not keys or not rows:
        return {}
    return slices.compare(*_values(connection, model_name, rows, reference_rows, version, keys))


def _values(
    connection: psycopg.Connection,
    model_name: str,
    rows: Sequence[StoredVector],
    reference_rows: Sequence[StoredVector],
    version: int,
    keys: Sequence[str],
) -> tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]:
    """Read the values of each key, of a window that is not empty and of its baseline."""
    seqs = [row.seq for row in rows]
    times = [row.received_at.timestamp() for row in rows]
    now = stored_slices.of_vectors(connection, model_name, keys, seqs, min(times), max(times))
    before = stored_slices.of_baseline(connection, model_name, version, keys)
    return (
        slices.by_key(keys, seqs, now),
        slices.by_key(keys, [row.seq for row in reference_rows], before),
    )


def recorded(
    connection: psycopg.Connection,
    model_name: str,
    window_name: str | None,
    moment: float,
    allowed: ExplanationSettings,
    slice_name: str = "",
) -> ExplanationRow:
    """Read what was known of a window, or of a slice of it, at a time in seconds since the epoch.

    Without the name of a window, that is the one that drifted; the slow one, if both did.

    Raises
    ------
    NotFound
        If there is no such model, or its window did not drift then, or what was known then says
        more than is allowed now.
    """
    require_dimension(connection, model_name)
    found = [
        row
        for row in explanations.at(connection, model_name, moment, KEPT_SECONDS)
        if window_name in (None, row.window_name) and row.slice == slice_name and is_readable(row)
    ]
    when = f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if not found:
        whose = "" if window_name is None else f"the {window_name} window of "
        part = f" ({slice_name})" if slice_name else ""
        raise NotFound(f"no drift of {whose}{model_name}{part} is known at {when}")
    row = max(found, key=lambda each: each.window_name)
    if not permits(allowed, row.told["texts"], row.told["metadata_keys"]):
        raise NotFound(
            f"what is known of the {row.window_name} window of {model_name} at {when} says more"
            " than the settings explanation.texts and explanation.metadata_keys allow now"
        )
    return row


def _told(row: StoredVector, with_text: bool, longest: int | None = None) -> dict[str, object]:
    at = row.received_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    told: dict[str, object] = {"seq": row.seq, "id": row.id, "received_at": at}
    if not with_text:
        return told
    text = (row.metadata or {}).get(TEXT)
    return told | {"text": text[:longest] if isinstance(text, str) else None}


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
