"""Vectors in JSON, each a list of numbers or a base64 string.

Each vector is decoded by its own call. So other threads run in between, however large the
batch, and each wrong vector can be named.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import simdjson
from msgspec import UNSET, Raw, UnsetType
from numpy.typing import NDArray

from ingest.files import dtypes
from ingest.formats import checks
from ingest.runtime.errors import Problem
from ingest.runtime.settings.settings import IngestSettings


class _Body(msgspec.Struct):
    """The vectors of a body."""

    embedding: Raw | UnsetType = UNSET
    embeddings: list[Raw] | UnsetType = UNSET


_BODY = msgspec.json.Decoder(_Body)
_STRING = msgspec.json.Decoder(str)
# All numbers as floats, which are told apart from booleans and may have any length.
_LOOSE = json.JSONDecoder(parse_int=float)
_LONG = 256 * 1024
_ALLOWED = "must be a list of numbers or a base64 string"
# By the first byte, so that a value of another type need not be decoded.
_KINDS = {b"{": "an object", b"t": "a boolean", b"f": "a boolean", b"n": "null"}
_NO_VECTOR = f"is not a vector; {_ALLOWED}"


def read(
    texts: Sequence[Raw], limits: IngestSettings, dtype: str | None = None
) -> tuple[NDArray[np.float32], list[Problem]]:
    """Read the vectors of one batch.

    Parameters
    ----------
    texts : sequence of Raw
        JSON of each vector.
    limits : IngestSettings
    dtype : str, optional
        The type of the numbers in base64.

    Returns
    -------
    vectors : ndarray of float32, shape (n, d)
        Empty if they are invalid or differ in dimension.
    problems : list of Problem
        What is wrong with them, at ``/embeddings/INDEX``.
    """
    rows: list[NDArray[np.float32] | str] = []
    at_fault, last = 0, len(texts) - 1
    for text in texts:
        # Finding the reason takes long, and an answer lists at most 100.
        # The type is that of all, so one vector tells whether it is right.
        is_doubted = not rows or len(rows) == last
        explained = at_fault < checks.LISTED
        rows.append(_row(bytes(text), limits, explained, dtype, is_doubted))
        at_fault += isinstance(rows[-1], str)
    good = [row for row in rows if not isinstance(row, str)]
    if not rows:
        return np.empty((0, 0), np.float32), []
    alike = len(good) == len(rows) and all(len(row) == len(good[0]) for row in good)
    if not alike or checks.dimension(len(good[0]), limits) is not None:
        return np.empty((0, 0), np.float32), list(_problems(rows, limits))
    vectors = good[0][np.newaxis] if len(good) == 1 else np.stack(good)
    return vectors, checks.finite(vectors)


def problems_of_body(body: bytes, limits: IngestSettings) -> list[Problem]:
    """Return what is wrong with the vectors of a body; nothing if it cannot be decoded."""
    try:
        decoded = _BODY.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    if decoded.embedding is not UNSET:
        return in_the_singular(read([decoded.embedding], limits)[1])
    if decoded.embeddings is UNSET or len(decoded.embeddings) > limits.max_batch_vectors:
        return []
    return read(decoded.embeddings, limits)[1]


def placed(problems: Sequence[Problem], place: str) -> list[Problem]:
    """Change pointers to those of another body, given the pointer of a vector with {} in it."""
    found = []
    for problem in problems:
        _, _, index, *rest = problem.pointer.split("/")
        pointer = "/".join([place.replace("{}", index), *rest])
        found.append(Problem(pointer, problem.reason, problem.index))
    return found


def in_the_singular(problems: Sequence[Problem]) -> list[Problem]:
    """Change pointers to those of a body with one vector: /embedding, /id, /metadata."""
    plural = {"embeddings": "embedding", "ids": "id", "metadata": "metadata"}
    singular = []
    for problem in problems:
        _, name, _, *rest = problem.pointer.split("/")
        singular.append(Problem("/".join(["", plural[name], *rest]), problem.reason))
    return singular


def _problems(
    rows: Sequence[NDArray[np.float32] | str], limits: IngestSettings
) -> Iterator[Problem]:
    """Return what is wrong with each row: its own problem, a string, or another dimension."""
    dimension: int | None = None
    for index, row in enumerate(rows):
        reason = row if isinstance(row, str) else checks.dimension(len(row), limits)
        if isinstance(row, str) or reason is not None:
            yield Problem(f"/embeddings/{index}", str(reason), index)
            continue
        dimension = dimension or len(row)
        if len(row) != dimension:
            reason = f"has dimension {len(row)}, those before it {dimension}"
            yield Problem(f"/embeddings/{index}", reason, index)
        else:
            yield from checks.finite(row[np.newaxis], index)


def _row(
    text: bytes, limits: IngestSettings, explained: bool, dtype: str | None, is_doubted: bool
) -> NDArray[np.float32] | str:
    """Read one vector, or return what is wrong with it, in detail if ``explained``."""
    if text.startswith(b'"'):
        return _base64(text, dtype, is_doubted)
    if not text.startswith(b"["):
        return f"is {_KINDS.get(text[:1], 'a number')}; {_ALLOWED}" if explained else _NO_VECTOR
    # Not decoded if far too long, because it would be one long call.
    if len(text) > _LONG and (reason := checks.dimension(text.count(b",") + 1, limits)):
        return reason
    try:
        numbers = _numbers(text)
    except (ValueError, TypeError, RuntimeError):  # simdjson raises any of them
        return _loosely(text, explained)
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32)


def _numbers(text: bytes) -> NDArray[np.float64]:
    """Decode a list of numbers without an object for each."""
    array = simdjson.Parser().parse(text)
    # as_buffer would flatten nested lists.
    if not isinstance(array, simdjson.Array) or text.find(b"[", 1) != -1:
        raise ValueError("not a flat list")
    return np.frombuffer(array.as_buffer(of_type="d"))


def _base64(text: bytes, dtype: str | None, is_doubted: bool) -> NDArray[np.float32] | str:
    try:
        data = binascii.a2b_base64(_STRING.decode(text), strict_mode=True)
    except ValueError as error:
        return f"is not valid base64: {error}"
    name = dtype or dtypes.FLOAT32
    if len(data) % dtypes.SIZES[name]:
        return (
            f"holds {len(data)} bytes of base64; {name} takes a multiple of {dtypes.SIZES[name]}"
            f" (dtype may be {', '.join(dtypes.DTYPES)})"
        )
    if is_doubted and (reason := dtypes.doubt(data, dtype)) is not None:
        return reason
    return dtypes.read(data, name)


def _loosely(text: bytes, explained: bool) -> NDArray[np.float32] | str:
    """Read a list that simdjson cannot, or return what is wrong with it."""
    try:
        loose = _LOOSE.decode(text.decode())
    except RecursionError:
        return checks.TOO_DEEP
    except ValueError as error:
        return (explained and checks.misspelt(text)) or f"is not valid JSON: {error}"
    wrong = next((at for at, value in enumerate(loose) if not isinstance(value, float)), None)
    if wrong is not None:
        what = checks.kind(loose[wrong])
        reason = f"component {wrong} is {what}; components must be numbers"
        return (explained and checks.misspelt(text)) or reason
    with np.errstate(over="ignore"):
        return np.array(loose, np.float32)
