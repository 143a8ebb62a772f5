"""The writer: commits the batches of all clients together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import psycopg

from ingest.pipeline.metrics import IngestMetrics
from ingest.runtime.errors import MonitorError, PayloadError, StoreUnavailable
from ingest.runtime.settings.settings import IngestSettings
from ingest.store import models
from ingest.store.batch import Batch
from ingest.store.connection import unavailable
from ingest.store.pool import AsyncPool
from ingest.store.vectors import Stored, insert

_log = logging.getLogger(__name__)

_GROUP_BYTES = 8 * 1024 * 1024
"""Size of the largest group of several batches. Larger groups only add latency."""

_COMMIT_SECONDS = 30.0
"""Time that one commit may take."""

_LAST_COMMIT_SECONDS = 1.0
"""Time for the last commit when the service stops. Its clients have been waited for before."""


class _Waiting(NamedTuple):
    batch: Batch
    outcome: asyncio.Future[Stored]


class Writer:
    """Group commit: while one transaction commits, batches for the next one collect.

    Parameters
    ----------
    pool : AsyncPool
    settings : IngestSettings
    metrics : IngestMetrics
    make_partitions : callable
        Makes the partitions of today and the next days. It blocks, so it runs in a thread.

    Attributes
    ----------
    settings : IngestSettings
        The current settings. May be replaced at any time.
    """

    def __init__(
        self,
        pool: AsyncPool,
        settings: IngestSettings,
        metrics: IngestMetrics,
        make_partitions: Callable[[], None],
    ) -> None:
        self._pool = pool
        self.settings = settings
        self._metrics = metrics
        self._make_partitions = make_partitions
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._closing = False

    async def write(self, batch: Batch) -> Stored:
        """Store a batch. It is committed when this returns.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL is not available. The batch may be sent again.
        PayloadError, TooManyModels
            If this batch cannot be stored.
        """
        waiting = _Waiting(batch, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._arrived.set()
        # A client that hangs up cancels this future only, not the group.
        return await waiting.outcome

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Commit while entered. Leaving commits what still waits, if the server answers."""
        task = asyncio.create_task(self._run(), name="writer")
        try:
            yield
        finally:
            self._closing = True
            self._arrived.set()
            await asyncio.wait([task], timeout=_LAST_COMMIT_SECONDS)
            if not task.done():
                _fail(list(self._waiting), StoreUnavailable("the service stops"))
                self._waiting.clear()
                self._pool.cut()
            await task

    async def _run(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            await self._settled(self._take())

    async def _settled(self, group: list[_Waiting]) -> None:
        """Commit a group. Every batch gets an outcome, whatever fails."""
        try:
            await self._commit(group)
        except Exception as error:
            _log.exception("group commit failed")
            _fail(group, StoreUnavailable(f"the commit failed: {type(error).__name__}"))

    def _take(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        while self._waiting:
            size += self._waiting[0].batch.nbytes
            if group and size > _GROUP_BYTES:
                break
            group.append(self._waiting.popleft())
        return group

    async def _commit(self, group: list[_Waiting]) -> None:
        start = time.perf_counter()
        try:
            outcomes = await self._insert([w.batch for w in group])
        except StoreUnavailable as error:
            if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                await self._leave_locked(group, error)
            else:
                _fail(group, error)
        except psycopg.Error as error:
            await self._isolate(group, error)
        else:
            self._metrics.commit_duration.observe(time.perf_counter() - start)
            self._count(group, outcomes)
            for waiting, outcome in zip(group, outcomes, strict=True):
                _settle(waiting, outcome)

    async def _leave_locked(self, group: list[_Waiting], error: StoreUnavailable) -> None:
        """Fail the batches of the models that somebody has locked, and commit the others."""
        names = {waiting.batch.model_name for waiting in group}
        # Not one by one: each model that is locked would hold up the writer for seconds.
        # Without any, the lock was of something else, or is gone.
        locked = await self._locked(names) or names
        _fail([waiting for waiting in group if waiting.batch.model_name in locked], error)
        if others := [waiting for waiting in group if waiting.batch.model_name not in locked]:
            await self._settled(others)

    async def _locked(self, names: set[str]) -> set[str]:
        try:
            with unavailable():
                async with asyncio.timeout(_COMMIT_SECONDS), self._pool.connection() as connection:
                    return await models.locked(connection, names)
        except (StoreUnavailable, TimeoutError):
            return names

    async def _isolate(self, group: list[_Waiting], error: psycopg.Error) -> None:
        """Commit one by one, so that only the batch that PostgreSQL refuses fails."""
        if len(group) > 1:
            for position, waiting in enumerate(group):
                await self._settled([waiting])
                if isinstance(_failure(waiting), StoreUnavailable):
                    # Each of the others would wait for the store as long again.
                    _fail(group[position + 1 :], StoreUnavailable(str(_failure(waiting))))
                    break
        elif isinstance(error, psycopg.DataError):
            # Not the whole error of the server, which may quote the value.
            reason = error.diag.message_primary or str(error)
            _fail(group, PayloadError(f"PostgreSQL refused a value: {reason}"))
        else:
            raise error

    async def _insert(self, batches: list[Batch]) -> list[Stored | MonitorError]:
        try:
            return await self._insert_once(batches)
        except psycopg.errors.CheckViolation:
            # There is no partition for today: the clock is beyond the last one.
            await asyncio.to_thread(self._make_partitions)
            return await self._insert_once(batches)

    async def _insert_once(self, batches: list[Batch]) -> list[Stored | MonitorError]:
        try:
            with unavailable():
                async with asyncio.timeout(_COMMIT_SECONDS), self._pool.connection() as connection:
                    return await insert(
                        connection,
                        batches,
                        self.settings.max_models,
                        revise=self.settings.ids == "revise",
                    )
        except TimeoutError as error:
            raise StoreUnavailable(
                f"PostgreSQL did not commit within {_COMMIT_SECONDS:.0f} s"
            ) from error

    def _count(self, group: list[_Waiting], outcomes: list[Stored | MonitorError]) -> None:
        stored: Counter[str] = Counter()
        duplicates: Counter[str] = Counter()
        revisions: Counter[str] = Counter()
        for waiting, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Stored) and not outcome.replayed:
                stored[waiting.batch.model_name] += outcome.stored
                duplicates[waiting.batch.model_name] += outcome.duplicates
                revisions[waiting.batch.model_name] += outcome.revisions
        for name in stored:
            self._metrics.vectors.labels(name).inc(stored[name])
            self._metrics.duplicates.labels(name).inc(duplicates[name])
            self._metrics.revisions.labels(name).inc(revisions[name])
        self._metrics.commit_vectors.observe(stored.total())


def _settle(waiting: _Waiting, outcome: Stored | MonitorError) -> None:
    if isinstance(outcome, MonitorError):
        _fail([waiting], outcome)
    elif not waiting.outcome.done():
        waiting.outcome.set_result(outcome)


def _failure(waiting: _Waiting) -> BaseException | None:
    outcome = waiting.outcome
    return outcome.exception() if outcome.done() and not outcome.cancelled() else None


def _fail(group: list[_Waiting], error: MonitorError) -> None:
    for waiting in group:
        if not waiting.outcome.done():
            waiting.outcome.set_exception(error)
