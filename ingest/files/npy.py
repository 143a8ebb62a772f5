"""Read npy files: one NumPy array."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from ingest.files.rows import BLOCK, Block, ids_and_metadata


def read(path: Path) -> Iterator[Block]:
    """Read an array of shape (n, d). Only the current block is in memory."""
    array = open_memmap(path, mode="r")
    check_matrix(array)
    yield from array_blocks(array, {})


def check_matrix(array: NDArray[Any]) -> None:
    """Raise ValueError if an array does not hold numbers or is not of shape (n, d)."""
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise ValueError(f"holds {array.dtype} of shape {array.shape}; allowed are numbers (n, d)")


def array_blocks(array: NDArray[Any], columns: Mapping[str, list[Any]]) -> Iterator[Block]:
    """Cut an array of vectors and the columns that belong to it into blocks."""
    for at in range(0, len(array), BLOCK):
        part = slice(at, at + BLOCK)
        vectors = np.asarray(array[part])
        others = ids_and_metadata({name: column[part] for name, column in columns.items()})
        yield Block(vectors, range(at, at + len(vectors)), *others)
