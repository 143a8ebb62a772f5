"""Binary bodies: raw little-endian float32, and NumPy's ``.npy``."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ingest.formats import checks
from ingest.runtime.errors import PayloadError, Problem
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch

_MAGIC = b"\x93NUMPY"
_LARGEST_SIZE = 2**63 - 1
_NPY_VERSIONS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a binary body cannot say of itself."""

    model_name: str | None
    dimension: str | None

    @classmethod
    def of(cls, headers: Mapping[str, str], query: Mapping[str, str]) -> Parameters:
        """Read them from headers or query.

        Raises
        ------
        PayloadError
            If header and query disagree.
        """
        return cls(
            _either(headers, "X-Model-Name", query, "model_name"),
            _either(headers, "X-Dimension", query, "dimension"),
        )


def _either(
    headers: Mapping[str, str], header: str, query: Mapping[str, str], parameter: str
) -> str | None:
    given = {headers.get(header.lower()), query.get(parameter)} - {None}
    if len(given) > 1:
        raise PayloadError(f"header {header} and query parameter {parameter} disagree")
    return given.pop() if given else None


def read(body: bytes, content_type: str, parameters: Parameters, limits: IngestSettings) -> Batch:
    """Read a binary body; an ``.npy`` file is known by its first bytes, too."""
    if parameters.model_name is None:
        raise PayloadError("the model is missing: give header X-Model-Name or query model_name")
    name = checks.model_name(parameters.model_name, "X-Model-Name")
    if content_type == "application/x-npy" or body.startswith(_MAGIC):
        vectors = _npy(body, limits)
        _agree(vectors, parameters, limits)
    else:
        vectors = _raw(body, parameters, limits)
    problems = checks.finite(vectors)
    if problems:
        raise checks.refuse(problems)
    return Batch(name, vectors)


def _dimension(given: str, limits: IngestSettings) -> int:
    # A number of many digits is refused as text: turning it into an int could take for ever.
    if not (given.isascii() and given.isdecimal() and len(given) < 10 and int(given) > 0):
        problem: str | None = f"{given[:20]!r} is not a whole number above 0"
    else:
        problem = checks.dimension(int(given), limits)
    if problem is not None:
        raise checks.refuse([Problem("X-Dimension", problem)])
    return int(given)


def _raw(body: bytes, parameters: Parameters, limits: IngestSettings) -> NDArray[np.float32]:
    if parameters.dimension is None:
        raise PayloadError("the dimension is missing: give header X-Dimension or query dimension")
    dimension = _dimension(parameters.dimension, limits)
    count, rest = divmod(len(body), 4 * dimension)
    if rest:
        raise PayloadError(
            f"the body of {len(body)} bytes is truncated: a vector of dimension {dimension} takes"
            f" {4 * dimension} bytes, and the last one lacks {4 * dimension - rest}"
        )
    checks.count(count, limits)
    return np.frombuffer(body, "<f4").reshape(count, dimension)


def _npy(body: bytes, limits: IngestSettings) -> NDArray[np.float32]:
    shape, is_fortran, dtype, start = _npy_header(body)
    if dtype.kind != "f" or dtype.itemsize > 8 or len(shape) not in (1, 2) or min(shape) < 0:
        raise PayloadError(
            "the .npy file must hold float16, float32 or float64 in one or two dimensions;"
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
    with np.errstate(over="ignore", invalid="ignore"):
        return np.require(
            array.reshape((rows, columns), order="F" if is_fortran else "C"),
            np.float32,
            ["C_CONTIGUOUS", "ALIGNED"],
        )


def _npy_header(body: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Read shape, order, type and where the data begins."""
    file = io.BytesIO(body)
    try:
        read_header = _NPY_VERSIONS[npy.read_magic(file)]
        shape, is_fortran, dtype = read_header(file)
    except KeyError as error:
        raise PayloadError(
            f".npy version {error} is not read here; allowed are (1, 0) and (2, 0)"
        ) from error
    # A header is a Python expression: it fails in any way that Python's tokenizer and parser can.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise PayloadError(f"the body is not a readable .npy file: {reason}") from error
    # Python prints no number of thousands of digits, which no error could then quote.
    if any(abs(size) > _LARGEST_SIZE for size in shape):
        raise PayloadError("the .npy file's shape has a number beyond 64 bits")
    # True counts as a number there.
    return tuple(map(int, shape)), is_fortran, dtype, file.tell()


def _agree(vectors: NDArray[np.float32], parameters: Parameters, limits: IngestSettings) -> None:
    if parameters.dimension is None:
        return
    dimension = _dimension(parameters.dimension, limits)
    if dimension != vectors.shape[1]:
        raise PayloadError(
            f"X-Dimension says {dimension}, but the .npy file has {vectors.shape[1]}"
        )
