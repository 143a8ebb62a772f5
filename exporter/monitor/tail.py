"""The tail: polls the store for new vectors and baselines, and feeds the models."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import psycopg
from numpy.typing import NDArray

from exporter.detector.codec import Outdated
from exporter.monitor import baseline
from exporter.monitor.fitting import Fitting
from exporter.monitor.following import Reason
from exporter.monitor.maturing import SPANS
from exporter.monitor.model import Model, Models
from exporter.monitor.ring import Arrivals
from exporter.monitor.snapshot import PollStatus
from exporter.monitor.successor import fewest
from exporter.monitor.windows import ModelWindows
from ingest.runtime.errors import NotFound, StoreLost, StoreUnavailable
from ingest.runtime.settings.settings import MonitoringSettings
from ingest.runtime.worker import Worker
from ingest.store import changes
from ingest.store.changes import ModelRow
from ingest.store.connection import unavailable
from ingest.store.dimension import find_dimension
from ingest.store.pool import Pool
from ingest.store.shard import WHOLE, Shard

_log = logging.getLogger(__name__)

_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATE_SECONDS = 10.0
"""If the last successful poll is older than this and than three polls take, `up` is 0. Acknowledged
vectors may take as long into the windows."""
_REPLICA_LATE_SECONDS = 60.0
"""Seconds for which acknowledged vectors may be on their way through a replica."""
_STEP_SECONDS = 10.0
"""Seconds by which the store's clock must be behind that of the poll before."""
_NUMBERS = 100_000
"""Numbers of vectors that are looked at together."""


class Tail:
    """Follows the store in its own thread.

    Parameters
    ----------
    pool : Pool
        Of the store or of its replicas; read from.
    models : Models
        Fed with vectors and baselines.
    settings : MonitoringSettings
    shard : Shard
        Which models it follows.
    clock : callable
        Wall clock, for timestamps.
    monotonic : callable
        A clock that never steps, for what is due.
    primary : Pool or None
        Where baselines are pinned; None pins where it reads.

    Attributes
    ----------
    settings : MonitoringSettings
        The current settings.
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
        self._monotonic = monotonic
        self.followed = threading.Event()
        self._fitting = Fitting(self._primary, monotonic)
        self._unreadable: dict[str, _Unreadable] = {}
        self._rewinds = 0
        self._polled_at = -math.inf
        self._polled_by = settings
        self._partial_failures = 0
        self._last_partial_failure = ""
        self._worker = Worker(
            "tail",
            self._work,
            lambda: self.settings.poll_interval,
            succeeded=self._log_followed,
            failed=_log_failure,
            meanwhile=self._work,
            clock=clock,
        )

    @property
    def status(self) -> PollStatus:
        """How polling goes; up only while polls keep succeeding, because one may hang."""
        status = self._worker.status
        # By other settings, the last poll may be long ago. The next one has begun already.
        usual = self._polled_by.poll_interval + (status.duration or 0.0)
        late = self._monotonic() - self._polled_at > max(_LATE_SECONDS, 3 * usual)
        return PollStatus(
            up=status.succeeded and not late,
            timestamp=status.timestamp,
            duration=status.duration,
            failures=status.failures + self._partial_failures,
            rewinds=self._rewinds,
        )

    def start(self) -> None:
        """Start to poll."""
        self._worker.start()

    def reconfigure(self, settings: MonitoringSettings) -> None:
        """Apply other settings, and poll by them at once."""
        self.settings = settings
        # Before the poll, which may wait for the store: what they do not allow any more must go.
        for model in self._models.by_name.values():
            model.settings = settings
        self._worker.wake()

    def stop(self) -> None:
        """Stop polling and fitting. What waits for the server is interrupted."""
        self._worker.stop(self._cut)
        # Not before: a poll may request a fit.
        self._fitting.stop()

    def _cut(self) -> None:
        self._pool.cut()
        self._primary.cut()

    def _work(self) -> None:
        begun, patience = self._monotonic(), self._patience
        self._poll()
        if self._monotonic() - begun > patience:
            # As after a restart of a fleet: the models that it read first count as behind by now.
            self._poll()
        self._polled_at, self._polled_by = self._monotonic(), self.settings
        self.followed.set()

    def _poll(self) -> None:
        try:
            self.poll()
        except ExceptionGroup as error:
            self._log_partial_failure(error)
        else:
            self._last_partial_failure = ""

    def _log_followed(self) -> None:
        _log.info("store followed", extra={"models": len(self._models.by_name)})

    def _log_partial_failure(self, error: ExceptionGroup) -> None:
        """Count it, and log it when it is a new one: the same one comes with every poll."""
        self._partial_failures += 1
        failure = repr(error.exceptions)
        if failure != self._last_partial_failure:
            _log.error("some models could not be read from the store", exc_info=error)
        self._last_partial_failure = failure

    def poll(self) -> None:
        """Read everything that is new.

        Raises
        ------
        StoreLost
            If PostgreSQL is away. What was read before stays.
        ExceptionGroup
            Errors of models that could not be followed. The other models were.
        """
        failed: list[Exception] = []
        acknowledged = self._acknowledged()
        with self._pool.borrow() as connection:
            rows = changes.models(connection, self._shard)
            # Once, while it is fresh: the poll may take long.
            if rows:
                self._models.set_clock(rows[-1].now.timestamp())
            for row in rows:
                try:
                    self._update(connection, row, acknowledged.get(row.model_name, row.last_seq))
                except StoreLost:
                    raise  # it concerns all models
                except Exception as error:  # it concerns one model; the others go on
                    error.add_note(f"Raised by model {row.model_name}")
                    failed.append(error)
        for name in self._models.by_name.keys() - {row.model_name for row in rows}:
            self._forget_removed(name)
        if failed:
            raise ExceptionGroup("some models could not be read from the store", failed)

    def _forget_removed(self, model_name: str) -> None:
        # Ask the primary: a replica that is behind does not have a new model yet.
        with suppress(StoreUnavailable), self._primary.borrow() as connection:
            if find_dimension(connection, model_name) is None:
                self._models.remove(model_name)
                self._fitting.forget(model_name)
                self._unreadable.pop(model_name, None)
                _log.info("model removed", extra={"model_name": model_name})

    def _acknowledged(self) -> Mapping[str, int]:
        """Ask the primary which vectors were acknowledged, where they are read from a replica."""
        if self._primary is self._pool:
            return {}
        # Without the primary nothing is acknowledged, and drift is measured on.
        with suppress(StoreUnavailable), self._primary.borrow() as connection:
            return changes.last_seqs(connection, self._shard)
        return {}

    @property
    def _patience(self) -> float:
        """Seconds for which acknowledged vectors may be on their way into the windows."""
        usual = self.settings.poll_interval + (self._worker.status.duration or 0.0)
        late = _LATE_SECONDS if self._primary is self._pool else _REPLICA_LATE_SECONDS
        return max(late, 3 * usual)

    def _update(self, connection: psycopg.Connection, row: ModelRow, acknowledged: int) -> None:
        model = self._models.by_name.get(row.model_name)
        if model is None or row.created_at > model.row.created_at:
            model = self._renew(row)
        model.settings = self.settings
        now = row.now.timestamp()
        try:
            with unavailable():
                if _is_another(row, model.row) or (
                    _is_older(row, model.row) and self._is_set_back(connection, model.row)
                ):
                    self._log_rewind(model.row, row.last_seq)
                    model = self._renew(row)
                elif self._was_ahead(row, model.row):
                    # What seemed too old has left the windows, and what is due seems far away.
                    _log.warning(
                        "the store's clock went back; the windows are reloaded",
                        extra={"model_name": row.model_name},
                    )
                    model = self._renew(row)
                if not _is_older(row, model.row):
                    model = self._follow_model(connection, model, row)
        except StoreLost:
            raise
        except Exception as error:
            model = self._models.by_name[row.model_name]  # a store set back renews it
            detail = f"{type(error).__name__}: {error}"
            seen = model.windows.seen_seq
            reason: Reason = "vectors_unreadable"
            model.ledger.fail(now, acknowledged, seen, self._patience, reason, detail)
            raise
        else:
            self._note(model, now, acknowledged)
        finally:
            model.windows.advance(now)

    def _follow_model(self, connection: psycopg.Connection, model: Model, row: ModelRow) -> Model:
        known, model.row = model.row, row
        self._update_baseline(connection, model, row)
        try:
            self._follow(connection, model.windows, row)
        except _SetBack:
            self._log_rewind(known, row.last_seq)
            model = self._renew(row)
            self._update_baseline(connection, model, row)
            self._follow(connection, model.windows, row)
        return model

    def _note(self, model: Model, now: float, acknowledged: int) -> None:
        unreadable = self._unreadable.get(model.row.model_name)
        ledger, seen, patience = model.ledger, model.windows.seen_seq, self._patience
        if unreadable is None:
            ledger.succeed(now, acknowledged, seen, patience)
        else:
            detail = f"baseline {unreadable.version}: {unreadable.error}"
            ledger.fail(now, acknowledged, seen, patience, "baseline_unreadable", detail)

    def _renew(self, row: ModelRow) -> Model:
        """Load a model from the start: it is new, or its loaded state is no longer valid."""
        model = Model(row, self.settings)
        self._models.add(model)
        self._fitting.forget(row.model_name)
        self._unreadable.pop(row.model_name, None)
        return model

    def _is_set_back(self, connection: psycopg.Connection, known: ModelRow) -> bool:
        """Whether the primary itself has less of a model than was read before, as after a restore.

        A replica that has less is only behind.
        """
        if self._primary is self._pool:
            # The poll's own connection: the pool may have no other one.
            return _has_less(connection, known)
        with suppress(StoreUnavailable), self._primary.borrow() as primary:
            return _has_less(primary, known)
        return False

    def _was_ahead(self, row: ModelRow, known: ModelRow) -> bool:
        """Whether the store's clock was ahead when the row before was read.

        Replicas that are read in turn may have clocks that differ, so the primary's decides.
        """
        if _is_older(row, known) or not _is_ahead(known, row):
            return False
        if self._primary is self._pool:
            return True
        with suppress(StoreUnavailable), self._primary.borrow() as primary:
            found = changes.model(primary, known.model_name)
            return found is not None and _is_ahead(known, found)
        return False

    def _log_rewind(self, known: ModelRow, last_seq: int) -> None:
        self._rewinds += 1
        _log.warning(
            "store set back, as by a restore; the windows are reloaded",
            extra={
                "model_name": known.model_name,
                "vectors_before": known.last_seq,
                "vectors_now": last_seq,
            },
        )

    def _update_baseline(self, connection: psycopg.Connection, model: Model, row: ModelRow) -> None:
        unreadable = self._unreadable.get(row.model_name)
        if unreadable is not None and unreadable.version != row.baseline_version:
            del self._unreadable[row.model_name]
            unreadable = None
        if row.baseline_version is None:
            if row.last_seq >= self.settings.baseline.vectors:
                self._fitting.request_first(
                    row.model_name, self.settings.baseline.vectors, self.settings.zone
                )
            # Also if there were more: those that are stored still may be fewer.
            if self._may_be_early(row):
                self._fitting.request_early(model)
        elif unreadable is not None:
            return
        elif not _has_adopted(model, row):
            self._adopt(connection, model, row, row.baseline_version)
        else:
            self._divide(model)
            if self.settings.baseline.mature:
                self._mature(model, row.now.timestamp())
            else:
                model.maturing = None

    def _may_be_early(self, row: ModelRow) -> bool:
        """Whether the first baseline need not wait for all of its vectors, if they fill a week."""
        return (
            self.settings.baseline.mature
            and row.last_seq >= fewest(self.settings)
            and row.now - row.created_at >= timedelta(seconds=SPANS["weekly"])
        )

    def _divide(self, model: Model) -> None:
        """Have the slices fitted that the settings ask for."""
        standing, keys = model.standing, self.settings.slices_of(model.row.model_name)
        slicing = standing.slicing
        known = () if slicing is None else slicing.keys
        if keys == known and (slicing is None or slicing.is_complete):
            return
        if keys:
            self._fitting.request_slices(model.row.model_name, standing, keys)
        else:
            standing.slicing = None

    def _mature(self, model: Model, now: float) -> None:
        found, planned = model.baseline, model.maturing
        if found is None or not found.matures:
            return
        if not found.varies:
            if model.row.last_seq - found.last_seq >= self.settings.baseline.vectors:
                self._fitting.request_another(model)
            return
        if found.stage == "weekly":
            self._fitting.request_suggestion(model, now)
        elif planned is None or now >= planned.due_at:
            self._fitting.request_next(model, now)

    def _adopt(
        self, connection: psycopg.Connection, model: Model, row: ModelRow, version: int
    ) -> None:
        if self._fitting.is_being_replaced(row.model_name, version):
            return
        try:
            newest = baseline.load(connection, row.model_name, version)
        except NotFound:
            return  # dropped for a newer version, which the next poll finds
        except Outdated:
            self._fitting.request_again(row.model_name, version)
            return
        except ValueError as error:
            # Written by a newer version of this program. The model keeps its old baseline.
            self._unreadable[row.model_name] = _Unreadable(version, str(error))
            _log.error(
                "baseline not readable", extra={"model_name": row.model_name, "error": str(error)}
            )
            return
        # Read the windows from the store, as after a restart: they may be larger than the ring.
        windows = ModelWindows(
            row.dimension, self.settings, newest.detector, newest.last_seq, newest.zone
        )
        self._follow(connection, windows, row)
        windows.advance(row.now.timestamp())
        model.adopt(newest, windows)
        _log.info("baseline adopted", extra={"model_name": row.model_name, "version": version})

    def _follow(self, connection: psycopg.Connection, windows: ModelWindows, row: ModelRow) -> None:
        if row.last_seq > windows.seen_seq:
            self._check_overlap(connection, windows, row)
        windows.follow(_Stored(connection, row), row.last_seq, row.now.timestamp())
        windows.seen_at = _seen_at(windows, row)

    def _check_overlap(
        self, connection: psycopg.Connection, windows: ModelWindows, row: ModelRow
    ) -> None:
        """Check that the newest vector seen is still the one of its number.

        Raises
        ------
        _SetBack
            If another one has it: the store was set back, and has grown past that number since.
        """
        if windows.seen_at is not None and changes.is_another(
            connection, row.model_name, windows.seen_seq, windows.seen_at
        ):
            raise _SetBack


class _Unreadable(NamedTuple):
    """A baseline that this version of the program cannot read, and why."""

    version: int
    error: str


class _SetBack(Exception):
    """Numbers of vectors that were read before belong to other vectors now."""


def _log_failure(error: Exception) -> None:
    if isinstance(error, StoreUnavailable):
        _log.warning("store lost; polling goes on", extra={"error": str(error)})
    else:
        _log.error("poll failed", exc_info=error)


def _is_older(row: ModelRow, known: ModelRow) -> bool:
    """Whether a row comes from a replica that is further behind than the one read before."""
    return (
        row.created_at < known.created_at
        or row.last_seq < known.last_seq
        or (row.baseline_used_at or _EARLIEST) < (known.baseline_used_at or _EARLIEST)
    )


def _is_ahead(known: ModelRow, row: ModelRow) -> bool:
    """Whether a row that was read before is from a later time."""
    return known.now - row.now > timedelta(seconds=_STEP_SECONDS)


def _has_less(connection: psycopg.Connection, known: ModelRow) -> bool:
    """Whether a store has less of a model than was read before."""
    found = changes.model(connection, known.model_name)
    return found is not None and _is_older(found, known)


def _is_another(row: ModelRow, known: ModelRow) -> bool:
    """Whether the newest vector is another one of the same number, as after a restore."""
    return (
        row.created_at == known.created_at
        and row.last_seq == known.last_seq
        and row.last_received_at != known.last_received_at
    )


def _has_adopted(model: Model, row: ModelRow) -> bool:
    """Whether a model is measured against the baseline in use.

    A person may choose the version that is in use already: then only people replace it.
    """
    found = model.baseline
    if found is None:
        return False
    return (found.version, found.used_at) == (row.baseline_version, row.baseline_used_at)


def _seen_at(windows: ModelWindows, row: ModelRow) -> float | None:
    """Return when the newest vector was stored, if it is in the store still."""
    received = row.last_received_at
    if received is None or row.now - received > timedelta(seconds=windows.seconds):
        return None
    return received.timestamp()


class _Stored(NamedTuple):
    """The vectors of a model in PostgreSQL, as a `Source` of windows."""

    connection: psycopg.Connection
    row: ModelRow

    def first_seq(self, seconds: float) -> int:
        since = self.row.now - timedelta(seconds=seconds)
        return changes.first_seq(self.connection, self.row, since)

    def read(self, after: int, seconds: float, level: int) -> Arrivals:
        since = self.row.now - timedelta(seconds=seconds)
        rows = changes.vectors(self.connection, self.row, after, since, level)
        if not _is_complete(rows["seq"], self.row.last_seq, level):
            # The store's clock stepped back, so that time does not tell new vectors from old.
            rows = changes.vectors(self.connection, self.row, after, None, level)
            rows.sort(order="seq")
        return Arrivals(rows["seq"], rows["embedding"], rows["received_at"], rows["revised_cosine"])


def _is_complete(seqs: NDArray[np.int64], last: int, level: int) -> bool:
    """Whether no number between the first and the last is missing in the sample of a level."""
    if not len(seqs):
        return True
    # Piece by piece: a sample of a few thousand may come from hundreds of millions.
    expected = sum(
        np.count_nonzero(changes.is_sampled(np.arange(at, min(at + _NUMBERS, last + 1)), level))
        for at in range(int(seqs[0]), last + 1, _NUMBERS)
    )
    return len(seqs) == expected and bool((np.diff(seqs) > 0).all())
