"""Baselines: a detector fitted to pinned vectors, and where it comes from."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import psycopg
from numpy.typing import NDArray

from exporter.detector.codec import Outdated
from exporter.detector.detector import MIN_REFERENCE, Detector
from exporter.detector.waves import known_seasons
from exporter.monitor import fit_process
from exporter.monitor.fit_process import Fitted
from exporter.monitor.local_time import to_local
from exporter.monitor.maturing import stage_of
from exporter.stats.arrays import Floats
from exporter.stats.outliers import outliers
from exporter.stats.quality import Quality
from ingest.runtime import time_zone
from ingest.runtime.errors import NotFound
from ingest.runtime.thresholds import Stage
from ingest.store import baselines, changes, copy
from ingest.store.dimension import require_dimension
from ingest.store.pool import Borrow
from ingest.store.selection import Selection, select

_log = logging.getLogger(__name__)

_SAME = 1 - 1e-5
"""Mean cosine similarity to the centroid above which the vectors differ by rounding only."""
_PARTS = 8
"""Parts of the time of a baseline, of each of which more vectors are read."""
_NAMED = 10
"""Numbers of absurd vectors that are logged, at most."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A version of a model's baseline, ready to measure against.

    Attributes
    ----------
    version : int
    pinned_at : datetime
    last_seq : int
        Number of its newest vector; only later ones are measured against it.
    first_at, last_at : datetime
        When its oldest and its newest vector arrived or were made.
    matures : bool
        Whether the exporter may replace it by one that has seen more.
    source : str
        How its vectors were selected.
    quality : Quality
        Of its vectors.
    detector : Detector
    zone : ZoneInfo
        The detector's times are local times of this zone; see `local_time`.
    used_at : datetime or None
        When it was pinned or chosen last, in the store.
    """

    version: int
    pinned_at: datetime
    last_seq: int
    first_at: datetime
    last_at: datetime
    matures: bool
    source: str
    quality: Quality
    detector: Detector
    zone: ZoneInfo = time_zone.UTC
    used_at: datetime | None = None

    @property
    def stage(self) -> Stage:
        """How much of the usual traffic it has seen."""
        return stage_of(self.detector.seasons)

    @property
    def varies(self) -> bool:
        """Whether its vectors differ, so that a distance from them means something."""
        return _varies(self.detector, self.quality)


class Fit(NamedTuple):
    """A detector that was fitted to vectors, before both are stored.

    Attributes
    ----------
    rows : structured ndarray, shape (n,)
        As :func:`ingest.store.selection.select` returns them, without absurd vectors.
    source : str
        How they were selected, for people.
    zone : ZoneInfo
        The detector's times are local times of this zone.
    detector : Detector
    quality : Quality
        Of the vectors.
    """

    rows: NDArray[np.void]
    source: str
    zone: ZoneInfo
    detector: Detector
    quality: Quality

    @property
    def stage(self) -> Stage:
        """How much of the usual traffic they show."""
        return stage_of(self.detector.seasons)

    @property
    def varies(self) -> bool:
        """Whether the vectors differ, so that a distance from them means something."""
        return _varies(self.detector, self.quality)


def fit(
    model_name: str,
    rows: NDArray[np.void],
    source: str,
    zone: ZoneInfo,
    more: Iterable[NDArray[np.void]] = (),
) -> Fit:
    """Fit a detector to vectors, without those that are absurdly long.

    Its seasons follow the local time of a zone. ``more`` are vectors of the same time, in batches,
    that tell more exactly which means to expect; those among ``rows`` count once.

    Raises
    ------
    ValueError
        If none can be fitted to them: see :meth:`Detector.fit`.
    """
    rows, source = _sound(model_name, rows, source)
    fitted = _fit_rows(model_name, rows, zone, more)
    return Fit(rows, source, zone, fitted.detector, fitted.quality)


def parts(start: float, end: float) -> Iterator[tuple[float, float]]:
    """Divide a span of seconds. Of each part, as many more vectors are read as a baseline has."""
    return pairwise(np.linspace(start, end, _PARTS + 1).tolist())


def pin(
    connection: psycopg.Connection,
    model_name: str,
    selection: Selection,
    zone: ZoneInfo = time_zone.UTC,
) -> int:
    """Fit a detector to stored vectors, and store both as the baseline in use.

    Its seasons follow the local time of a zone. If vectors are selected by their arrival, others of
    the same time tell more exactly which means to expect, as for an automatic baseline.

    Returns
    -------
    int
        The version pinned.

    Raises
    ------
    NotFound
        If there is no such model.
    ValueError
        If no vectors are selected, or no detector can be fitted to them: see :meth:`Detector.fit`.
    """
    rows = select(connection, model_name, selection)
    if not len(rows):
        raise ValueError("no vectors are selected")
    more = _others(lambda: nullcontext(connection), model_name, selection.arrived, selection.most)
    found = fit(model_name, rows, str(selection), zone, more)
    version = _store(connection, model_name, found, None)
    assert version is not None
    return version


def pin_first(
    borrow: Borrow, model_name: str, vectors: int, zone: ZoneInfo = time_zone.UTC
) -> int | None:
    """Pin the first n vectors of a model automatically.

    Like all that is done automatically, it keeps no connection during the fit.

    Returns
    -------
    int or None
        The version pinned, or None if there is a baseline by now.

    Raises
    ------
    NotFound
        If there is no such model.
    ValueError
        If fewer vectors are stored, or no detector can be fitted to them.
    """
    selection = Selection(first=vectors)
    with borrow() as connection:
        if baselines.in_use(connection, model_name) is not None:
            return None
        # The times first: vectors that are too few would be read for nothing.
        count = len(changes.first_arrivals(connection, model_name, vectors))
        if count < vectors:
            # Some have expired already, or the model was removed and created again.
            raise ValueError(f"not all of the {vectors} vectors of a first baseline are stored")
        rows = select(connection, model_name, selection)
    return pin_next(borrow, model_name, fit(model_name, rows, str(selection), zone), 0)


def pin_early(
    borrow: Borrow, model_name: str, vectors: int, least: int, zone: ZoneInfo = time_zone.UTC
) -> int | None:
    """Pin all vectors of a model so far, at most n, if they show its week; log why they do not.

    Returns
    -------
    int or None
        The version pinned, or None if they are too few, they vary too little, they do not fill a
        week, or there is a baseline by now.

    Raises
    ------
    NotFound
        If there is no such model.
    ValueError
        If no detector can be fitted to them.
    """
    with borrow() as connection:
        if baselines.in_use(connection, model_name) is not None:
            return None
        # The times first: a model that fills no week would have its vectors read for nothing.
        times = changes.first_arrivals(connection, model_name, vectors)
        count = len(times)
        if count < least:
            _tell_early(model_name, f"{count} vectors are stored, and it needs {least}")
            return None
        if not fills_week(times, zone):
            _tell_early(model_name, f"{count} vectors do not fill a week")
            return None
        rows = select(connection, model_name, Selection(first=count))
    made = fit(model_name, rows, str(Selection(first=len(rows))), zone)
    if not made.varies:
        _tell_early(model_name, "they hardly differ")
        return None
    if made.stage != "weekly":
        _tell_early(model_name, "without those that come often, they do not fill a week")
        return None
    return pin_next(borrow, model_name, made, 0)


def fills_week(times: Floats, zone: ZoneInfo) -> bool:
    """Return whether vectors that arrived then, in seconds since the epoch, show a week."""
    return stage_of(known_seasons(to_local(times, zone))) == "weekly"


def _tell_early(model_name: str, detail: str) -> None:
    extra = {"model_name": model_name, "detail": detail}
    _log.info("first baseline not pinned yet", extra=extra)


def pin_another(
    borrow: Borrow,
    model_name: str,
    vectors: int,
    instead_of: int,
    zone: ZoneInfo = time_zone.UTC,
) -> int | None:
    """Pin the last n vectors of a model automatically, if they vary.

    Returns
    -------
    int or None
        The version pinned, or None if they do not vary, or another version than ``instead_of`` is
        in use by now.

    Raises
    ------
    NotFound
        If there is no such model.
    ValueError
        If no detector can be fitted to them.
    """
    selection = Selection(last=vectors)
    with borrow() as connection:
        if baselines.in_use(connection, model_name) != instead_of:
            return None
        rows = select(connection, model_name, selection)
    found = fit(model_name, rows, str(selection), zone)
    return pin_next(borrow, model_name, found, instead_of) if found.varies else None


def pin_next(borrow: Borrow, model_name: str, found: Fit, instead_of: int) -> int | None:
    """Pin what was fitted automatically.

    Returns
    -------
    int or None
        The version pinned, or None if another version than ``instead_of`` is in use by now.

    Raises
    ------
    NotFound
        If there is no such model.
    """
    with borrow() as connection:
        return _store(connection, model_name, found, instead_of)


def pin_vectors(
    connection: psycopg.Connection,
    model_name: str,
    vectors: NDArray[np.float32],
    times: NDArray[np.float64],
    source: str,
    zone: ZoneInfo = time_zone.UTC,
) -> int:
    """Fit a detector to vectors from outside the store; store both as the baseline in use.

    Parameters
    ----------
    connection : psycopg.Connection
    model_name : str
        The model is added when there is none.
    vectors : ndarray of float32, shape (n, d)
    times : ndarray of float64, shape (n,)
        When they were made, in seconds since the epoch, in order.
    source : str
        Where they are from, for people.
    zone : ZoneInfo
        Time zone whose local time the seasons follow.

    Returns
    -------
    int
        The version pinned.

    Raises
    ------
    DimensionMismatch
        If the model's vectors have another dimension.
    ValueError
        If no detector can be fitted to the vectors: see :meth:`Detector.fit`.
    """
    rows = np.empty(len(vectors), copy.row_type(vectors.shape[1]))
    rows["seq"] = np.arange(1, len(rows) + 1)
    rows["received_at"] = times
    rows["embedding"] = vectors
    found = fit(model_name, rows, source, zone)
    version = baselines.create_from_vectors(
        connection,
        model_name,
        found.rows,
        found.detector.to_bytes(),
        asdict(found.quality),
        found.source,
        found.zone.key,
    )
    _log_pinned(model_name, version, found.rows)
    return version


def load(connection: psycopg.Connection, model_name: str, version: int) -> Baseline:
    """Load one version of a model's baseline.

    Raises
    ------
    NotFound
        If there is no such version.
    Outdated
        If an earlier version of this project wrote its detector: see :func:`fit_again`.
    ValueError
        If it was written by a version of this project that this one cannot read, or this machine
        does not know its time zone.
    """
    stored = baselines.load(connection, model_name, version)
    return _loaded(stored, Detector.from_bytes(stored.detector))


def load_or_fit(connection: psycopg.Connection, model_name: str, version: int) -> Baseline:
    """Do the same, but fit a detector again if the stored one is outdated.

    Nothing is stored, so that a connection to a replica will do.
    """
    stored = baselines.load(connection, model_name, version)
    try:
        detector = Detector.from_bytes(stored.detector)
    except Outdated:
        detector = _fitted_again(lambda: nullcontext(connection), model_name, stored)
    return _loaded(stored, detector)


def _loaded(stored: baselines.StoredBaseline, detector: Detector) -> Baseline:
    try:
        quality = Quality(**stored.quality)
    except TypeError as error:
        raise ValueError(f"quality of other fields: {', '.join(stored.quality)}") from error
    return Baseline(
        stored.version,
        stored.pinned_at,
        stored.last_seq,
        stored.first_at,
        stored.last_at,
        stored.matures,
        stored.source,
        quality,
        detector,
        time_zone.find(stored.time_zone),
        stored.used_at,
    )


def fit_again(borrow: Borrow, model_name: str, version: int) -> None:
    """Replace the stored detector of a baseline by one that this version of the project fits.

    Raises
    ------
    NotFound
        If there is no such version.
    ValueError
        If no detector can be fitted to its vectors, or this machine does not know its time zone.
    """
    with borrow() as connection:
        stored = baselines.load(connection, model_name, version)
    detector = _fitted_again(borrow, model_name, stored)
    with borrow() as connection:
        baselines.replace_detector(
            connection, model_name, version, stored.pinned_at, detector.to_bytes()
        )


def reference(connection: psycopg.Connection, model_name: str, version: int) -> NDArray[np.void]:
    """Read the vectors of one version of a model's baseline; see `baselines.rows`.

    Raises
    ------
    NotFound
        If there is no such version.
    """
    components = require_dimension(connection, model_name)
    rows = baselines.rows(connection, model_name, version, components)
    if not len(rows):
        raise NotFound(f"baseline {version} of model {model_name} was dropped")
    return rows


def _fitted_again(borrow: Borrow, model_name: str, stored: baselines.StoredBaseline) -> Detector:
    with borrow() as connection:
        rows = reference(connection, model_name, stored.version)
    rows, _ = _sound(model_name, rows, f"baseline {stored.version}")

    # What a person pinned need not be from the store, and whether it was pinned by its arrival is
    # not stored. Who chose a version did not choose the others.
    span = (stored.first_at, stored.last_at) if stored.automatic else None
    more = _others(borrow, model_name, span, len(rows))
    # Its quality is stored. To assess it once more takes less than a tenth of the fit.
    return _fit_rows(model_name, rows, time_zone.find(stored.time_zone), more).detector


def _others(
    borrow: Borrow, model_name: str, span: tuple[datetime, datetime] | None, most: int
) -> Iterator[NDArray[np.void]]:
    """Read vectors of each part of a span, at most so many; none without a span."""
    if span is None:
        return
    for part in parts(span[0].timestamp(), span[1].timestamp()):
        with borrow() as connection:
            rows = select(connection, model_name, Selection(arrived=_moments(part), most=most))
        yield rows


def _moments(span: tuple[float, float]) -> tuple[datetime, datetime]:
    start, end = (datetime.fromtimestamp(seconds, UTC) for seconds in span)
    return start, end


def _sound(model_name: str, rows: NDArray[np.void], source: str) -> tuple[NDArray[np.void], str]:
    """Leave out absurd vectors, and say so in the source."""
    absurd = outliers(rows["embedding"]) if len(rows) else np.zeros(0, bool)
    if not absurd.any():
        return rows, source
    without = int(absurd.sum())
    _log.warning(
        "absurdly long vectors are left out of the baseline",
        extra={
            "model_name": model_name,
            "source": source,
            "left_out": without,
            "seqs": rows["seq"][absurd][:_NAMED].tolist(),
        },
    )
    return rows[~absurd], f"{source}, without {without} absurdly long"


def _varies(detector: Detector, quality: Quality) -> bool:
    """Whether enough vectors differ from each other to determine a null distribution."""
    different = round(detector.n_reference * (1 - quality.duplicate_ratio))
    is_same = detector.dimension > 1 and detector.reference_cosine_similarity > _SAME
    return different >= MIN_REFERENCE and not is_same


def _fit_rows(
    model_name: str, rows: NDArray[np.void], zone: ZoneInfo, more: Iterable[NDArray[np.void]]
) -> Fitted:
    start = time.perf_counter()
    # Two writers may number their vectors across each other, within one moment.
    positions = np.sort(rows["seq"])
    others = (_without(batch, positions) for batch in more)
    fitted = fit_process.fit(
        rows["embedding"],
        to_local(rows["received_at"], zone),
        positions,
        ((each["embedding"], to_local(each["received_at"], zone)) for each in others),
    )
    seconds = time.perf_counter() - start
    _log.info("baseline fitted", extra={"model_name": model_name, "seconds": round(seconds, 3)})
    return fitted


def _without(batch: NDArray[np.void], seqs: NDArray[np.int64]) -> NDArray[np.void]:
    """Leave out vectors by their numbers, and absurd ones."""
    sound = batch[~outliers(batch["embedding"])] if len(batch) else batch
    return sound[~np.isin(sound["seq"], seqs)]


def _store(
    connection: psycopg.Connection, model_name: str, found: Fit, instead_of: int | None
) -> int | None:
    version = baselines.create(
        connection,
        model_name,
        found.rows,
        found.detector.to_bytes(),
        asdict(found.quality),
        found.source,
        instead_of,
        found.zone.key,
    )
    if version is not None:
        _log_pinned(model_name, version, found.rows)
    return version


def _log_pinned(model_name: str, version: int, rows: NDArray[np.void]) -> None:
    _log.info(
        "baseline pinned",
        extra={"model_name": model_name, "version": version, "vectors": len(rows)},
    )
