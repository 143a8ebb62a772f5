"""Files of vectors: npy, npz, parquet, csv and jsonl, a block of rows at a time."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.typing import NDArray

from ingest.files import csv as csv_file
from ingest.files import jsonl, npy, parquet
from ingest.files.rows import Block, Rows
from ingest.runtime.errors import PayloadError

__all__ = ["Rows", "read"]

_READERS: dict[str, tuple[Callable[[Path], Iterator[Block]], str]] = {
    ".npy": (npy.read_npy, "row"),
    ".npz": (npy.read_npz, "row"),
    ".parquet": (parquet.read, "row"),
    ".csv": (csv_file.read, "line"),
    ".jsonl": (jsonl.read, "line"),
}
"""By suffix: the reader, and what it numbers; rows count from 0, lines from 1."""

_UNREADABLE = (
    ValueError,
    EOFError,
    NotImplementedError,
    OverflowError,
    TokenError,
    csv.Error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the libraries that read files raise over one that is damaged."""


def read(path: Path) -> Iterator[Rows]:
    """Read a file by its suffix.

    Yields
    ------
    Rows
        Of one dimension throughout, their vectors finite.

    Raises
    ------
    PayloadError
        Naming the file, the row or column at fault, and what is allowed.
    """
    if path.suffix.lower() not in _READERS:
        raise PayloadError(f"{path}: unknown suffix; allowed are {', '.join(_READERS)}")
    reader, unit = _READERS[path.suffix.lower()]
    dimension: int | None = None
    try:
        for block in reader(path):
            vectors = _checked(block, unit, dimension)
            dimension = vectors.shape[1]
            yield Rows(vectors, block.ids, block.metadata)
    except OSError as error:
        raise PayloadError(f"{path} cannot be read: {error.strerror or error}") from error
    except _UNREADABLE as error:
        raise PayloadError(f"{path}: {error}") from error
    if dimension is None:
        raise PayloadError(f"{path} holds no vectors")


def _checked(block: Block, unit: str, dimension: int | None) -> NDArray[np.float32]:
    """Make the vectors of a block an array, or say which row does not fit."""
    dimension = dimension or len(block.vectors[0])
    for number, vector in zip(block.numbers, block.vectors, strict=True):
        if len(vector) != dimension or dimension == 0:
            allowed = f"those before it {dimension}" if dimension else "at least one is needed"
            raise ValueError(f"{unit} {number} has {len(vector)} components, {allowed}")
    with np.errstate(over="ignore", invalid="ignore"):
        vectors = np.ascontiguousarray(block.vectors, np.float32)
    finite = np.isfinite(vectors)
    if not finite.all():
        row = int(finite.all(axis=1).argmin())
        raise ValueError(
            f"{unit} {block.numbers[row]}: component {finite[row].argmin()} is NaN, infinite or"
            " too large for float32"
        )
    return vectors
