"""The check: what is too slow for a scrape, done beside it every check_interval."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType

import psycopg

from exporter.monitor import forecast
from exporter.monitor.model import Model, Models
from exporter.monitor.verdict import Measurement, Verdict
from ingest.runtime.errors import StoreUnavailable
from ingest.store import history, pins
from ingest.store.connection import unavailable
from ingest.store.history import HistoryRow
from ingest.store.pool import Pool, await_end

_log = logging.getLogger(__name__)

_SURPRISING = 2.0
"""Decades of surprise from which exact statistics are worth their cost."""


@dataclass(frozen=True, slots=True)
class CheckStatus:
    """How checking went: when a check last succeeded for every model, and how many did not."""

    timestamp: float | None = None
    failures: int = 0


class Check:
    """Assesses vectors, records verdicts and judges their history, in a thread of its own.

    Parameters
    ----------
    pool : Pool
        What it reads: of the store or of its replicas.
    models : Models
    interval : float
        Seconds between two checks.
    followed : threading.Event
        Set once the windows have been read; there is nothing to check before.
    clock : callable
        Wall clock, for telling people when it checked.
    monotonic : callable
        A clock that never steps, for what is due.
    primary : Pool or None
        Where history is written; None writes where it reads.

    Attributes
    ----------
    interval : float
        The one in force; may be replaced at any time.
    status : CheckStatus
    """

    def __init__(
        self,
        pool: Pool,
        models: Models,
        interval: float,
        followed: threading.Event,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        primary: Pool | None = None,
    ) -> None:
        self._pool = pool
        self._primary = pool if primary is None else primary
        self._models = models
        self.interval = interval
        self._followed = followed
        self._clock = clock
        self._monotonic = monotonic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="check", daemon=True)
        self._history_due = -math.inf
        self.status = CheckStatus()

    def start(self) -> None:
        """Begin to check."""
        self._thread.start()

    def stop(self) -> None:
        """Stop and wait for the check under way, unless it waits for the server."""
        self._stop.set()
        self._followed.set()
        if self._thread.ident is not None:
            await_end(self._has_ended, self._pool, self._primary)

    def _has_ended(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def check(self) -> None:
        """Do all that is due, whichever model's part of it fails.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL is away.
        Exception
            What the first model raised that could not be checked.
        """
        models = self._models.by_name
        judging = self._monotonic() >= self._history_due
        rows: list[HistoryRow] = []
        failed = _Failures()
        for name, model in models.items():
            if self._stop.is_set():
                return
            with failed.of(name, model):
                verdicts = self._verdicts(model)
                with failed.of(name, model):
                    self._examine(model, verdicts, judging)
                rows += [_row(model, window, verdict) for window, verdict in verdicts.items()]
        if judging:
            self._history_due = self._monotonic() + forecast.HOUR_SECONDS
        # Last: it needs the primary, the others a replica only.
        with _connection(self._primary) as connection:
            history.append(connection, rows)
        if failed.first is not None:
            raise failed.first

    def _verdicts(self, model: Model) -> dict[str, Verdict]:
        now = self._models.now()
        return {name: model.verdict(name, now) for name in model.windows.windows}

    def _examine(self, model: Model, verdicts: Mapping[str, Verdict], judging: bool) -> None:
        # First: if another part fails, the history stays, and must not be an hour older by then.
        if judging:
            self._judge(model)
        model.assess()
        self._compare(model, _surprising(verdicts))

    def _compare(self, model: Model, surprising: Mapping[str, Measurement]) -> None:
        name, standing = model.row.model_name, model.standing
        baseline = standing.baseline
        if not surprising or baseline is None:
            standing.exact = MappingProxyType({})
            return
        with _connection(self._pool) as connection:
            reference = pins.vectors(connection, name, baseline.version, model.row.dimension)
        if len(reference):  # else it was dropped, with its model or for a newer one
            standing.compare(reference, surprising)

    def _judge(self, model: Model) -> None:
        """Judge the history that was measured against the baseline in use."""
        standing, now = model.standing, self._models.now()
        baseline = standing.baseline
        if baseline is None:
            return
        # Absent for the moment that it takes, and for the hour if it fails.
        standing.history = MappingProxyType({})
        since = datetime.fromtimestamp(now - forecast.LONGEST * forecast.HOUR_SECONDS, UTC)
        judged = {}
        for window in standing.windows.windows:
            with _connection(self._pool) as connection:
                times, values = history.cosine_similarities(
                    connection, model.row.model_name, window, baseline.version, since
                )
            judged[window] = forecast.judge(times, values, now)
        standing.history = MappingProxyType(judged)

    def _run(self) -> None:
        self._followed.wait()
        while not self._stop.is_set():
            try:
                self.check()
            except Exception as error:  # nobody waits for this thread: what it hides is lost
                self._failed(error)
            else:
                self.status = replace(self.status, timestamp=self._clock())
            self._stop.wait(self.interval)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, StoreUnavailable):
            _log.warning("check failed; the next one follows", extra={"error": str(error)})
        else:
            _log.error("check failed; the next one follows", exc_info=error)
        self.status = replace(self.status, failures=self.status.failures + 1)


class _Failures:
    """What models raised: the others go on."""

    def __init__(self) -> None:
        self.first: Exception | None = None

    @contextmanager
    def of(self, model_name: str, model: Model) -> Iterator[None]:
        """Keep what this model raises, but for what concerns them all."""
        try:
            yield
        except StoreUnavailable:
            raise
        except Exception as error:
            error.add_note(f"Raised by the check of model {model_name}")
            self.first = self.first or error
            model.forget()


@contextmanager
def _connection(pool: Pool) -> Iterator[psycopg.Connection]:
    # Held for a query, never while computing: the tail needs one too.
    with unavailable(), pool.connection() as connection:
        yield connection


def _surprising(verdicts: Mapping[str, Verdict]) -> dict[str, Measurement]:
    """Choose the windows worth a closer look."""
    return {
        window: verdict.measurement
        for window, verdict in verdicts.items()
        if verdict.measurement is not None and verdict.measurement.score > _SURPRISING
    }


def _row(model: Model, window_name: str, verdict: Verdict) -> HistoryRow:
    quality = model.quality.get(window_name)
    norm = None if quality is None else quality.norm
    return history_row(model.row.model_name, window_name, verdict, norm)


def history_row(
    model_name: str, window_name: str, verdict: Verdict, norm: float | None
) -> HistoryRow:
    """Make a verdict a row of history."""
    measured, version = verdict.measurement, verdict.baseline_version
    if measured is None:
        return HistoryRow(model_name, window_name, verdict.state, verdict.vectors, version)
    return HistoryRow(
        model_name,
        window_name,
        verdict.state,
        verdict.vectors,
        version,
        measured.score,
        measured.magnitude,
        measured.cosine_similarity,
        norm,
        dict(measured.components),
    )
