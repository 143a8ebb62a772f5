"""The target of a watch: the model under whose name the vectors of a source are stored."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ingest.formats import checks
from ingest.pipeline.metrics import WatchMetrics
from ingest.pipeline.pipeline import Pipeline
from ingest.runtime import timestamps
from ingest.runtime.errors import DimensionMismatch, MonitorError, PayloadError
from ingest.runtime.settings.settings import IngestSettings
from ingest.store import watched
from ingest.store.batch import Batch
from ingest.store.canaries import ID_PREFIX
from ingest.store.connection import unavailable
from ingest.watch.sources.source import Row

_log = logging.getLogger(__name__)

_ROUTE = "watch"
_HOW = re.compile(r" (in samples|by [^.]*)$")
"""Label of what is refused, beside the routes of HTTP."""


@dataclass
class Target:
    """Stores vectors of one source under one model name.

    Attributes
    ----------
    pipeline : Pipeline
        It must be running.
    model_name : str
    metrics : WatchMetrics
    settings : IngestSettings
        The current settings. May be replaced at any time.
    skips : bool
        Whether a vector that cannot be used is skipped, rather than an error.
    """

    pipeline: Pipeline
    model_name: str
    metrics: WatchMetrics
    settings: IngestSettings
    skips: bool = False
    _warned: set[str] = field(default_factory=set)

    @property
    def revises(self) -> bool:
        """Whether another vector of a known id is stored."""
        return self.settings.ids == "revise"

    def id_of(self, row: Row) -> str:
        """Return the id under which a row is stored.

        A row that is written again has the same id, so that the store tells whether its vector
        changed. Where an id counts once, a changed row would be a duplicate: then it is the key.
        """
        return stored_id(row.id if self.revises and row.id is not None else row.key)

    async def begin(self, source: str) -> None:
        """Warn if another table or column was watched under the name of the model.

        Call this before a source is read for the first time. It cannot be an error: a table may
        have been renamed.

        Raises
        ------
        StoreUnavailable
            If the store cannot be reached.
        """
        with unavailable():
            async with self.pipeline.pool.connection() as store:
                known = await watched.others(store, self.model_name, source)
        others = [each for each in known if _place(each) != _place(source)]
        if others:
            self._warn(
                "source",
                "something else was watched under this model's name",
                f"{source}: model {self.model_name} was watched from {', '.join(others)}, too, and"
                " rows with one id count as one row. Give each table or column its own --model. If"
                " only the name or the server changed, nothing is wrong",
            )

    async def store(self, rows: Sequence[Row], source: str) -> None:
        """Store rows. They are committed when this returns.

        Vectors of another dimension than the model's are skipped: the store records that, and the
        model's state reports it.

        Parameters
        ----------
        rows : sequence of Row
        source : str
            Where the rows are, for errors.

        Raises
        ------
        PayloadError
            If a vector cannot be used, and such vectors are not skipped. No row is stored then.
        StoreUnavailable
            If the store cannot be reached.
        """
        usable = []
        for row in rows:
            if (reason := self._fault(row)) is None:
                usable.append(row)
            else:
                self.refuse(PayloadError(f"{source}: row {row.key!r:.80} {reason}"))
        for batch in self._batches(usable, source):
            await self.store_batch(batch)

    async def store_batch(self, batch: Batch) -> None:
        """Store a batch, or skip it if it has another dimension than its model.

        Raises
        ------
        StoreUnavailable
            If the store cannot be reached.
        PayloadError, TooManyModels
            If the batch can never be stored.
        """
        try:
            await self.pipeline.store(batch)
        except DimensionMismatch as error:
            self._count(error)
            kind = f"dimension {batch.dimension} of {batch.model_name}"
            self._warn(kind, "vectors skipped", str(error))

    def refuse(self, error: MonitorError) -> None:
        """Count and log what cannot be used, or raise the error if it must not be skipped."""
        if not self.skips:
            raise error
        self._count(error)
        _log.warning("skipped", extra={"error": str(error)})

    def _fault(self, row: Row) -> str | None:
        if isinstance(row.vector, str):
            return row.vector
        if reason := checks.dimension(len(row.vector), self.settings):
            return f"has a vector that cannot be stored: {reason}"
        if not np.isfinite(row.vector).all():
            return f"has a vector with a component that {checks.NOT_FINITE}"
        return None

    def _batches(self, rows: Sequence[Row], source: str) -> Iterator[Batch]:
        """Make one batch of the rows of each dimension."""
        by_dimension = defaultdict(list)
        for row in rows:
            by_dimension[len(row.vector)].append(row)
        for same in by_dimension.values():
            yield Batch(
                self.model_name,
                np.stack([row.vector for row in same]),
                ids=[self.id_of(row) for row in same],
                metadata=[self._metadata(row, source) for row in same],
                timestamps=[timestamp(row.seconds) for row in same],
            )

    def _metadata(self, row: Row, source: str) -> bytes | None:
        """Return the metadata, or None with a warning if they cannot be stored."""
        if row.metadata is None:
            return None
        reason = (
            checks.metadata(row.metadata, self.settings)
            or checks.misspelt(row.metadata)
            or checks.nesting(row.metadata)
        )
        if reason is None:
            return row.metadata
        # A vector counts without its text; long documents are common.
        self._warn(
            "metadata", "metadata left out", f"{source}: metadata of row {row.key!r:.80} {reason}"
        )
        return None

    def _count(self, error: MonitorError) -> None:
        self.pipeline.metrics.rejected.labels(_ROUTE, type(error).__name__).inc()

    def _warn(self, kind: str, message: str, reason: str) -> None:
        """Warn once of each kind."""
        if kind not in self._warned:
            _log.warning(message, extra={"error": reason})
            self._warned.add(kind)


def stored_id(key: str) -> str:
    """Return the key or, if no vector may have it as its id, its SHA-256."""
    if len(key) <= checks.ID_LENGTH and not key.startswith(ID_PREFIX):
        return key
    return hashlib.sha256(key.encode()).hexdigest()


def timestamp(seconds: float | None) -> float | None:
    """Return the time, or None if it is not one: infinity, negative or in milliseconds."""
    return seconds if seconds is not None and 0 <= seconds < timestamps.END else None


def _place(source: str) -> str:
    """Return a source without how it is read: in samples, or by a column of order."""
    return _HOW.sub("", source)
