"""The follower: reads what is new in a table that others fill, and stores it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import NamedTuple

import psycopg
from psycopg_pool import AsyncConnectionPool

from ingest.pipeline.pipeline import Pipeline
from ingest.runtime.errors import DimensionMismatch
from ingest.store import copy, positions
from ingest.store.batch import Batch
from ingest.store.connection import unavailable
from ingest.store.positions import Position
from ingest.watch.sources.postgres import LATEST_SECONDS, Row, Source, snapshot

_log = logging.getLogger(__name__)

_ID_LENGTH = 255


class _Poll(NamedTuple):
    """When a poll had seen which row as the newest, and the keys of the rows new to it."""

    at: float
    newest: Position
    keys: list[str]


class Follower:
    """Stores the vectors of one table.

    Rows become visible when their transactions commit, which is later than they got their time
    or id. So the position trails: a poll reads all rows after the one that was newest
    ``overlap_seconds`` ago, but those it has read. A row is missed only if its transaction was
    open for longer. What is read twice, as after a restart, the store drops by its id.

    Parameters
    ----------
    pipeline : Pipeline
        Stores the vectors; it is running.
    pool : AsyncConnectionPool
        To the server that has the table; a right to write is not needed.
    source : Source
    model_name : str
    baseline_vectors : int
        How many of its newest vectors are read of a table that was never watched.
    overlap_seconds : float
    monotonic : callable
        A clock that never steps.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        pool: AsyncConnectionPool,
        source: Source,
        model_name: str,
        baseline_vectors: int,
        overlap_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pipeline = pipeline
        self._pool = pool
        self._source = source
        self._model_name = model_name
        self._baseline_vectors = baseline_vectors
        self._overlap_seconds = overlap_seconds
        self._monotonic = monotonic
        self._position: Position | None = None
        self._polls: deque[_Poll] = deque()
        self._refused: set[int] = set()

    async def poll(self) -> None:
        """Store every row that is new.

        Raises
        ------
        SourceUnavailable
            If the table cannot be read now.
        StoreUnavailable
            If the store is away; either way the next poll goes on where this one did.
        MonitorError
            If the store refuses the vectors for good.
        """
        start = self._monotonic()
        if self._position is None:
            kept = await self._kept()
            self._position = await self._begun() if kept is None else kept
        async with snapshot(self._pool) as connection:
            newest = await self._source.newest(connection)
            # Its age counts from when it was certainly seen, to before another snapshot.
            poll = _Poll(self._monotonic(), newest, [])
            await self._read(connection, self._position, poll)
        self._polls.append(poll)
        await self._advance(start)

    async def _read(
        self, connection: psycopg.AsyncConnection, after: Position, poll: _Poll
    ) -> None:
        known = [key for earlier in self._polls for key in earlier.keys]
        rows = self._source.rows(connection, after, but=known)
        async with aclosing(rows) as blocks:
            async for block in blocks:
                for batch in _batches(self._model_name, block):
                    await self._store(batch)
                poll.keys.extend(row.key for row in block)

    async def _kept(self) -> Position | None:
        with unavailable():
            async with self._pipeline.pool.connection() as store:
                return await positions.load(store, self._model_name, str(self._source))

    async def _begun(self) -> Position:
        """Begin with as many of the newest rows as a baseline takes."""
        async with snapshot(self._pool) as connection:
            # Windows go by arrival: more of the past would pass for the present.
            position = await self._source.newest(connection, self._baseline_vectors)
        await self._keep(position)
        return position

    async def _keep(self, position: Position) -> None:
        with unavailable():
            async with self._pipeline.pool.connection() as store:
                await positions.save(store, self._model_name, str(self._source), position)
        self._position = position

    async def _store(self, batch: Batch) -> None:
        try:
            await self._pipeline.store(batch)
        except DimensionMismatch as error:
            # The store notes it and the model's state says so; other rows go on.
            self._pipeline.metrics.rejected.labels("watch", type(error).__name__).inc()
            if batch.dimension not in self._refused:
                _log.warning("vectors skipped", extra={"error": str(error)})
                self._refused.add(batch.dimension)

    async def _advance(self, now: float) -> None:
        """Go on to what was the newest row an overlap ago; the keys before it will not return."""
        position = self._position
        while self._polls and now - self._polls[0].at >= self._overlap_seconds:
            position = self._polls.popleft().newest
        if position is not None and position != self._position:
            await self._keep(position)


def _batches(model_name: str, rows: list[Row]) -> Iterator[Batch]:
    """Make a batch of the rows of each dimension."""
    by_size = defaultdict(list)
    for row in rows:
        by_size[len(row.vector)].append(row)
    for same in by_size.values():
        yield Batch(
            model_name,
            copy.decode_vectors([row.vector for row in same]),
            ids=[_id(row.key) for row in same],
            timestamps=[_timestamp(row.seconds) for row in same],
        )


def _id(key: str) -> str:
    """Give the key as an id, which the store's index limits in length."""
    return key if len(key) <= _ID_LENGTH else hashlib.sha256(key.encode()).hexdigest()


def _timestamp(seconds: float | None) -> float | None:
    """Give a time that can be one; infinity and milliseconds are none."""
    return seconds if seconds is not None and 0 <= seconds <= LATEST_SECONDS else None
