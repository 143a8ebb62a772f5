"""NumPy files: npy and npz."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from ingest.files.rows import BLOCK, EMBEDDING, Block, beside


def read_npy(path: Path) -> Iterator[Block]:
    """Read an array of shape (n, d) without loading it whole."""
    array = open_memmap(path, mode="r")
    _require_matrix(array)
    yield from _blocks_of(array, {})


def read_npz(path: Path) -> Iterator[Block]:
    """Read the array ``embedding``, or the only matrix; arrays beside it are metadata."""
    with path.open("rb") as opened, NpzFile(opened, allow_pickle=False) as file:
        arrays = {name: np.asarray(file[name]) for name in file.files}
    matrices = [name for name, array in arrays.items() if array.ndim == 2]
    if EMBEDDING not in arrays and len(matrices) != 1:
        raise ValueError(f"needs an array {EMBEDDING!r} of shape (n, d), or only one such array")
    array = arrays.pop(EMBEDDING if EMBEDDING in arrays else matrices[0])
    _require_matrix(array)
    others = {name: a for name, a in arrays.items() if a.shape == array.shape[:1]}
    for name, column in others.items():
        if column.dtype.kind not in "biufU":
            raise ValueError(
                f"array {name!r} beside the vectors holds {column.dtype}; allowed are numbers,"
                " booleans and texts"
            )
    yield from _blocks_of(array, {name: column.tolist() for name, column in others.items()})


def _require_matrix(array: NDArray[Any]) -> None:
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise ValueError(f"holds {array.dtype} of shape {array.shape}; allowed are numbers (n, d)")


def _blocks_of(array: NDArray[Any], columns: Mapping[str, list[Any]]) -> Iterator[Block]:
    for at in range(0, len(array), BLOCK):
        part = slice(at, at + BLOCK)
        vectors = np.asarray(array[part])
        columns_beside = beside({name: column[part] for name, column in columns.items()})
        yield Block(vectors, range(at, at + len(vectors)), *columns_beside)
