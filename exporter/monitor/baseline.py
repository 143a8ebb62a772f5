"""Baselines: a detector fitted to pinned vectors, and where it comes from."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from datetime import datetime

import numpy as np
import psycopg
from numpy.typing import NDArray

from exporter.detector.codec import Outdated
from exporter.detector.detector import MIN_REFERENCE, Detector
from exporter.monitor.maturing import stage_of
from exporter.stats.outliers import outliers
from exporter.stats.quality import Quality, assess
from ingest.runtime.errors import NotFound
from ingest.runtime.thresholds import Stage
from ingest.store import baselines, copy
from ingest.store.dimension import require_dimension
from ingest.store.selection import Selection, select

_log = logging.getLogger(__name__)

_SAME = 1 - 1e-5
"""Mean cosine similarity to the centroid above which the vectors differ by rounding only."""
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

    @property
    def stage(self) -> Stage:
        """How much of the usual traffic it has seen."""
        return stage_of(self.detector.seasons)

    @property
    def varies(self) -> bool:
        """Whether its vectors differ, so that a distance from them means something."""
        return _varies(self.detector, self.quality)


def pin(
    connection: psycopg.Connection,
    model_name: str,
    selection: Selection,
    instead_of: int | None = None,
    least: int = 0,
    span: float = 0.0,
) -> int | None:
    """Fit a detector to stored vectors, and store both as the baseline in use.

    Parameters
    ----------
    connection : psycopg.Connection
    model_name : str
    selection : Selection
    instead_of : int, optional
        Pin automatically, unless another version than this one is in use by now; 0 stands for
        none. Nothing replaces a version automatically if it does not vary.
    least : int
        Do nothing if fewer vectors are selected: the model may have been removed and created
        again.
    span : float
        Do nothing if the selected vectors arrived within fewer seconds.

    Returns
    -------
    int or None
        The version pinned, or None when nothing was done.

    Raises
    ------
    NotFound
        If there is no such model.
    ValueError
        If no detector can be fitted to the vectors: see :meth:`Detector.fit`.
    """
    if instead_of is not None and (baselines.in_use(connection, model_name) or 0) != instead_of:
        return None
    rows = select(connection, model_name, selection)
    if len(rows) < least or np.ptp(rows["received_at"]) < span:
        return None
    rows, source = _sound(model_name, rows, str(selection))
    detector, quality = _fit(model_name, rows)
    if instead_of and not _varies(detector, quality):
        return None
    version = baselines.create(
        connection, model_name, rows, detector.to_bytes(), asdict(quality), source, instead_of
    )
    if version is not None:
        _log_pinned(model_name, version, len(rows))
    return version


def pin_vectors(
    connection: psycopg.Connection,
    model_name: str,
    vectors: NDArray[np.float32],
    times: NDArray[np.float64],
    source: str,
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
    rows, source = _sound(model_name, rows, source)
    detector, quality = _fit(model_name, rows)
    version = baselines.create_from_vectors(
        connection, model_name, rows, detector.to_bytes(), asdict(quality), source
    )
    _log_pinned(model_name, version, len(rows))
    return version


def load(connection: psycopg.Connection, model_name: str, version: int) -> Baseline:
    """Load one version of a model's baseline.

    The stored detector saves the fit to the pinned vectors. One that an earlier version of this
    project wrote is fitted again, and replaced where the connection may write.

    Raises
    ------
    NotFound
        If there is no such version.
    ValueError
        If it was written by a version of this project that this one cannot read.
    """
    stored = baselines.load(connection, model_name, version)
    try:
        quality = Quality(**stored.quality)
    except TypeError as error:
        raise ValueError(f"quality of other fields: {', '.join(stored.quality)}") from error
    try:
        detector = Detector.from_bytes(stored.detector)
    except Outdated:
        detector = _fit_again(connection, model_name, version)
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
    )


def _fit_again(connection: psycopg.Connection, model_name: str, version: int) -> Detector:
    components = require_dimension(connection, model_name)
    rows = baselines.rows(connection, model_name, version, components)
    if not len(rows):
        raise NotFound(f"baseline {version} of model {model_name} was dropped")
    rows, _ = _sound(model_name, rows, f"baseline {version}")
    detector = _fit_detector(model_name, rows)
    baselines.replace_detector(connection, model_name, version, detector.to_bytes())
    return detector


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


def _fit(model_name: str, rows: NDArray[np.void]) -> tuple[Detector, Quality]:
    return _fit_detector(model_name, rows), assess(rows["embedding"])


def _fit_detector(model_name: str, rows: NDArray[np.void]) -> Detector:
    start = time.perf_counter()
    # Two writers may number their vectors across each other, within one moment.
    positions = np.sort(rows["seq"])
    detector = Detector.fit(rows["embedding"], timestamps=rows["received_at"], positions=positions)
    seconds = time.perf_counter() - start
    _log.info("baseline fitted", extra={"model_name": model_name, "fit_seconds": round(seconds, 3)})
    return detector


def _log_pinned(model_name: str, version: int, vectors: int) -> None:
    _log.info(
        "baseline pinned",
        extra={"model_name": model_name, "version": version, "vectors": vectors},
    )
