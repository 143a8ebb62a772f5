"""What the watch needs from a table of vectors, whatever program keeps it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ingest.store.positions import Position


class Location(NamedTuple):
    """Where the vectors are: a table and its columns.

    Attributes
    ----------
    table : str
        Name of the table or collection.
    vector : str
        Column that holds the vectors.
    id : str
        Column that identifies a row.
    time : str or None
        Column with the time of a row's last change. Without it, rows are ordered by their ids.
    """

    table: str
    vector: str = "embedding"
    id: str = "id"
    time: str | None = None


class Row(NamedTuple):
    """One row of a source.

    Attributes
    ----------
    key : str
        Identifies the row. If the source finds changes, a changed row has a new key.
    seconds : float or None
        When the vector was made, in seconds since the epoch.
    vector : ndarray of float32, shape (d,)
    """

    key: str
    seconds: float | None
    vector: NDArray[np.float32]


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


class Source(Protocol):
    """A table of vectors that another program fills.

    ``str(source)`` identifies the table and what orders its rows. Positions are stored under this
    text, so it must not change from one start to the next.
    """

    @property
    def name(self) -> str:
        """Name of the table; the default name of the model."""

    @property
    def advice(self) -> Sequence[str]:
        """What would make reading the table cheaper or more exact, one sentence each."""

    @property
    def finds_changes(self) -> bool:
        """Whether a changed row gets a new position, so that it is read again like a new one.

        If not, the position of a row is its key alone: ``(key,)``.
        """

    @property
    def has_identity(self) -> bool:
        """Whether the source tells a table that was emptied or replaced by its identity."""

    def connected(self) -> AbstractAsyncContextManager[None]:
        """Hold the connections to the source while entered. A source is entered once."""

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """Read the source as of one moment while entered, without a right to write.

        Raises
        ------
        SourceUnavailable
            On entry or while entered, if the source cannot be read or takes too long to answer.
        """
