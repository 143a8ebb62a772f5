"""The tail: polls the store for new vectors and baselines and feeds the models."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NamedTuple

import numpy as np
import psycopg
from numpy.typing import NDArray

from exporter.monitor import baseline
from exporter.monitor.model import Model, Models
from exporter.monitor.windows import ModelWindows
from ingest.runtime.errors import MonitorError, NotFound, StoreUnavailable
from ingest.runtime.settings.settings import MonitoringSettings
from ingest.store import changes, dimension
from ingest.store.changes import WHOLE, ModelRow, Shard
from ingest.store.connection import unavailable
from ingest.store.pool import Pool, await_end
from ingest.store.selection import Selection

_log = logging.getLogger(__name__)

_FIT_PAUSE_SECONDS = 60.0
_LATE_SECONDS = 10.0
"""Least age of the last successful poll from which on the store does not count as followed."""


@dataclass(frozen=True, slots=True)
class PollStatus:
    """How polling went: whether the last one succeeded, and of the last that did, when."""

    up: bool = False
    timestamp: float | None = None
    duration: float | None = None
    failures: int = 0


class _Fit(NamedTuple):
    """A baseline's fit under way, and when to try again should it fail."""

    future: Future[None]
    again_at: float


class Tail:
    """Follows the store in a thread of its own.

    Parameters
    ----------
    pool : Pool
        What it reads: of the store or of its replicas.
    models : Models
        What it feeds.
    settings : MonitoringSettings
    shard : Shard
        Which models it follows.
    clock : callable
        Wall clock, for telling people when it polled.
    monotonic : callable
        A clock that never steps, for what is due.
    primary : Pool or None
        Where baselines are pinned; None pins where it reads.

    Attributes
    ----------
    settings : MonitoringSettings
        Those in force; may be replaced at any time.
    followed : threading.Event
        Set once the windows have been read.
    """

    def __init__(
        self,
        pool: Pool,
        models: Models,
        settings: MonitoringSettings,
        shard: Shard = WHOLE,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        primary: Pool | None = None,
    ) -> None:
        self._pool = pool
        self._primary = pool if primary is None else primary
        self._models = models
        self.settings = settings
        self._shard = shard
        self._clock = clock
        self._monotonic = monotonic
        self.followed = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tail", daemon=True)
        # Fitting takes seconds of a core: beside the tail, and one at a time.
        self._fitting = ThreadPoolExecutor(1, thread_name_prefix="baseline")
        self._fits: dict[str, _Fit] = {}
        self._unreadable: dict[str, int] = {}
        self._status = PollStatus()
        self._polled_at = -math.inf
        self._told = ""

    @property
    def status(self) -> PollStatus:
        """How polling goes: up as well only while polls keep coming, for one may hang."""
        status = self._status
        usual = self.settings.poll_interval + (status.duration or 0.0)
        late = self._monotonic() - self._polled_at > max(_LATE_SECONDS, 3 * usual)
        return replace(status, up=status.up and not late)

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def stop(self) -> None:
        """Stop and wait for the poll and the fit under way, unless they wait for the server."""
        self._stop.set()
        if self._thread.ident is not None:
            await_end(self._has_ended, self._pool, self._primary)
        # Not before: a poll may begin a fit.
        self._fitting.shutdown(wait=False, cancel_futures=True)
        running = [fit.future for fit in self._fits.values() if not fit.future.cancelled()]
        await_end(lambda seconds: not wait(running, seconds).not_done, self._primary)

    def _has_ended(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def poll(self) -> None:
        """Read everything that is new.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL is away; what was read before stays.
        ExceptionGroup
            Of models that could not be followed; the others were.
        """
        failed: list[Exception] = []
        with unavailable(), self._pool.connection() as connection:
            rows = changes.models(connection, self._shard)
            for row in rows:
                self._models.set_clock(row.now.timestamp())
                try:
                    self._update(connection, row)
                except psycopg.Error:
                    raise
                except Exception as error:  # of one model: the others go on
                    error.add_note(f"Raised by model {row.model_name}")
                    failed.append(error)
        for name in self._models.by_name.keys() - {row.model_name for row in rows}:
            self._forget_removed(name)
        if failed:
            raise ExceptionGroup("models not followed", failed)

    def _forget_removed(self, model_name: str) -> None:
        # The primary is asked: a replica may only be too far behind to have a new model.
        with (
            suppress(StoreUnavailable),
            unavailable(),
            self._primary.connection() as connection,
        ):
            if dimension.known(connection, model_name) is None:
                self._models.remove(model_name)
                self._fits.pop(model_name, None)
                self._unreadable.pop(model_name, None)
                _log.info("model removed", extra={"model_name": model_name})

    def _update(self, connection: psycopg.Connection, row: ModelRow) -> None:
        model = self._models.by_name.get(row.model_name)
        if model is None or row.created_at > model.row.created_at:
            model = Model(row, self.settings)
            self._models.add(model)
            self._fits.pop(row.model_name, None)
            self._unreadable.pop(row.model_name, None)
        if not _is_older(row, model.row):
            self._update_baseline(connection, model, row)
            self._follow(connection, model.windows, row)
            model.row = row
        model.windows.advance(row.now.timestamp())

    def _update_baseline(self, connection: psycopg.Connection, model: Model, row: ModelRow) -> None:
        if row.baseline_version is None:
            if row.last_seq >= self.settings.baseline.vectors:
                self._fit_first(row.model_name)
        elif row.baseline_version not in (_version(model), self._unreadable.get(row.model_name)):
            self._adopt(connection, model, row, row.baseline_version)

    def _adopt(
        self, connection: psycopg.Connection, model: Model, row: ModelRow, version: int
    ) -> None:
        try:
            newest = baseline.load(connection, row.model_name, version)
        except NotFound:
            return  # dropped since for a newer one, which the next poll finds
        except ValueError as error:
            # Written by a newer version of ours: this model keeps what it has, others go on.
            self._unreadable[row.model_name] = version
            _log.error(
                "baseline not readable", extra={"model_name": row.model_name, "error": str(error)}
            )
            return
        # From the store, as after a restart: they may be larger than the ring that there is.
        windows = ModelWindows(row.dimension, self.settings, newest.detector, newest.last_seq)
        self._follow(connection, windows, row)
        windows.advance(row.now.timestamp())
        model.adopt(newest, windows)
        _log.info("baseline adopted", extra={"model_name": row.model_name, "version": version})

    def _follow(self, connection: psycopg.Connection, windows: ModelWindows, row: ModelRow) -> None:
        if row.last_seq <= windows.seen_seq:
            return
        after = max(windows.seen_seq, row.last_seq - windows.capacity)
        since = row.now - timedelta(seconds=windows.seconds)
        rows = changes.vectors(connection, row, after, since)
        if not _is_consecutive(rows["seq"], row.last_seq):
            # The store's clock stepped back, and time no longer tells new from old.
            rows = changes.vectors(connection, row, after, None)
        windows.append(rows["embedding"], rows["received_at"])
        windows.seen_seq = row.last_seq

    def _fit_first(self, model_name: str) -> None:
        fit = self._fits.get(model_name)
        if fit is None or (fit.future.done() and self._monotonic() >= fit.again_at):
            future = self._fitting.submit(self._pin_first, model_name)
            self._fits[model_name] = _Fit(future, self._monotonic() + _FIT_PAUSE_SECONDS)

    def _pin_first(self, model_name: str) -> None:
        selection = Selection(first=self.settings.baseline.vectors)
        try:
            with unavailable(), self._primary.connection() as connection:
                baseline.pin(connection, model_name, selection, only_first=True)
        except Exception as error:  # nobody waits for this thread: what it hides is lost
            _log.error(
                "baseline not pinned; it will be tried again",
                exc_info=not isinstance(error, MonitorError | ValueError),
                extra={"model_name": model_name, "error": str(error)},
            )

    def _run(self) -> None:
        while not self._stop.is_set():
            start = time.perf_counter()
            try:
                self.poll()
            except ExceptionGroup as error:
                self._succeeded(time.perf_counter() - start)
                self._partly_failed(error)
            except Exception as error:
                self._failed(error)
            else:
                self._succeeded(time.perf_counter() - start)
            self._stop.wait(self.settings.poll_interval)

    def _succeeded(self, duration: float) -> None:
        if not self._status.up:
            _log.info("store followed", extra={"models": len(self._models.by_name)})
        # The time first: up goes by it.
        self._polled_at = self._monotonic()
        self._status = PollStatus(True, self._clock(), duration, self._status.failures)
        self.followed.set()

    def _partly_failed(self, error: ExceptionGroup) -> None:
        """Count it, and tell when it is something new: it comes again with every poll."""
        self._status = replace(self._status, failures=self._status.failures + 1)
        what = repr(error.exceptions)
        if what != self._told:
            _log.error("models not followed; the others are", exc_info=error)
        self._told = what

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, StoreUnavailable):
            _log.error("poll failed", exc_info=error)
        elif self._status.up or self._status.failures == 0:
            _log.warning("store lost; polling goes on", extra={"error": str(error)})
        self._status = replace(self._status, up=False, failures=self._status.failures + 1)


def _is_older(row: ModelRow, known: ModelRow) -> bool:
    """Whether a row comes from a replica that is further behind than the one read before."""
    return (
        row.created_at < known.created_at
        or row.last_seq < known.last_seq
        or (row.baseline_version or 0) < (known.baseline_version or 0)
    )


def _version(model: Model) -> int | None:
    return None if model.baseline is None else model.baseline.version


def _is_consecutive(seqs: NDArray[np.int64], last: int) -> bool:
    return bool((seqs == np.arange(last - len(seqs) + 1, last + 1)).all())
