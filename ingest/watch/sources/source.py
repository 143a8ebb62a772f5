"""What the watch needs from a source of vectors, whatever program keeps or sends them.

::

    Source              a name, advice, connections, and the follower that stores its vectors
    ├── OrderedTable    newer rows come after older ones      ingest/watch/follower.py
    ├── ScannedTable    rows without an order                 ingest/watch/scanner.py
    └── Queue           messages that are read once           ingest/watch/consumer.py
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ingest.files.names import TEXT
from ingest.store.positions import Position

if TYPE_CHECKING:
    from ingest.watch.target import Target


class Location(NamedTuple):
    """Where the vectors are: a table, a collection or a topic, and its columns.

    A kind of source refuses what it has no use for.

    Attributes
    ----------
    table : str
        Name of the table, collection or topic.
    vector : str or None
        Column that holds the vectors. None is the kind's default.
    id : str or None
        Column that identifies a row. None is the kind's default.
    time : str or None
        Column with the time of a row's last change.
    metadata : tuple of str
        Columns that are stored as metadata. ``a.b`` is what an object ``a`` has at ``b``.
    sample : int or None
        About how many rows to read again and again, if nothing orders them.
    text : str or None
        Column of texts, which are stored as ``text`` in the metadata.
    """

    table: str
    vector: str | None = None
    id: str | None = None
    time: str | None = None
    metadata: tuple[str, ...] = ()
    sample: int | None = None
    text: str | None = None

    @property
    def kept(self) -> dict[str, str]:
        """The keys of the stored metadata, and the columns that they are read from."""
        names = {name: name for name in self.metadata}
        return names if self.text is None else names | {TEXT: self.text}


class Row(NamedTuple):
    """One row of a source.

    Attributes
    ----------
    key : str
        Identifies the row. If the source finds changes, a changed row has a new key.
    seconds : float or None
        When the vector was made, in seconds since the epoch.
    vector : ndarray of float32, shape (d,), or str
        The vector. A text says what is wrong with it, and goes on after the place: "has ...".
    metadata : bytes or None
        One encoded JSON object.
    id : str or None
        Identifies the row also after a change. None if that is the key, or if nothing does.
    """

    key: str
    seconds: float | None
    vector: NDArray[np.float32] | str
    metadata: bytes | None = None
    id: str | None = None


class Message(NamedTuple):
    """One message of a queue.

    Attributes
    ----------
    place : str
        Where it is, for errors: queue, partition and number.
    id : str
        Identifies the message among all of all time.
    headers : mapping of str to str
        By lower-case name.
    body : bytes
    seconds : float or None
        When it was sent, in seconds since the epoch.
    """

    place: str
    id: str
    headers: Mapping[str, str]
    body: bytes
    seconds: float | None


class Identity(NamedTuple):
    """What tells a table from another of its name, and from itself with other contents.

    Attributes
    ----------
    table : str
        Changes if the table is replaced by another of the same name.
    storage : str
        Changes if the table is emptied at once or its rows are written anew. Maintenance may
        change it too, while the rows stay the same.
    """

    table: str
    storage: str


class Snapshot(Protocol):
    """A source as of one moment: all methods see the same rows."""

    async def newest(self, skip: int = 0) -> Position:
        """Return the position of the newest row, not counting the ``skip`` newest ones.

        A row with a time in the future does not count: rows that arrive later would be before it.
        If there are not that many rows, the position is the empty tuple.
        """

    def rows(self, after: Position, known: Sequence[str]) -> AsyncGenerator[list[Row], None]:
        """Read the rows after a position in order, in blocks of limited size.

        Rows without a vector and rows whose key is in ``known`` are left out. The empty position
        is before the first row.
        """

    async def identity(self) -> Identity | None:
        """Return the table's identity. None if the source has none."""

    async def reaches(self, position: Position) -> bool:
        """Return whether there is a row at a position or after it.

        The rows that :meth:`newest` does not count do not count here either.
        """

    async def at(self, positions: Sequence[Position]) -> list[Row]:
        """Read the rows at these positions, in any order.

        Positions at which there is no row, or a row without a vector, are left out. So are those
        that the source could never have returned.
        """


class Terms(NamedTuple):
    """How a source is followed.

    Attributes
    ----------
    baseline_vectors : int
        How many of the newest rows of an ordered table are read the first time.
    overlap_seconds : float
        Longest time that a transaction which adds rows to an ordered table may be open.
    rechecks_per_hour : float
        How many stored rows are read again per hour, if an ordered table does not find changes.
    monotonic : callable
        Clock, in seconds.
    """

    baseline_vectors: int
    overlap_seconds: float
    rechecks_per_hour: float
    monotonic: Callable[[], float] = time.monotonic


class Follower(Protocol):
    """Stores the vectors of one source, poll by poll."""

    @property
    def noticed(self) -> Mapping[str, str]:
        """What is noticed of the source, for the log."""

    async def poll(self) -> None:
        """Store what is new. After an error, the next poll reads what is left, or all of it again.

        Raises
        ------
        SourceUnavailable
            If the source cannot be read now.
        StoreUnavailable
            If the store cannot be reached.
        MonitorError
            If a vector cannot be used, or the store refuses it.
        """

    def pause(self, interval: float, took: float) -> float:
        """Return how long to wait after a poll.

        Parameters
        ----------
        interval, took : float
            ``monitoring.poll_interval``, and how long the poll took, in seconds.
        """


class Source(Protocol):
    """Vectors that another program keeps or sends.

    ``str(source)`` identifies the source and what orders its rows. What was read is saved under
    this text, so it must not change from one start to the next.
    """

    @property
    def name(self) -> str:
        """Name of the table, collection or topic; the default name of the model."""

    @property
    def advice(self) -> Sequence[str]:
        """What makes reading dear or inexact, and what would help; one sentence each."""

    def connected(self) -> AbstractAsyncContextManager[None]:
        """Hold the connections to the source while entered. A source is entered once."""

    def follower(self, target: Target, terms: Terms) -> Follower:
        """Return what stores the vectors in a target."""


class ScannedTable(Source, Protocol):
    """A table whose rows have no order, so that only reading it all finds new rows.

    A fixed part of the rows is read: those whose keys have a hash that is a multiple of
    ``2**level``.
    """

    @property
    def sample(self) -> int:
        """About how many rows to read."""

    async def count(self) -> int:
        """Count the rows. An estimate may do."""

    def rows(self, level: int) -> AsyncGenerator[list[Row]]:
        """Read the rows of a level in the order of their hashes, in blocks of limited size.

        Rows without a vector are left out.

        Raises
        ------
        SourceUnavailable
            If the source cannot be read or takes too long to answer.
        """


class Queue(Source, Protocol):
    """A queue of messages, each with the body of a request to ``POST /embeddings``."""

    async def read(self) -> Sequence[Message]:
        """Return the next messages, or none after about a second without any.

        Raises
        ------
        SourceUnavailable
            If the queue cannot be read.
        """

    async def settle(self, done: int) -> None:
        """Do not read the first ``done`` of the last messages again, but all others.

        Raises
        ------
        SourceUnavailable
            If the queue cannot note that. All messages may come again.
        """


class OrderedTable(Source, Protocol):
    """A table of vectors in which newer rows come after older ones."""

    @property
    def finds_changes(self) -> bool:
        """Whether a changed row gets a new position, so that it is read again like a new one.

        If not, the position of a row is its key alone: ``(key,)``.
        """

    @property
    def has_identity(self) -> bool:
        """Whether the source tells a table that was emptied or replaced by its identity."""

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """Read the source as of one moment while entered, without a right to write.

        Raises
        ------
        SourceUnavailable
            On entry or while entered, if the source cannot be read or takes too long to answer.
        """
