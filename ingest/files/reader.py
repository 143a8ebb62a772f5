"""The registry of file formats, and the function that reads any of them."""

from __future__ import annotations

import csv as csv_library
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from tokenize import TokenError
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingest.files import csv, jsonl, npy, npz, parquet
from ingest.files.rows import Block, Rows
from ingest.runtime.errors import PayloadError

__all__ = ["FORMATS", "Format", "Rows", "read"]


class Format(NamedTuple):
    """A format of files.

    Attributes
    ----------
    read : callable
        Reads a file in blocks. It raises ValueError for content that is not valid, naming the row
        or line; what its library raises for a damaged file is in ``_DAMAGED``.
    unit : {"row", "line"}
        What ``Block.numbers`` counts: rows from 0 or lines from 1.
    """

    read: Callable[[Path], Iterator[Block]]
    unit: Literal["row", "line"]


FORMATS: dict[str, Format] = {
    ".npy": Format(npy.read, "row"),
    ".npz": Format(npz.read, "row"),
    ".parquet": Format(parquet.read, "row"),
    ".csv": Format(csv.read, "line"),
    ".jsonl": Format(jsonl.read, "line"),
}
"""The format of each suffix. A new format is one module and one line here."""

_DAMAGED = (
    ValueError,
    EOFError,
    NotImplementedError,
    OverflowError,
    TokenError,
    csv_library.Error,
    zipfile.BadZipFile,
    zlib.error,
)
"""Errors that the libraries below the formats raise for a damaged file."""


def read(path: Path) -> Iterator[Rows]:
    """Read a file in the format that its suffix names.

    Yields
    ------
    Rows
        Their vectors are finite and all of one dimension.

    Raises
    ------
    PayloadError
        If the file cannot be read; names the file, the row or column and what is allowed.
    """
    if path.suffix.lower() not in FORMATS:
        raise PayloadError(f"{path}: unknown suffix; allowed are {', '.join(FORMATS)}")
    file_format = FORMATS[path.suffix.lower()]
    dimension: int | None = None
    try:
        for block in file_format.read(path):
            vectors = _checked(block, file_format.unit, dimension)
            dimension = vectors.shape[1]
            yield Rows(vectors, block.ids, block.metadata)
    except OSError as error:
        raise PayloadError(f"{path} cannot be read: {error.strerror or error}") from error
    except _DAMAGED as error:
        raise PayloadError(f"{path}: {error}") from error
    if dimension is None:
        raise PayloadError(f"{path} holds no vectors")


def _checked(block: Block, unit: str, dimension: int | None) -> NDArray[np.float32]:
    """Return the vectors of a block as an array of shape (n, dimension).

    Raises ValueError, naming the row or line, if a vector has another dimension or is not finite.
    """
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
