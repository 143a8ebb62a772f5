"""A bounded queue of vectors, and the counts of what happened to each vector."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedding_drift_client.delivery import Answer
from embedding_drift_client.errors import (
    BodyTooLarge,
    QueueFull,
    Undelivered,
    refusal,
)
from embedding_drift_client.losses import NO_LOSSES, Losses, LossLog
from embedding_drift_client.parameters import as_count, as_seconds
from embedding_drift_client.rows import Given, Rows
from embedding_drift_client.values import shown

T = TypeVar("T")


class _Waiting(NamedTuple):
    """Vectors that wait."""

    rows: Rows
    due: float


class Queue:
    """A bounded queue that forms batches and counts vectors. It has no threads and does no I/O.

    At any time ``added == sent + duplicates + dropped + failed + waiting``. Revisions are part of
    ``sent``.

    Parameters
    ----------
    batch_size : int
        Most vectors in a batch. After the service has refused a batch as too large, they are fewer.
    interval : float
        Seconds after which vectors are due even if the batch is not full.
    max_vectors, max_bytes : int
        Most vectors that may wait, and most bytes of them with their ids and metadata.
    raise_errors : bool
        Whether :meth:`add` and :meth:`raise_failure` raise. Otherwise losses are counted and
        logged.
    clock : callable
        Returns seconds that never go backwards.

    Raises
    ------
    SettingsError
        If a number is out of range or of another kind.

    Attributes
    ----------
    added, sent, revisions, duplicates, dropped, failed : int
        The counts of :class:`embedding_drift_client.Client`.
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
        self.added = self.sent = self.duplicates = self.dropped = self.failed = 0
        self.revisions = 0
        self._largest_batch = self._batch_size = as_count("batch_size", batch_size)
        self._interval = as_seconds("interval", interval)
        self._max_vectors = as_count("max_queue_vectors", max_vectors)
        self._max_bytes = as_count("max_queue_bytes", max_bytes)
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
        self._log = LossLog()
        self._reported = self._being_reported = NO_LOSSES
        self._ended = False

    @property
    def waiting(self) -> int:
        """Vectors that are queued or being sent."""
        return self._queued + self._being_sent

    @property
    def _being_sent(self) -> int:
        return sum(map(len, self._in_flight))

    @property
    def is_done(self) -> bool:
        """Whether the queue is closed and empty."""
        return self._closed and not self._queue

    def add(self, given: Given) -> None:
        """Queue the valid vectors; drop the last ones if there is no room for all.

        Raises
        ------
        ClientError
            With ``raise_errors``: an earlier failure, what is invalid, or QueueFull. None of the
            vectors is queued or counted then.
        """
        room = 0 if self._closed else self._room(given.rows)
        over = given.count - given.invalid - room
        why = (
            "the client is closed"
            if self._closed
            else f"{self.waiting} vectors wait ({self._bytes} bytes)"
        )
        full = QueueFull(f"{why}; no room for {over} more")
        if self._raise_errors:
            self.raise_failure()
            if given.problems:
                raise refusal(given.problems)
            if over > 0:
                raise full
        self.added += given.count
        self.failed += given.invalid
        for problem in given.problems:
            self.tell("invalid vectors are not sent", str(problem))
        if over > 0:
            self.dropped += over
            self.tell("vectors dropped", full)
        self._queue_up(given.rows, room)

    def _room(self, rows: Sequence[Rows]) -> int:
        """Return how many of these vectors fit into the queue."""
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
            # Copy slices: a view would keep all of a large array until its last row is sent.
            for at in range(0, end, self._largest_batch):
                cut = part.pick(range(at, min(at + self._largest_batch, end)))
                self._queue.append(_Waiting(cut, due))
                self._bytes += _size(cut)
            self._queued += end
            self._accepted += end

    def seconds_to_due(self) -> float | None:
        """Return the seconds until the next batch is due; None while the queue is empty."""
        if not self._queue:
            return None
        is_hurried = self._accepted - self._queued < self._hurried
        if self._queued >= self._batch_size or is_hurried:
            return 0.0
        return max(0.0, self._queue[0].due - self._clock())

    def take(self) -> Rows:
        """Take the next batch. Call :meth:`settle` afterwards, even if this raises.

        All vectors of a batch have the same dimension, and no id occurs twice. Otherwise the
        service would refuse the whole batch because of one vector.

        Raises
        ------
        MemoryError
            If there is not enough memory for the batch.
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

    def report(self) -> Losses:
        """Return the losses to report with the batch that was taken.

        They are those since the last report that the service accepted. This report counts as
        accepted if :meth:`settle` gets an Answer; otherwise the next report includes it.
        """
        self._being_reported = Losses(self.dropped, self.failed)
        return self._being_reported - self._reported

    def settle(self, outcome: Answer | Exception) -> None:
        """Count the batch that was taken. Has no effect after :meth:`end`.

        Parameters
        ----------
        outcome : Answer or Exception
            The service's answer, or why there is none. If the error names some of the vectors,
            the others are queued again, to be sent first. If the batch is too large, all are, and
            the next batches have half its size. Each full one that is accepted makes the next
            larger by a sixteenth: the cause may have been one long vector.
        """
        if self._ended:
            return
        count = self._being_sent
        taken, self._in_flight = self._in_flight, []
        self._bytes -= sum(map(_size, taken))
        if isinstance(outcome, Answer):
            self._reported = self._being_reported
            # The answer's number of stored vectors is not used: the service may store a sample.
            duplicates = min(outcome.duplicates, count)
            self.sent += count - duplicates
            self.duplicates += duplicates
            self.revisions += min(outcome.revisions, count - duplicates)
            if count == self._batch_size:
                self._batch_size = min(count + count // 16 + 1, self._largest_batch)
            return
        if isinstance(outcome, BodyTooLarge) and count > 1:
            self._batch_size = count // 2
            self._return(taken[0])
            return
        problems = getattr(outcome, "problems", ())
        named = {problem.index for problem in problems}
        good = [row for row in range(count) if row not in named]
        if len(good) == count:
            good = []
        self.failed += count - len(good)
        if good:
            self._return(taken[0].pick(good))
        self._failure = outcome
        for problem in problems:
            self.tell("the service refuses vectors", str(problem))
        if not problems:
            self.tell("vectors not stored", outcome)

    def _return(self, rows: Rows) -> None:
        """Queue vectors that were taken again, before all others."""
        self._queue.appendleft(_Waiting(rows, self._clock()))
        self._queued += len(rows)
        self._bytes += _size(rows)

    def hurry(self) -> int:
        """Make all queued vectors due; return a mark for :meth:`is_settled`."""
        self._hurried = self._accepted
        return self._accepted

    def is_settled(self, mark: int) -> bool:
        """Return whether all vectors queued before the mark are sent or have failed."""
        return self._accepted - self.waiting >= mark

    def close(self) -> None:
        """Accept no more vectors, and make all queued vectors due."""
        self._closed = True
        self.hurry()

    def end(self, trouble: Exception | None = None) -> None:
        """Stop: what is queued is dropped, and what is being sent has failed. Log the totals.

        Parameters
        ----------
        trouble : Exception, optional
            Why the service did not take the vectors.
        """
        if self._ended:
            return
        self._closed = self._ended = True
        if self.waiting:
            because = "" if trouble is None else f"; {shown(trouble)}"
            lost = Undelivered(f"closed while {self.waiting} vectors waited{because}")
            self.tell("vectors not stored", lost)
            self._failure = self._failure or lost
        self.failed += self._being_sent
        self.dropped += self._queued
        self._in_flight = []
        self._queue.clear()
        self._queued = self._bytes = 0
        self._log.total(
            added=self.added,
            sent=self.sent,
            duplicates=self.duplicates,
            dropped=self.dropped,
            failed=self.failed,
        )

    def raise_failure(self) -> None:
        """Raise the last failure to send, once, if errors are to be raised."""
        if self._raise_errors and self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def tell(self, what: str, why: Exception | str) -> None:
        """Log a problem, once for each distinct reason."""
        self._log.tell(what, why)


def _sizes(rows: Rows) -> NDArray[np.int64]:
    """Return the bytes of each row."""
    sizes = np.full(len(rows), rows.vectors.itemsize * rows.vectors.shape[1], np.int64)
    if rows.ids:
        sizes += [len((id_ or "").encode()) for id_ in rows.ids]
    if rows.metadata:
        sizes += [len(item or b"") for item in rows.metadata]
    return sizes


def _size(rows: Rows) -> int:
    return int(_sizes(rows).sum())


def _fitting(rows: Rows, room: int, seen: set[str]) -> int:
    """Return how many of the first rows fit into a batch; adds their ids to ``seen``."""
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
