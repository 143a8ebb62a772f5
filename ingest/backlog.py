"""Backlog: the vectors that wait to be sent, within a bound, and what became of the others."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest.files.rows import Rows
from ingest.formats import checks
from ingest.intake import Intake
from ingest.runtime.errors import MonitorError, QueueFull, SettingsError
from ingest.runtime.throttle import LogThrottle
from ingest.sender import Answer

T = TypeVar("T")

_log = logging.getLogger(__name__)

_LONGEST_INTERVAL = 3600


class _Waiting(NamedTuple):
    rows: Rows
    due: float


class Backlog:
    """A bounded queue that hands out batches and counts; no I/O, no threads, no waiting.

    At any time ``added == sent + duplicates + dropped + failed + waiting``.

    Parameters
    ----------
    batch_size : int
        Vectors of a batch.
    interval : float
        Seconds after which vectors are due though a batch is not full.
    max_vectors, max_bytes : int
        Vectors that may wait, and what they may take with their ids and metadata.
    raise_errors : bool
        Whether :meth:`add` and :meth:`raise_failure` raise; otherwise they count and log, at
        most a line a minute of each kind.
    clock : callable

    Raises
    ------
    SettingsError
        If a number is out of range.

    Attributes
    ----------
    added, sent, duplicates, dropped, failed : int
        As :class:`ingest.client.Client` has them.
    """

    def __init__(
        self,
        batch_size: int,
        interval: float,
        max_vectors: int,
        max_bytes: int,
        raise_errors: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        least = min(batch_size, max_vectors, max_bytes)
        if not (least >= 1 and 0 <= interval <= _LONGEST_INTERVAL):
            raise SettingsError(
                f"batch_size ({batch_size}), max_queue_vectors ({max_vectors}) and max_queue_bytes"
                f" ({max_bytes}) must be at least 1, interval ({interval}) 0 to"
                f" {_LONGEST_INTERVAL} seconds"
            )
        self.added = self.sent = self.duplicates = self.dropped = self.failed = 0
        self._batch_size = batch_size
        self._interval = interval
        self._max_vectors = max_vectors
        self._max_bytes = max_bytes
        self._raise_errors = raise_errors
        self._clock = clock
        self._queue: deque[_Waiting] = deque()
        self._queued = 0
        self._bytes = 0
        self._in_flight: list[Rows] = []
        self._accepted = 0
        self._hurried = 0
        self._closed = False
        self._failure: Exception | None = None
        self._said = LogThrottle(clock)

    @property
    def waiting(self) -> int:
        """Vectors that are queued or on their way."""
        return self._queued + self._on_their_way

    @property
    def _on_their_way(self) -> int:
        return sum(map(len, self._in_flight))

    @property
    def is_done(self) -> bool:
        """Whether it is closed and nothing is queued."""
        return self._closed and not self._queue

    def add(self, given: Intake) -> None:
        """Queue the good vectors, the oldest of them if not all fit.

        Raises
        ------
        MonitorError
            With ``raise_errors``: the last send's failure, once; what is wrong with the vectors;
            or that not all fit. Nothing of the call is taken then.
        """
        room = 0 if self._closed else self._room(given.rows)
        over = given.count - given.invalid - room
        why = (
            "the client is closed"
            if self._closed
            else f"{self.waiting} vectors wait ({self._bytes} bytes)"
        )
        full = QueueFull(f"{why}; {over} more find no room")
        if self._raise_errors:
            self.raise_failure()
            if given.problems:
                raise checks.refuse(given.problems)
            if over > 0:
                raise full
        self.added += given.count
        self.failed += given.invalid
        if given.problems:
            self.tell("vectors that cannot be sent", checks.refuse(given.problems))
        if over > 0:
            self.dropped += over
            self.tell("vectors dropped", full)
        self._queue_up(given.rows, room)

    def _room(self, rows: Sequence[Rows]) -> int:
        """Count how many of these vectors fit."""
        if not rows:
            return 0
        ends = np.cumsum(np.concatenate([_sizes(part) for part in rows]))
        within = np.searchsorted(ends, self._max_bytes - self._bytes, side="right")
        return min(self._max_vectors - self.waiting, int(within))

    def _queue_up(self, rows: Sequence[Rows], room: int) -> None:
        due = self._clock() + self._interval
        for part in rows:
            end = min(len(part), room)
            room -= end
            # Cut here: what is sent is then freed, and is no view that keeps all of a large array.
            for at in range(0, end, self._batch_size):
                cut = part.pick(range(at, min(at + self._batch_size, end)))
                self._queue.append(_Waiting(cut, due))
                self._bytes += _size(cut)
            self._queued += end
            self._accepted += end

    def seconds_to_due(self) -> float | None:
        """Say when the next batch shall be taken; None while nothing is queued."""
        if not self._queue:
            return None
        is_hurried = self._accepted - self._queued < self._hurried
        if self._queued >= self._batch_size or is_hurried:
            return 0.0
        return max(0.0, self._queue[0].due - self._clock())

    def take(self) -> Rows:
        """Take the next batch out; :meth:`settle` says what became of it, also if this raises.

        Its vectors have one dimension and no id comes twice, so that one odd vector cannot have
        the service refuse its neighbours.

        Raises
        ------
        MemoryError
            If there is none for the batch.
        """
        dimension = self._queue[0].rows.vectors.shape[1]
        seen: set[str] = set()
        room = self._batch_size
        while room and self._queue and self._queue[0].rows.vectors.shape[1] == dimension:
            rows, due = self._queue.popleft()
            self._queued -= len(rows)
            self._in_flight.append(rows)
            size = _fitting(rows, room, seen)
            room -= size
            if size < len(rows):
                first, rest = rows.pick(range(size)), rows.pick(range(size, len(rows)))
                self._in_flight[-1] = first
                self._queue.appendleft(_Waiting(rest, due))
                self._queued += len(rest)
                break
        self._in_flight = [_joined(self._in_flight)]
        return self._in_flight[0]

    def settle(self, outcome: Answer | Exception) -> None:
        """Count what was taken.

        Parameters
        ----------
        outcome : Answer or Exception
            The service's answer, or why there is none. If that names single vectors, the others
            are queued again, to be sent first.
        """
        count = self._on_their_way
        taken, self._in_flight = self._in_flight, []
        self._bytes -= sum(map(_size, taken))
        if isinstance(outcome, Answer):
            # Not those it stored: it may be told to keep a share of the vectors only.
            self.sent += count - outcome.duplicates
            self.duplicates += outcome.duplicates
            return
        named = {problem.index for problem in getattr(outcome, "problems", ())}
        good = [row for row in range(count) if row not in named]
        if len(good) == count:
            good = []
        self.failed += count - len(good)
        if good:
            again = taken[0].pick(good)
            self._queue.appendleft(_Waiting(again, self._clock()))
            self._queued += len(again)
            self._bytes += _size(again)
        self._failure = outcome
        self.tell("vectors not stored", outcome)

    def hurry(self) -> int:
        """Make all that is queued due; returns a mark for :meth:`is_settled`."""
        self._hurried = self._accepted
        return self._accepted

    def is_settled(self, mark: int) -> bool:
        """Tell whether all that was queued before the mark was made is sent or has failed."""
        return self._accepted - self.waiting >= mark

    def close(self) -> None:
        """Accept no more, and make all that is queued due."""
        self._closed = True
        self.hurry()

    def abandon(self) -> None:
        """Give up what waits: the queue is dropped, what is on its way has failed."""
        self._closed = True
        self.failed += self._on_their_way
        self._in_flight = []
        if self._queued:
            self.dropped += self._queued
            self.tell("vectors dropped", QueueFull(f"closed while {self._queued} waited"))
            self._queue.clear()
            self._queued = 0
        self._bytes = 0

    def raise_failure(self) -> None:
        """Raise the last send's failure, once, if errors shall be raised."""
        if self._raise_errors and self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def tell(self, what: str, why: Exception) -> None:
        """Log what happened, at most once a minute."""
        if not self._said.passes(what):
            return
        counts = f"dropped {self.dropped}, failed {self.failed} of {self.added} so far"
        unexpected = None if isinstance(why, MonitorError) else why
        _log.warning("%s: %s (%s)", what, why, counts, exc_info=unexpected)


def _sizes(rows: Rows) -> NDArray[np.int64]:
    """Count the bytes that each row takes."""
    sizes = np.full(len(rows), rows.vectors.itemsize * rows.vectors.shape[1], np.int64)
    if rows.ids:
        sizes += [len((id_ or "").encode()) for id_ in rows.ids]
    if rows.metadata:
        encoded = (item if isinstance(item, msgspec.Raw) else b"" for item in rows.metadata)
        sizes += [memoryview(item).nbytes for item in encoded]
    return sizes


def _size(rows: Rows) -> int:
    return int(_sizes(rows).sum())


def _fitting(rows: Rows, room: int, seen: set[str]) -> int:
    """Count how many of the first rows fit into a batch that has the ids ``seen``."""
    for number, id_ in enumerate(rows.ids[:room]):
        if id_ is None:
            continue
        if id_ in seen:
            return number
        seen.add(id_)
    return min(room, len(rows))


def _joined(parts: Sequence[Rows]) -> Rows:
    return Rows(
        np.concatenate([part.vectors for part in parts]),
        _filled([part.ids for part in parts], parts),
        _filled([part.metadata for part in parts], parts),
    )


def _filled(columns: Sequence[Sequence[T | None]], parts: Sequence[Rows]) -> Sequence[T | None]:
    if not any(columns):
        return ()
    return [
        item
        for column, part in zip(columns, parts, strict=True)
        for item in column or [None] * len(part)
    ]
