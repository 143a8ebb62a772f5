"""A block of rows on its way to the service."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

BLOCK = 1_000
EMBEDDING = "embedding"
ID = "id"
TIMESTAMP = "timestamp"
BESIDE = (ID, TIMESTAMP)
"""Columns of numbers that are no components."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Some vectors, shape (n, d), and what stands beside each.

    ``ids`` and ``metadata`` are empty where there are none.
    """

    vectors: NDArray[np.float32]
    ids: Sequence[str | None] = ()
    metadata: Sequence[Mapping[str, Any] | None] = ()

    def __len__(self) -> int:
        return len(self.vectors)

    def pick(self, rows: Sequence[int]) -> Rows:
        """Copy some of the rows."""
        return Rows(
            self.vectors[np.asarray(rows, np.intp)],
            [self.ids[row] for row in rows] if self.ids else (),
            [self.metadata[row] for row in rows] if self.metadata else (),
        )


class Block(NamedTuple):
    """Rows as a file has them, and the number of each row or line."""

    vectors: NDArray[Any] | Sequence[Sequence[float]]
    numbers: Sequence[int]
    ids: Sequence[str | None] = ()
    metadata: Sequence[Mapping[str, Any]] = ()


def blocks(rows: Iterable[T]) -> Iterator[list[T]]:
    """Cut rows into lists of ``BLOCK``."""
    rows = iter(rows)
    while block := list(itertools.islice(rows, BLOCK)):
        yield block


def beside(
    columns: Mapping[str, list[Any]],
) -> tuple[Sequence[str | None], Sequence[Mapping[str, Any]]]:
    """Give each column beside the vectors its place: the ids, and metadata without nulls."""
    names = [name for name in columns if name != ID]
    metadata = [
        {name: value for name, value in zip(names, values, strict=True) if value is not None}
        for values in zip(*(columns[name] for name in names), strict=True)
    ]
    return texts(columns.get(ID, ())), metadata if any(metadata) else ()


def texts(ids: Sequence[object]) -> Sequence[str | None]:
    """Make ids text; none at all where all are null."""
    texts = [None if id_ is None else str(id_) for id_ in ids]
    return texts if any(text is not None for text in texts) else ()
