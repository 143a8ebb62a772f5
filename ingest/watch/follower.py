"""Follow a source: store each of its new rows once, and begin anew when it was emptied."""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Mapping
from contextlib import aclosing, suppress
from typing import NamedTuple

import numpy as np

from ingest.runtime.errors import NotFound
from ingest.store import positions
from ingest.store.connection import unavailable
from ingest.store.neighbours import stored_vector
from ingest.store.positions import Position, Progress
from ingest.watch.recheck import Recheck
from ingest.watch.rest import rest
from ingest.watch.sources.source import Identity, OrderedTable, Snapshot, Terms
from ingest.watch.target import Target, stored_id

_log = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 60.0


class _Poll(NamedTuple):
    """One poll: its time, the newest row that it saw, and the keys of the rows that it stored.

    Those of polls that failed before it are among the keys.
    """

    at: float
    newest: Position
    keys: list[str]


class _Seen(NamedTuple):
    """What a poll sees before it reads: the newest row, the identity, the newest row's digest."""

    newest: Position
    identity: Identity | None
    digest: str | None


class TableFollower:
    """Stores the vectors of one table whose rows are in order.

    A row becomes visible when its transaction commits, which is later than it got its time or id.
    So the position lags behind: a poll reads the rows after the one that was newest
    ``overlap_seconds`` ago, except those already read. A row is missed only if its transaction
    was open for longer. After a restart rows are read twice; the store drops those whose vectors
    are unchanged.

    A table that is emptied, re-made or replaced is noticed by its identity, or because its newest
    row is older than before, and not one that is stored. Then following begins anew, as with a
    table that was never watched.
    If the source does not find changed rows, a sample of the stored rows is read again.

    Parameters
    ----------
    source : OrderedTable
        It must be connected.
    target : Target
    terms : Terms
    """

    def __init__(
        self,
        source: OrderedTable,
        target: Target,
        terms: Terms,
    ) -> None:
        self._source = source
        self._target = target
        self._pool = target.pipeline.pool
        self._model_name = target.model_name
        self._metrics = target.metrics
        self._terms = terms
        self._monotonic = terms.monotonic
        self._recheck = None
        if terms.rechecks_per_hour > 0 and not source.finds_changes:
            self._recheck = Recheck(
                self._pool, target.model_name, terms.rechecks_per_hour, terms.monotonic
            )
        self._progress: Progress | None = None
        self._polls: deque[_Poll] = deque()
        # Keys of the rows that were stored after the newest of these polls. One that fails keeps
        # them: otherwise one that is always ended before its last row would begin anew each time.
        self._keys: list[str] = []
        # What the last poll saw, whether or not it failed.
        self._seen: _Seen | None = None

    @property
    def noticed(self) -> Mapping[str, str]:
        """What is noticed of the table, for the log."""
        if self._source.finds_changes:
            changed = "all, by time"
        elif self._recheck is not None and self._target.revises:
            changed = f"a sample, {self._terms.rechecks_per_hour:g} per hour"
        else:
            changed = "never"
        return {
            "new_rows": "by time" if self._source.finds_changes else "by id",
            "changed_rows": changed,
            "emptied_or_remade": "by identity and position"
            if self._source.has_identity
            else "by position only",
            "deleted_rows": "never",
        }

    def pause(self, interval: float, took: float) -> float:
        """Return how long to wait after a poll."""
        return rest(interval, took, _LONGEST_PAUSE_SECONDS)

    async def poll(self) -> None:
        """Store the rows that are new. After an error, the next poll reads those that are left."""
        if self._progress is None:
            self._progress = await self._load()
        if self._progress is None:
            await self._target.begin(str(self._source))
            self._progress = await self._begin()
        before = self._progress
        if reason := await self._follow(before):
            self._report(reason, before, await self._begin())
            # If the table was set back again meanwhile, the next poll finds it.
            await self._follow(self._progress)
        # Where an id counts once, a changed row would be a duplicate.
        if self._recheck is not None and self._target.revises:
            await self._read_again(await self._recheck.choose())

    async def _follow(self, before: Progress) -> str | None:
        """Store the rows after the position. If the table was set back, only say why."""
        start = self._monotonic()
        async with self._source.snapshot() as snapshot:
            seen = await _look(snapshot)
            if reason := await self._set_back(snapshot, before, seen):
                return reason
            await self._forget(snapshot, seen)
            # Taken after the snapshot, and compared with a time from before a later snapshot: so
            # the overlap is never shorter than promised.
            at = self._monotonic()
            await self._read(snapshot, before.position)
        self._polls.append(_Poll(at, seen.newest, self._keys))
        self._keys = []
        await self._save(Progress(self._position(start), seen.identity, seen.newest, seen.digest))
        return None

    async def _forget(self, snapshot: Snapshot, seen: _Seen) -> None:
        """Forget the rows of polls that failed if the table may have been filled again since."""
        failed, self._seen = self._seen, seen
        if failed is None or not self._keys:
            return
        if failed.identity != seen.identity or not await snapshot.reaches(failed.newest):
            self._keys = []

    async def _set_back(self, snapshot: Snapshot, before: Progress, seen: _Seen) -> str | None:
        """Say why the rows that were read are no longer those of the table. None if they are."""
        if not before.last:
            return None
        if (
            before.last != seen.newest
            and not await snapshot.reaches(before.last)
            # If it is, the rows after it were deleted.
            and not await self._is_stored(snapshot, seen.newest)
        ):
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

    async def _is_stored(self, snapshot: Snapshot, position: Position) -> bool:
        """Whether the vector at a position is stored under the id of its row, or under its key.

        Earlier releases stored it under the key, as is done where the id is not known to be unique.
        """
        rows = await snapshot.at([position]) if position else []
        if not rows or isinstance(rows[0].vector, str):
            return False
        with unavailable():
            async with self._pool.connection() as store:
                for id_ in dict.fromkeys((self._target.id_of(rows[0]), stored_id(rows[0].key))):
                    with suppress(NotFound):
                        found = await stored_vector(store, self._model_name, id_)
                        if np.array_equal(found, rows[0].vector):
                            return True
        return False

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

    async def _read(self, snapshot: Snapshot, after: Position) -> None:
        known = [key for earlier in self._polls for key in earlier.keys] + self._keys
        async with aclosing(snapshot.rows(after, known)) as blocks:
            async for block in blocks:
                await self._target.store(block, str(self._source))
                self._keys.extend(row.key for row in block)

    async def _read_again(self, ids: list[str]) -> None:
        """Store rows again. The store tells those that changed from duplicates."""
        if not ids:
            return
        async with self._source.snapshot() as snapshot:
            rows = await snapshot.at([(id_,) for id_ in ids])
            await self._target.store(rows, str(self._source))

    async def _load(self) -> Progress | None:
        with unavailable():
            async with self._pool.connection() as store:
                return await positions.load(store, self._model_name, str(self._source))

    async def _begin(self) -> Progress:
        """Begin with the newest rows, as many as a baseline takes."""
        self._polls.clear()
        self._keys = []
        async with self._source.snapshot() as snapshot:
            seen = await _look(snapshot)
            # A window holds what arrived recently: older rows would count as recent.
            position = await snapshot.newest(self._terms.baseline_vectors)
        progress = Progress(position, seen.identity, seen.newest, seen.digest)
        await self._save(progress)
        return progress

    async def _save(self, progress: Progress) -> None:
        if progress == self._progress:
            return
        with unavailable():
            async with self._pool.connection() as store:
                await positions.save(store, self._model_name, str(self._source), progress)
        self._progress = progress

    def _position(self, now: float) -> Position:
        """Return the newest row of an overlap ago, and forget the keys of the rows before it."""
        assert self._progress is not None
        position = self._progress.position
        while self._polls and now - self._polls[0].at >= self._terms.overlap_seconds:
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
    if not rows:
        return None
    vector = rows[0].vector
    read = vector.encode() if isinstance(vector, str) else vector.tobytes()
    return hashlib.sha256(read).hexdigest()
