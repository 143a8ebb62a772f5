"""Follow a source: store each of its new rows once."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import NamedTuple

import numpy as np

from ingest.pipeline.pipeline import Pipeline
from ingest.runtime.errors import DimensionMismatch
from ingest.store import positions
from ingest.store.batch import Batch
from ingest.store.connection import unavailable
from ingest.store.positions import Position
from ingest.watch.sources.source import LATEST_SECONDS, Row, Snapshot, Source

_log = logging.getLogger(__name__)

_ID_LENGTH = 255
"""Longest key that is stored as an id; longer ones are stored as their SHA-256."""


class _Poll(NamedTuple):
    """One poll: its time, the newest row that it saw, and the keys of the rows that it stored."""

    at: float
    newest: Position
    keys: list[str]


class Follower:
    """Stores the vectors of one source.

    A row becomes visible when its transaction commits, which is later than it got its time or id.
    So the position lags behind: a poll reads the rows after the one that was newest
    ``overlap_seconds`` ago, except those already read. A row is missed only if its transaction
    was open for longer. After a restart rows are read twice; the store drops them by their ids.

    Parameters
    ----------
    pipeline : Pipeline
        Stores the vectors; it must be running.
    source : Source
        It must be connected.
    model_name : str
    baseline_vectors : int
        How many of the newest rows are read the first time that a source is watched.
    overlap_seconds : float
        Longest time that a transaction which adds rows may be open.
    monotonic : callable
        Clock, in seconds.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        source: Source,
        model_name: str,
        baseline_vectors: int,
        overlap_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pipeline = pipeline
        self._source = source
        self._model_name = model_name
        self._baseline_vectors = baseline_vectors
        self._overlap_seconds = overlap_seconds
        self._monotonic = monotonic
        self._position: Position | None = None
        self._polls: deque[_Poll] = deque()
        self._refused: set[int] = set()

    async def poll(self) -> None:
        """Store the rows that are new. After an error, the next poll reads them again.

        Raises
        ------
        SourceUnavailable
            If the source cannot be read now.
        StoreUnavailable
            If the store cannot be reached.
        MonitorError
            If the store refuses the vectors.
        """
        start = self._monotonic()
        if self._position is None:
            loaded = await self._load()
            self._position = await self._begin() if loaded is None else loaded
        async with self._source.snapshot() as snapshot:
            newest = await snapshot.newest()
            # Taken after the snapshot, and compared with a time from before a later snapshot: so
            # the overlap is never shorter than promised.
            poll = _Poll(self._monotonic(), newest, [])
            await self._read(snapshot, self._position, poll)
        self._polls.append(poll)
        await self._advance(start)

    async def _read(self, snapshot: Snapshot, after: Position, poll: _Poll) -> None:
        known = [key for earlier in self._polls for key in earlier.keys]
        async with aclosing(snapshot.rows(after, known)) as blocks:
            async for block in blocks:
                for batch in _batches(self._model_name, block):
                    await self._store(batch)
                poll.keys.extend(row.key for row in block)

    async def _load(self) -> Position | None:
        with unavailable():
            async with self._pipeline.pool.connection() as store:
                return await positions.load(store, self._model_name, str(self._source))

    async def _begin(self) -> Position:
        """Begin with the newest rows, as many as a baseline takes."""
        async with self._source.snapshot() as snapshot:
            # A window holds what arrived recently: older rows would count as recent.
            position = await snapshot.newest(self._baseline_vectors)
        await self._save(position)
        return position

    async def _save(self, position: Position) -> None:
        with unavailable():
            async with self._pipeline.pool.connection() as store:
                await positions.save(store, self._model_name, str(self._source), position)
        self._position = position

    async def _store(self, batch: Batch) -> None:
        try:
            await self._pipeline.store(batch)
        except DimensionMismatch as error:
            # The store records it and the model's state reports it; other rows are stored.
            self._pipeline.metrics.rejected.labels("watch", type(error).__name__).inc()
            if batch.dimension not in self._refused:
                _log.warning("vectors skipped", extra={"error": str(error)})
                self._refused.add(batch.dimension)

    async def _advance(self, now: float) -> None:
        """Move the position to the newest row of an overlap ago, and forget the keys before it."""
        position = self._position
        while self._polls and now - self._polls[0].at >= self._overlap_seconds:
            position = self._polls.popleft().newest
        if position is not None and position != self._position:
            await self._save(position)


def _batches(model_name: str, rows: list[Row]) -> Iterator[Batch]:
    """Make one batch of the rows of each dimension."""
    by_dimension = defaultdict(list)
    for row in rows:
        by_dimension[len(row.vector)].append(row)
    for same in by_dimension.values():
        yield Batch(
            model_name,
            np.stack([row.vector for row in same]),
            ids=[_id(row.key) for row in same],
            timestamps=[_timestamp(row.seconds) for row in same],
        )


def _id(key: str) -> str:
    return key if len(key) <= _ID_LENGTH else hashlib.sha256(key.encode()).hexdigest()


def _timestamp(seconds: float | None) -> float | None:
    """Return the time, or None if it is not one: infinity, negative or in milliseconds."""
    return seconds if seconds is not None and 0 <= seconds <= LATEST_SECONDS else None
