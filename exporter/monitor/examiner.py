"""The examiner: runs examinations in a background thread, and records verdicts and reports."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

import msgspec
import psycopg

from exporter.monitor import reporting
from exporter.monitor.examinations import Examination
from exporter.monitor.history import history_row
from exporter.monitor.model import Model, Models, Standing
from exporter.monitor.snapshot import ExaminationStatus, ModelSnapshot
from ingest.runtime.errors import StoreLost, StoreUnavailable
from ingest.runtime.worker import Worker, WorkStatus
from ingest.store import history, reports, slice_history, standbys
from ingest.store.history import HistoryRow
from ingest.store.models import hold
from ingest.store.pool import Pool
from ingest.store.reports import Report
from ingest.store.slice_history import SlicedRow
from ingest.store.standbys import Standbys

_log = logging.getLogger(__name__)

_WAIT_SECONDS = 0.1
_AWAY_SECONDS = 60.0
"""Seconds at most until the next check if nothing could be recorded: the interval may be hours."""
RECORD = "record"
"""Label value for the time spent on writing history and reports."""


class Examiner:
    """Checks all models every ``interval`` seconds, in its own thread.

    Parameters
    ----------
    models : Models
    examinations : sequence of Examination
    pool : Pool
        Of the primary, where the drift history and the reports are written.
    interval : float
        Seconds between two checks.
    followed : threading.Event
        Set once the windows have been read; there is nothing to check before.
    clock : callable
        Wall clock, for timestamps.
    monotonic : callable
        A clock that never steps, for what is due.

    Attributes
    ----------
    interval : float
        The current interval.
    examined : mapping of str to ExaminationStatus
        By name of the examination; replaced as a whole.
    standbys : Standbys or None
        Of the primary, at the last check; None before, and if it could not be asked.
    """

    def __init__(
        self,
        models: Models,
        examinations: Sequence[Examination],
        pool: Pool,
        interval: float,
        followed: threading.Event,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = models
        self._examinations = examinations
        self._pool = pool
        self.interval = interval
        self._followed = followed
        self._monotonic = monotonic
        self._worker = Worker(
            "examiner",
            self._work,
            self._pause,
            failed=_log_failure,
            meanwhile=self.catch_up,
            clock=clock,
        )
        self.examined: Mapping[str, ExaminationStatus] = MappingProxyType({})
        self.standbys: Standbys | None = None
        self._is_unrecorded = False
        self._reported: Mapping[str, _Reported] = {}

    @property
    def status(self) -> WorkStatus:
        """When a check last succeeded for every model, and how many did not."""
        return self._worker.status

    def start(self) -> None:
        """Start to check."""
        self._worker.start()

    def stop(self, cut: Callable[[], None]) -> None:
        """Stop; ``cut`` interrupts a check that waits for the server."""
        self._worker.stop(cut)

    def reconfigure(self, interval: float) -> None:
        """Check as often as this from now on."""
        self.interval = interval
        self._worker.wake()

    def notice(self, models: Iterable[ModelSnapshot]) -> None:
        """Catch up soon if an examination of one of these models is awaited, or its report."""
        if any(self._awaited(m) or not self._is_reported(m) for m in models):
            self._worker.wake()

    def _work(self) -> None:
        # There is nothing to check before the windows have been read.
        while not self._followed.wait(_WAIT_SECONDS):
            if self._worker.is_stopping:
                return
        self.check()

    def _pause(self) -> float:
        return min(self.interval, _AWAY_SECONDS) if self._is_unrecorded else self.interval

    def catch_up(self) -> None:
        """Run the examinations that are awaited before the next check.

        Only models that are new, or by other settings, are reported; nothing else is recorded.

        Raises
        ------
        StoreLost
            If PostgreSQL is away.
        Exception
            The first error that a model raised.
        """
        check = _Check()
        now = self._models.now()
        new = _Reports()
        for model in self._models.by_name.values():
            if self._worker.is_stopping:
                return
            with check.keeping(model.row.model_name):
                standing = model.standing
                subject = model.judge(standing, now)
                if awaited := self._awaited(subject):
                    self._examine(model, standing, awaited, check)
                if not self._is_reported(subject):
                    found = model.judge(standing, now)
                    new.append((found, _report(found, now)))
        if new:
            rows = [found.row for found, _ in new]
            with self._pool.borrow() as connection, hold(connection, rows) as held:
                self._report(connection, new, held)
        check.raise_first()

    def check(self) -> None:
        """Run the examinations that are due, and record the verdicts.

        The failure of one model, or of one examination, leaves the others alone. So the verdicts
        are recorded also without the replica that an examination needs.

        Raises
        ------
        StoreLost
            If PostgreSQL is away.
        Exception
            The first error that a model raised.
        """
        check = _Check()
        self._is_unrecorded = False
        try:
            self._check(check)
        except StoreUnavailable:
            self._is_unrecorded = True
            raise
        finally:
            self.examined = MappingProxyType({**self.examined, **check.statuses()})
        check.raise_first()

    def _check(self, check: _Check) -> None:
        rows: list[HistoryRow] = []
        sliced: list[SlicedRow] = []
        judged: list[ModelSnapshot] = []
        for model in self._models.by_name.values():
            if self._worker.is_stopping:
                return
            with check.keeping(model.row.model_name):
                # Read once: the tail replaces it when a baseline is adopted.
                standing = model.standing
                due = [each for each in self._examinations if self._is_due(each, standing)]
                subject = self._examine(model, standing, due, check)
                rows += _rows(subject, standing)
                # Again: now with what the examinations found.
                found = model.judge(standing, self._models.now())
                judged.append(found)
                sliced += _sliced_rows(found)
        if not self._worker.is_stopping:
            self._record(rows, sliced, judged, check)

    def _record(
        self,
        rows: Sequence[HistoryRow],
        sliced: Sequence[SlicedRow],
        judged: Sequence[ModelSnapshot],
        check: _Check,
    ) -> None:
        now, made, found = self._models.now(), _Reports(), None
        for model in judged:
            with check.keeping(model.row.model_name):
                made.append((model, _report(model, now)))
        try:
            with check.timed(RECORD), self._pool.borrow() as connection:
                with hold(connection, [model.row for model in judged]) as held:
                    history.append(connection, [row for row in rows if row.model_name in held])
                    kept = [(name, row) for name, row in sliced if row.model_name in held]
                    slice_history.append(connection, kept)
                    self._report(connection, made, held)
                found = standbys.read(connection)
        finally:
            self.standbys = found

    def _is_reported(self, model: ModelSnapshot) -> bool:
        return self._reported.get(model.row.model_name) == _reported(model, self.interval)

    def _report(self, connection: psycopg.Connection, made: _Reports, held: Container[str]) -> None:
        interval = self.interval
        kept = [report for _, report in made if report.model_name in held]
        reports.write(connection, kept, interval)
        new = {model.row.model_name: _reported(model, interval) for model, _ in made}
        reported, present = {**self._reported, **new}, self._models.by_name
        self._reported = {name: known for name, known in reported.items() if name in present}

    def _examine(
        self, model: Model, standing: Standing, due: Sequence[Examination], check: _Check
    ) -> ModelSnapshot:
        """Attach the findings of examinations to a standing; return what they are about."""
        try:
            subject = model.judge(standing, self._models.now(), with_vectors=True)
        except Exception:
            for examination in due:
                standing.attach(examination.name, {})
            raise
        for examination in due:
            if examination.name in check.lost:
                continue
            found: Mapping[str, object] | None = {}
            try:
                with check.keeping(model.row.model_name), check.timed(examination.name):
                    try:
                        found = examination.examine(subject)
                    except StoreUnavailable:
                        found = None  # what it found before stays
                        raise
                    standing.examined_at[examination.name] = self._monotonic()
            except StoreLost as error:
                # For each other model, it would wait as long.
                check.lost[examination.name] = error
            if found is not None:
                standing.attach(examination.name, found)
        return subject

    def _awaited(self, model: ModelSnapshot) -> list[Examination]:
        return [each for each in self._examinations if each.is_awaited(model)]

    def _is_due(self, examination: Examination, standing: Standing) -> bool:
        last = standing.examined_at.get(examination.name, -math.inf)
        return self._monotonic() - last >= examination.interval


_Reports = list[tuple[ModelSnapshot, Report]]
"""Reports, each with the model that it is about."""


class _Reported(NamedTuple):
    """What a report depends on, beside what was measured. If that changes, it is made again."""

    created_at: datetime  # another model of its name has no report yet
    slice_keys: tuple[str, ...]
    interval: float


def _reported(model: ModelSnapshot, interval: float) -> _Reported:
    return _Reported(model.row.created_at, model.slice_keys, interval)


class _Check:
    """Duration and success of the examinations in one check, and the first error.

    Attributes
    ----------
    lost : dict of str to StoreLost
        Examinations that lost the store. They are not run again in this check.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._failed: set[str] = set()
        self._first_error: Exception | None = None
        self.lost: dict[str, StoreLost] = {}

    def raise_first(self) -> None:
        """Raise the first error. That the store was lost is told rather than what one model has."""
        for error in (*self.lost.values(), self._first_error):
            if error is not None:
                raise error

    def statuses(self) -> dict[str, ExaminationStatus]:
        return {
            name: ExaminationStatus(name not in self._failed, seconds)
            for name, seconds in self._seconds.items()
        }

    @contextmanager
    def keeping(self, model_name: str) -> Iterator[None]:
        """Keep the error of one model, so that the others are still examined.

        StoreLost is raised, because it affects all models.
        """
        try:
            yield
        except StoreLost:
            raise
        except Exception as error:
            error.add_note(f"Raised by the check of model {model_name}")
            self._first_error = self._first_error or error

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add to the time of an examination, and note its failure."""
        start = time.perf_counter()
        try:
            yield
        except Exception:
            self._failed.add(name)
            raise
        finally:
            spent = time.perf_counter() - start
            self._seconds[name] = self._seconds.get(name, 0.0) + spent


def _report(model: ModelSnapshot, now: float) -> Report:
    encode = msgspec.json.encode
    glance, detail = encode(reporting.listed(model)), encode(reporting.detail(model))
    return Report(model.row.model_name, now - model.computed_at, glance, detail)


def _rows(subject: ModelSnapshot, standing: Standing) -> list[HistoryRow]:
    rows = []
    for each in subject.series:
        found = standing.findings[each.series.window]
        norm = None if found.quality is None else found.quality.norm
        magnitude = None if found.magnitude is None else found.magnitude.ratio
        rows.append(history_row(each.series, each.verdict, norm, magnitude))
    return rows


def _sliced_rows(found: ModelSnapshot) -> list[SlicedRow]:
    """Return the rows of the slices, as they were last measured."""
    rows = []
    for each in found.slices:
        magnitude = each.findings.magnitude
        changed = None if magnitude is None else magnitude.ratio
        rows.append((each.series.slice, history_row(each.series, each.verdict, None, changed)))
    return rows


def _log_failure(error: Exception) -> None:
    if isinstance(error, StoreUnavailable):
        _log.warning("check failed; the next one follows", extra={"error": str(error)})
    else:
        _log.error("check failed; the next one follows", exc_info=error)
