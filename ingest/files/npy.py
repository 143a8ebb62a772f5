"""Read npy and npz files of NumPy, from their beginning to their end."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ingest.files.table import Arrays, Slices

_OBJECTS = (
    "holds Python objects, which are pickled and never loaded; write np.stack(vectors), and texts"
    " as np.array(texts, str)"
)


class _Stream:
    """An array in a file, whose rows are read in order."""

    def __init__(self, name: str, file: IO[bytes]) -> None:
        self._name = name
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        self.shape, self._is_fortran, self.dtype = header(file)
        self._file = file
        self._left = math.prod(self.shape)
        self._whole: NDArray[Any] | None = None

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        if self.dtype.hasobject:
            raise ValueError(f"array {self._name!r} {_OBJECTS}")
        if self._is_fortran and len(self.shape) > 1:
            # Each column lies in one piece, so all of it must be read.
            if self._whole is None:
                count = int(np.prod(self.shape))
                self._whole = self._read(count).reshape(self.shape[::-1]).T
            return self._whole[rows]
        shape = (rows.stop - rows.start, *self.shape[1:])
        return self._read(int(np.prod(shape))).reshape(shape)

    def _read(self, count: int) -> NDArray[Any]:
        size = count * self.dtype.itemsize
        data = self._file.read(size)
        if len(data) != size:
            raise ValueError("is cut off: it has fewer values than its header says")
        self._left -= count
        if not self._left and self._file.read(1):
            raise ValueError("has more after its first array; save each array to a file of its own")
        return np.frombuffer(data, self.dtype)


def open_npy(file: IO[bytes]) -> Arrays:
    """Open a file of one array: of vectors, or of records with one field a column."""
    stream = _Stream("array", file)
    if stream.dtype.names is None and (len(stream.shape) != 2 or stream.dtype.kind not in "fiu"):
        hint = f", so it {_OBJECTS}" if stream.dtype.hasobject else ""
        raise ValueError(
            f"holds {stream.dtype} of shape {stream.shape}{hint}; allowed are numbers of shape"
            " (vectors, components)"
        )
    return Arrays(_columns("array", stream))


def open_npz(file: IO[bytes]) -> Arrays:
    """Open an archive of arrays."""
    archive = zipfile.ZipFile(file)
    arrays: dict[str, Slices] = {}
    for name in archive.namelist():
        if name.endswith(".npy"):
            name = name.removesuffix(".npy")
            arrays.update(_columns(name, _Stream(name, archive.open(f"{name}.npy"))))
    if not arrays and archive.namelist():
        held = ", ".join(archive.namelist()[:3])
        raise ValueError(
            f"is an archive that holds {held:.200}; allowed are arrays of NumPy (.npy). Unpack"
            " others, and read the folder"
        )
    objects = [name for name, array in arrays.items() if array.dtype.hasobject]
    if objects and not any(len(array.shape) == 2 for array in arrays.values()):
        raise ValueError(f"array {objects[0]!r} {_OBJECTS}")
    # A single number, or a text that describes the file, is no column.
    return Arrays({name: array for name, array in arrays.items() if array.shape})


def _columns(name: str, stream: _Stream) -> Mapping[str, Slices]:
    if stream.dtype.names is None:
        return {name: stream}
    whole = stream[slice(0, stream.shape[0])]
    return {field: np.ascontiguousarray(whole[field]) for field in stream.dtype.names}
