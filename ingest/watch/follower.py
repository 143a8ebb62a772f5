"""Follow a source: store each of its new rows once, and begin anew when it was emptied."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import NamedTuple

import numpy as np

from ingest.pipeline.metrics import WatchMetrics
from ingest.pipeline.pipeline import Pipeline
from ingest.runtime import timestamps
from ingest.runtime.errors import DimensionMismatch
from ingest.store import positions
from ingest.store.batch import Batch
from ingest.store.canaries import ID_PREFIX
from ingest.store.connection import unavailable
from ingest.store.positions import Position, Progress
from ingest.watch.recheck import Recheck
from ingest.watch.sources.source import Identity, Row, Snapshot, Source

_log = logging.getLogger(__name__)

_ID_LENGTH = 255
"""Longest key that is stored as an id."""


class _Poll(NamedTuple):
    """One poll: its time, the newest row that it saw, and the keys of the rows that it stored."""

    at: float
    newest: Position
    keys: list[str]


class _Seen(NamedTuple):
    """What a poll sees before it reads: the newest row, the identity, the newest row's digest."""

    newest: Position
    identity: Identity | None
    digest: str | None


class Follower:
    """Stores the vectors of one source.

    A row becomes visible when its transaction commits, which is later than it got its time or id.
    So the position lags behind: a poll reads the rows after the one that was newest
    ``overlap_seconds`` ago, except those already read. A row is missed only if its transaction
    was open for longer. After a restart rows are read twice; the store drops those whose vectors
    are unchanged.

    A table that is emptied, re-made or replaced is noticed by its identity, or because its newest
    row is older than before. Then following begins anew, as with a table that was never watched.
    If the source does not find changed rows, a sample of the stored rows is read again.

    Parameters
    ----------
    pipeline : Pipeline
        Stores the vectors; it must be running.
    source : Source
        It must be connected.
    model_name : str
    metrics : WatchMetrics
    baseline_vectors : int
        How many of the newest rows are read the first time that a source is watched.
    overlap_seconds : float
        Longest time that a transaction which adds rows may be open.
    rechecks_per_hour : float
        How many stored rows are read again per hour, if the source does not find changed rows.
    monotonic : callable
        Clock, in seconds.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        source: Source,
        model_name: str,
        metrics: WatchMetrics,
        baseline_vectors: int,
        overlap_seconds: float,
        rechecks_per_hour: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pipeline = pipeline
        self._source = source
        self._model_name = model_name
        self._metrics = metrics
        self._baseline_vectors = baseline_vectors
        self._overlap_seconds = overlap_seconds
        self._monotonic = monotonic
        self._recheck = None
        if rechecks_per_hour > 0 and not source.finds_changes:
            self._recheck = Recheck(pipeline.pool, model_name, rechecks_per_hour, monotonic)
        self._progress: Progress | None = None
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
        if self._progress is None:
            self._progress = await self._load() or await self._begin()
        before = self._progress
        if reason := await self._follow(before):
            self._report(reason, before, await self._begin())
            # If the table was set back again meanwhile, the next poll finds it.
            await self._follow(self._progress)
        if self._recheck is not None:
            await self._read_again(await self._recheck.choose())

    async def _follow(self, before: Progress) -> str | None:
        """Store the rows after the position. If the table was set back, only say why."""
        start = self._monotonic()
        async with self._source.snapshot() as snapshot:
            seen = await _look(snapshot)
            if reason := await self._set_back(snapshot, before, seen):
                return reason
            # Taken after the snapshot, and compared with a time from before a later snapshot: so
            # the overlap is never shorter than promised.
            poll = _Poll(self._monotonic(), seen.newest, [])
            await self._read(snapshot, before.position, poll)
        self._polls.append(poll)
        await self._save(Progress(self._position(start), seen.identity, seen.newest, seen.digest))
        return None

    async def _set_back(self, snapshot: Snapshot, before: Progress, seen: _Seen) -> str | None:
        """Say why the rows that were read are no longer those of the table. None if they are."""
        if not before.last:
            return None
        if before.last != seen.newest and not await snapshot.reaches(before.last):
            return "the newest row is older than before"
        if before.identity is None or seen.identity is None or before.identity == seen.identity:
            return None
        if Identity(*before.identity).table != seen.identity.table:
            return "another table has the name"
        # The rows were written anew. VACUUM FULL, CLUSTER and new partitions keep them as they
        # were; TRUNCATE does not, and the new rows may already be more than the old ones.
        if before.digest is None or before.digest != await _digest(snapshot, before.last):
            return "the rows were replaced"
        return None

    def _report(self, reason: str, before: Progress, now: Progress) -> None:
        self._metrics.resets.inc()
        _log.warning(
            "table emptied or re-made; its newest rows are read anew",
            extra={
                "table": str(self._source),
                "reason": reason,
                "newest_before": before.last,
                "newest_now": now.newest,
                "identity_before": before.identity,
                "identity_now": now.identity,
            },
        )

    async def _read(self, snapshot: Snapshot, after: Position, poll: _Poll) -> None:
        known = [key for earlier in self._polls for key in earlier.keys]
        async with aclosing(snapshot.rows(after, known)) as blocks:
            async for block in blocks:
                await self._store(block)
                poll.keys.extend(row.key for row in block)

    async def _read_again(self, ids: list[str]) -> None:
        """Store rows again. The store tells those that changed from duplicates."""
        if not ids:
            return
        async with self._source.snapshot() as snapshot:
            await self._store(await snapshot.at([(id_,) for id_ in ids]))

    async def _load(self) -> Progress | None:
        with unavailable():
            async with self._pipeline.pool.connection() as store:
                return await positions.load(store, self._model_name, str(self._source))

    async def _begin(self) -> Progress:
        """Begin with the newest rows, as many as a baseline takes."""
        self._polls.clear()
        async with self._source.snapshot() as snapshot:
            seen = await _look(snapshot)
            # A window holds what arrived recently: older rows would count as recent.
            position = await snapshot.newest(self._baseline_vectors)
        progress = Progress(position, seen.identity, seen.newest, seen.digest)
        await self._save(progress)
        return progress

    async def _save(self, progress: Progress) -> None:
        if progress == self._progress:
            return
        with unavailable():
            async with self._pipeline.pool.connection() as store:
                await positions.save(store, self._model_name, str(self._source), progress)
        self._progress = progress

    async def _store(self, rows: list[Row]) -> None:
        for batch in _batches(self._model_name, rows):
            try:
                await self._pipeline.store(batch)
            except DimensionMismatch as error:
                # The store records it and the model's state reports it; other rows are stored.
                self._pipeline.metrics.rejected.labels("watch", type(error).__name__).inc()
                if batch.dimension not in self._refused:
                    _log.warning("vectors skipped", extra={"error": str(error)})
                    self._refused.add(batch.dimension)

    def _position(self, now: float) -> Position:
        """Return the newest row of an overlap ago, and forget the keys of the rows before it."""
        assert self._progress is not None
        position = self._progress.position
        while self._polls and now - self._polls[0].at >= self._overlap_seconds:
            position = self._polls.popleft().newest
        return position


async def _look(snapshot: Snapshot) -> _Seen:
    newest = await snapshot.newest()
    # After the newest row: reading it locks the table, so the identity is that of its rows.
    identity = await snapshot.identity()
    if identity is None or not newest:
        return _Seen(newest, identity, None)
    # Always, because the newest row may change in place.
    return _Seen(newest, identity, await _digest(snapshot, newest))


async def _digest(snapshot: Snapshot, position: Position) -> str | None:
    """Digest the vector at a position. None if there is no row."""
    rows = await snapshot.at([position])
    return hashlib.sha256(rows[0].vector.tobytes()).hexdigest() if rows else None


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
    """Return the key or, if no vector may have it as its id, its SHA-256."""
    if len(key) <= _ID_LENGTH and not key.startswith(ID_PREFIX):
        return key
    return hashlib.sha256(key.encode()).hexdigest()


def _timestamp(seconds: float | None) -> float | None:
    """Return the time, or None if it is not one: infinity, negative or in milliseconds."""
    return seconds if seconds is not None and 0 <= seconds < timestamps.END else None
