"""Read .fvecs and .bvecs: each vector is its dimension, as int32, and its components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO, Any, ClassVar, Literal

import numpy as np

from ingest.files.names import EMBEDDING
from ingest.files.table import CHUNK, Array, Chunk, Kind, Table


class Vecs:
    """An open file."""

    unit: Literal["row", "line"] = "row"
    parts = 1
    kinds: ClassVar = {EMBEDDING: Kind.VECTORS}
    objects: ClassVar[Mapping[str, str]] = {}

    def __init__(self, file: IO[bytes], components: str) -> None:
        self._file = file
        self._components = np.dtype(components)

    def chunks(self, part: int, names: Any) -> Iterator[Chunk]:
        """Read the vectors, which all have the first one's dimension."""
        start = self._file.read(4)
        if not start:
            return
        dimension = int.from_bytes(start, "little", signed=True)
        if len(start) < 4 or not 1 <= dimension <= 1_000_000:
            raise ValueError(f"row 0 has the dimension {dimension}: the file is not of this format")
        size = dimension * self._components.itemsize
        row = np.dtype([("dimension", "<i4"), ("vector", self._components, (dimension,))])
        held, first = start, 0
        while held := held + self._file.read(CHUNK * row.itemsize - len(held)):
            count = len(held) // row.itemsize
            rows = np.frombuffer(held[: count * row.itemsize], row)
            other = rows["dimension"] != dimension
            if other.any():
                at = int(other.argmax())
                raise ValueError(
                    f"row {first + at} has the dimension {rows['dimension'][at]}, those before"
                    f" it {dimension}"
                )
            if len(held) % row.itemsize:
                raise ValueError(f"row {first + count} is cut off: it needs {4 + size} bytes")
            places = range(first, first + count)
            yield Chunk({EMBEDDING: Array(rows["vector"])}, places, places)
            first += count
            held = b""


def open_fvecs(file: IO[bytes]) -> Table:
    """Open a file of float32 vectors."""
    return Vecs(file, "<f4")


def open_bvecs(file: IO[bytes]) -> Table:
    """Open a file of uint8 vectors."""
    return Vecs(file, "u1")
