"""Read npz files: an archive of NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from ingest.files.npy import array_blocks, check_matrix
from ingest.files.rows import EMBEDDING, Block


def read(path: Path) -> Iterator[Block]:
    """Read the vectors from the array ``embedding``, or from the only two-dimensional array.

    Other arrays with one value for each vector are its id and metadata.
    """
    with path.open("rb") as opened, NpzFile(opened, allow_pickle=False) as file:
        arrays = {name: np.asarray(file[name]) for name in file.files}
    matrices = [name for name, array in arrays.items() if array.ndim == 2]
    if EMBEDDING not in arrays and len(matrices) != 1:
        raise ValueError(f"needs an array {EMBEDDING!r} of shape (n, d), or only one such array")
    array = arrays.pop(EMBEDDING if EMBEDDING in arrays else matrices[0])
    check_matrix(array)
    others = {name: a for name, a in arrays.items() if a.shape == array.shape[:1]}
    for name, column in others.items():
        if column.dtype.kind not in "biufU":
            raise ValueError(
                f"array {name!r} beside the vectors holds {column.dtype}; allowed are numbers,"
                " booleans and texts"
            )
    yield from array_blocks(array, {name: column.tolist() for name, column in others.items()})
