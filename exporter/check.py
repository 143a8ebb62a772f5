"""The check: what is too slow for a scrape, done beside it every check_interval."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg
from psycopg_pool import ConnectionPool

from exporter import seasonal
from exporter.model import Model, Models
from exporter.verdict import Measurement, Verdict
from ingest.runtime.errors import StoreUnavailable
from ingest.store import baselines, history
from ingest.store.history import HistoryRow
from ingest.store.pool import unavailable

_log = logging.getLogger(__name__)

_SURPRISING = 2.0
"""Decades of surprise from which exact statistics are worth their cost."""

NamedVerdict = tuple[str, str, Verdict]
"""Model name, window name and verdict."""


class Check:
    """Assesses vectors, records verdicts and judges their history, in a thread of its own.

    Parameters
    ----------
    pool : ConnectionPool
        What it reads: of the store or of its replicas.
    models : Models
    interval : float
        Seconds between two checks.
    followed : threading.Event
        Set once the windows have been read; there is nothing to check before.
    monotonic : callable
        A clock that never steps, for what is due.
    primary : ConnectionPool or None
        Where history is written; None writes where it reads.

    Attributes
    ----------
    interval : float
        The one in force; may be replaced at any time.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        models: Models,
        interval: float,
        followed: threading.Event,
        monotonic: Callable[[], float] = time.monotonic,
        primary: ConnectionPool | None = None,
    ) -> None:
        self._pool = pool
        self._primary = pool if primary is None else primary
        self._models = models
        self.interval = interval
        self._followed = followed
        self._monotonic = monotonic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="check", daemon=True)
        self._history_due = -math.inf

    def start(self) -> None:
        """Begin to check."""
        self._thread.start()

    def stop(self) -> None:
        """Stop and wait for the check under way."""
        self._stop.set()
        self._followed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def check(self) -> None:
        """Do all that is due.

        Raises
        ------
        StoreUnavailable
            If PostgreSQL is away.
        """
        for model in self._models.by_name.values():
            model.assess()
        verdicts = list(self._models.verdicts())
        surprising = _surprising(verdicts)
        for name, model in self._models.by_name.items():
            self._compare(model, surprising[name])
        if self._monotonic() >= self._history_due:
            for model in self._models.by_name.values():
                self._judge(model)
            self._history_due = self._monotonic() + seasonal.HOUR_SECONDS
        # Last: it needs the primary, the others a replica only.
        self._record(verdicts)

    def _record(self, verdicts: list[NamedVerdict]) -> None:
        models = self._models.by_name  # without those removed since
        rows = [_row(models[name], window, v) for name, window, v in verdicts if name in models]
        with _connection(self._primary) as connection:
            history.append(connection, rows)

    def _compare(self, model: Model, surprising: Mapping[str, Measurement]) -> None:
        name, standing = model.row.model_name, model.standing
        baseline = standing.baseline
        if not surprising or baseline is None:
            standing.exact = {}
            return
        with _connection(self._pool) as connection:
            reference = baselines.vectors(connection, name, baseline.version, model.row.dimension)
        if len(reference):  # else it was dropped, with its model or for a newer one
            standing.compare(reference, surprising)

    def _judge(self, model: Model) -> None:
        """Judge the history that was measured against the baseline in use."""
        standing, now = model.standing, self._models.now()
        baseline = standing.baseline
        if baseline is None:
            return
        since = datetime.fromtimestamp(now - seasonal.LONGEST * seasonal.HOUR_SECONDS, UTC)
        judged = {}
        for window in standing.windows.windows:
            with _connection(self._pool) as connection:
                times, values = history.cosine_similarities(
                    connection, model.row.model_name, window, baseline.version, since
                )
            judged[window] = seasonal.judge(times, values, now)
        standing.history = judged

    def _run(self) -> None:
        self._followed.wait()
        while not self._stop.is_set():
            try:
                self.check()
            except StoreUnavailable as error:
                _log.warning("check failed; the next one follows", extra={"error": str(error)})
            except Exception as error:  # nobody waits for this thread: what it hides is lost
                _log.error("check failed; the next one follows", exc_info=error)
            self._stop.wait(self.interval)


@contextmanager
def _connection(pool: ConnectionPool) -> Iterator[psycopg.Connection]:
    # Held for a query, never while computing: the tail needs one too.
    with unavailable(), pool.connection() as connection:
        yield connection


def _surprising(verdicts: list[NamedVerdict]) -> defaultdict[str, dict[str, Measurement]]:
    """Choose the windows worth a closer look, by model and window."""
    found: defaultdict[str, dict[str, Measurement]] = defaultdict(dict)
    for model_name, window_name, verdict in verdicts:
        if verdict.measurement is not None and verdict.measurement.score > _SURPRISING:
            found[model_name][window_name] = verdict.measurement
    return found


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
