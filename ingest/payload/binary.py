"""Binary bodies: raw little-endian float32, and NumPy's ``.npy``."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.payload import checks
from ingest.runtime.errors import PayloadError, Problem
from ingest.runtime.settings import IngestSettings
from ingest.store.batch import Batch

_MAGIC = b"\x93NUMPY"


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
        _agree(vectors, parameters)
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
    try:
        array = np.load(io.BytesIO(body), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, TypeError, MemoryError) as error:
        raise PayloadError(f"the body is not a readable .npy file: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.ndim not in (1, 2):
        raise PayloadError(
            "the .npy file must hold float16, float32 or float64 in one or two dimensions;"
            f" it holds {getattr(array, 'dtype', 'an archive')} of shape"
            f" {getattr(array, 'shape', '(several)')}"
        )
    rows = np.atleast_2d(array)
    checks.count(len(rows), limits)
    problem = checks.dimension(rows.shape[1], limits)
    if problem:
        raise PayloadError(problem)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(rows, dtype=np.float32)


def _agree(vectors: NDArray[np.float32], parameters: Parameters) -> None:
    given = parameters.dimension
    if given is not None and given != str(vectors.shape[1]):
        raise PayloadError(
            f"X-Dimension says {given[:20]}, but the .npy file has {vectors.shape[1]}"
        )
