"""Fitting: pins automatic baselines in a background thread, one at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

import psycopg

from exporter.detector.season import COVERED
from exporter.monitor import baseline, maturing
from exporter.monitor.history import past_scores
from exporter.monitor.maturing import Maturing
from exporter.monitor.model import Model
from ingest.runtime.errors import MonitorError
from ingest.runtime.thresholds import SCORE
from ingest.runtime.worker import await_end
from ingest.store import changes
from ingest.store.pool import Pool
from ingest.store.selection import Selection

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 60.0


class _Work(NamedTuple):
    """Work on the baseline of a model, and the time from which it may be done again."""

    future: Future[None]
    again_at: float


class Fitting:
    """Pins the first baseline of a model, and those that it matures to, in its own thread.

    A fit takes seconds of a core.

    Parameters
    ----------
    pool : Pool
        Of the primary.
    monotonic : callable
        A clock that never steps.
    """

    def __init__(self, pool: Pool, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._monotonic = monotonic
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="baseline")
        self._works: dict[str, _Work] = {}
        self._forgotten: list[Future[None]] = []

    def request_first(self, model_name: str, vectors: int) -> None:
        """Pin the first n vectors of a model, unless that is under way or just failed."""

        def pin(connection: psycopg.Connection) -> None:
            first = Selection(first=vectors)
            baseline.pin(connection, model_name, first, instead_of=0, least=vectors)

        self._request(model_name, pin, _RETRY_SECONDS)

    def request_another(self, model: Model) -> None:
        """Pin the newest vectors of a model, as many as of a first baseline, if they vary."""
        name, last = model.row.model_name, Selection(last=model.settings.baseline.vectors)
        version = None if model.baseline is None else model.baseline.version

        def pin(connection: psycopg.Connection) -> None:
            baseline.pin(connection, name, last, instead_of=version)

        self._request(name, pin, float(model.settings.check_interval))

    def request_next(self, model: Model, now: float) -> None:
        """Pin the next baseline of a model if it is due, unless it was looked at just now.

        Parameters
        ----------
        model : Model
            Gets what comes next as its ``maturing``.
        now : float
            Time of the store.
        """
        name, pause = model.row.model_name, float(model.settings.check_interval)
        self._request(name, lambda connection: mature(connection, model, now), pause)

    def _request(
        self, model_name: str, work: Callable[[psycopg.Connection], object], pause: float
    ) -> None:
        last = self._works.get(model_name)
        if last is None or (last.future.done() and self._monotonic() >= last.again_at):
            future = self._threads.submit(self._do, model_name, work)
            self._works[model_name] = _Work(future, self._monotonic() + pause)

    def forget(self, model_name: str) -> None:
        """Forget a model that was removed, or replaced by another of its name."""
        work = self._works.pop(model_name, None)
        # Work that runs already pins nothing: the new model has too few vectors for it.
        if work is not None and not work.future.cancel():
            self._forgotten.append(work.future)

    def stop(self) -> None:
        """Stop after the work under way. Work that waits for the server is interrupted."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        futures = [*self._forgotten, *(work.future for work in self._works.values())]
        running = [future for future in futures if not future.cancelled()]
        await_end(lambda seconds: not wait(running, seconds).not_done, self._pool.cut)

    def _do(self, model_name: str, work: Callable[[psycopg.Connection], object]) -> None:
        try:
            with self._pool.borrow() as connection:
                work(connection)
        # Log every error: the thread has no caller that would see it.
        except Exception as error:
            _log.error(
                "baseline not pinned; it will be tried again",
                exc_info=not isinstance(error, MonitorError | ValueError),
                extra={"model_name": model_name, "error": str(error)},
            )


def mature(connection: psycopg.Connection, model: Model, now: float) -> None:
    """Note what comes next for the baseline of a model, and pin it if it is due."""
    found, row = model.baseline, model.row
    if found is None or not found.matures:
        return
    settings = model.settings.baseline
    planned = _plan(connection, model, found, now)
    if planned is not None and planned.waits_for is None:
        seconds = maturing.SPANS[planned.stage]
        since = datetime.fromtimestamp(now - seconds, UTC)
        first = changes.first_seq(connection, row, since)
        selection = Selection(arrived=since, most=settings.mature_vectors)
        if row.last_seq - first + 1 < settings.vectors or not baseline.pin(
            connection, row.model_name, selection, found.version, span=COVERED * seconds
        ):
            planned = replace(planned, waits_for="vectors")
    model.maturing = planned


def _plan(
    connection: psycopg.Connection, model: Model, found: baseline.Baseline, now: float
) -> Maturing | None:
    row, stage = model.row, found.stage
    first_at = changes.first_arrival(connection, row.model_name)
    since = datetime.fromtimestamp(now - max(maturing.SPANS.values()), UTC)
    scores = past_scores(connection, row.model_name, since, found.version, stage)
    drifts = any(
        each.verdict.measurement is not None
        and each.verdict.measurement.score > SCORE[stage][each.series.window].lasting
        for each in model.snapshot(now).series
    )
    drifted_at = now if drifts else maturing.last_drift(scores)
    # A new baseline is never made of vectors from before this one: a person may have pinned it
    # because everything was different then.
    first_at = max(now if first_at is None else first_at, found.first_at.timestamp())
    return maturing.plan(stage, first_at, drifted_at, now)
