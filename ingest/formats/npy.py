"""NumPy's ``.npy`` files, versions 1.0 and 2.0.

Format: NumPy documentation, ``numpy.lib.format``.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from ingest.formats import checks
from ingest.formats.format import Format, up_to
from ingest.formats.parameters import Parameters
from ingest.runtime.errors import PayloadError
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch

MAGIC = b"\x93NUMPY"
"""First bytes of every such file."""

_TYPES = ("f2", "f4", "f8", "i1", "u1")
_LARGEST_SIZE = 2**63 - 1
_READERS = {
    (1, 0): npy_format.read_array_header_1_0,
    (2, 0): npy_format.read_array_header_2_0,
}


def read(body: bytes, parameters: Parameters, limits: IngestSettings, _now: float) -> Batch:
    """Read a file of floats or bytes in one or two dimensions."""
    name = parameters.checked_model_name()
    vectors = _vectors(body, limits)
    dimension = parameters.checked_dimension(limits)
    if dimension not in (None, vectors.shape[1]):
        raise PayloadError(
            f"X-Dimension says {dimension}, but the .npy file has {vectors.shape[1]}"
        )
    checks.require_finite(vectors)
    return Batch(name, vectors)


def _vectors(body: bytes, limits: IngestSettings) -> NDArray[np.float32]:
    shape, is_fortran, dtype, start = _header(body)
    is_read = dtype.kind + str(dtype.itemsize) in _TYPES
    if not is_read or len(shape) not in (1, 2) or min(shape) < 0:
        raise PayloadError(
            "the .npy file must hold float16, float32, float64, int8 or uint8 in one or two"
            " dimensions;"
            f" it holds {dtype} of shape {shape}"
        )
    rows, columns = shape if len(shape) == 2 else (1, *shape)
    checks.count(rows, limits)
    problem = checks.dimension(columns, limits)
    if problem:
        raise PayloadError(problem)
    missing = dtype.itemsize * rows * columns - (len(body) - start)
    if missing > 0:
        raise PayloadError(f"the .npy file is truncated: its shape {shape} lacks {missing} bytes")
    if missing < 0:
        raise PayloadError(f"the .npy file has {-missing} bytes beyond its shape {shape}")
    array = np.frombuffer(body, dtype, offset=start)
    # Values beyond float32 become infinite, and are refused later with their place.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.require(
            array.reshape((rows, columns), order="F" if is_fortran else "C"),
            np.float32,
            ["C_CONTIGUOUS", "ALIGNED"],
        )


def _header(body: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Read shape, order, type, and the position of the data."""
    file = io.BytesIO(body)
    try:
        read_header = _READERS[npy_format.read_magic(file)]
        shape, is_fortran, dtype = read_header(file)
    except KeyError as error:
        raise PayloadError(
            f".npy version {error} is not supported; allowed are (1, 0) and (2, 0)"
        ) from error
    # A header is a Python expression, so Python's tokenizer and parser may raise anything.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise PayloadError(f"the body is not a readable .npy file: {reason}") from error
    # Python refuses to print numbers of thousands of digits, so that no error could quote them.
    if any(abs(size) > _LARGEST_SIZE for size in shape):
        raise PayloadError("the .npy file's shape has a number beyond 64 bits")
    # numpy accepts True as a size.
    return tuple(map(int, shape)), is_fortran, dtype, file.tell()


FORMAT = Format(
    "application/x-npy",
    read,
    {
        "type": "string",
        "format": "binary",
        "description": (
            "A `.npy` file, version 1.0 or 2.0: float16, float32, float64, int8 or uint8 in one"
            " or two dimensions."
        ),
    },
    place=up_to(1024 * 1024),
)
