"""Rows of a file of vectors: as a format reads them, and as callers get them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

BLOCK = 1_000
"""Rows that are read at a time."""
EMBEDDING = "embedding"
"""Name of the column of vectors."""
ID = "id"
"""Name of the column of ids."""
TIMESTAMP = "timestamp"
"""Name of the column of times."""
NOT_COMPONENTS = (ID, TIMESTAMP)
"""Columns that may hold numbers and are never components of a vector."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Vectors with their ids and metadata.

    Attributes
    ----------
    vectors : ndarray of float32, shape (n, d)
    ids : sequence of str or None
        One for each vector, or empty if no vector has one.
    metadata : sequence of mapping or None
        One for each vector, or empty if no vector has any.
    """

    vectors: NDArray[np.float32]
    ids: Sequence[str | None] = ()
    metadata: Sequence[Mapping[str, Any] | None] = ()

    def __len__(self) -> int:
        return len(self.vectors)

    def pick(self, rows: Sequence[int]) -> Rows:
        """Copy the rows with these numbers."""
        return Rows(
            self.vectors[np.asarray(rows, np.intp)],
            [self.ids[row] for row in rows] if self.ids else (),
            [self.metadata[row] for row in rows] if self.metadata else (),
        )


class Block(NamedTuple):
    """Rows as a format reads them, before their vectors are checked.

    Attributes
    ----------
    vectors : ndarray or sequence of sequences
        At least one; they may differ in length.
    numbers : sequence of int
        Number of each row or line in the file, for messages.
    ids, metadata
        See :class:`Rows`.
    """

    vectors: NDArray[Any] | Sequence[Sequence[float]]
    numbers: Sequence[int]
    ids: Sequence[str | None] = ()
    metadata: Sequence[Mapping[str, Any]] = ()


def blocks(rows: Iterable[T]) -> Iterator[list[T]]:
    """Cut rows into lists of at most ``BLOCK``."""
    rows = iter(rows)
    while block := list(itertools.islice(rows, BLOCK)):
        yield block


def ids_and_metadata(
    columns: Mapping[str, list[Any]],
) -> tuple[Sequence[str | None], Sequence[Mapping[str, Any]]]:
    """Separate the ids from the other columns, which become metadata without null values."""
    names = [name for name in columns if name != ID]
    metadata = [
        {name: value for name, value in zip(names, values, strict=True) if value is not None}
        for values in zip(*(columns[name] for name in names), strict=True)
    ]
    return id_texts(columns.get(ID, ())), metadata if any(metadata) else ()


def id_texts(ids: Sequence[object]) -> Sequence[str | None]:
    """Convert ids to text. The result is empty if all are None."""
    texts = [None if id_ is None else str(id_) for id_ in ids]
    return texts if any(text is not None for text in texts) else ()
