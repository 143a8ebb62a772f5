"""Intake: what a program hands over, made rows; what cannot be is named and left out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from numbers import Real
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest.files.rows import Rows
from ingest.formats import checks
from ingest.runtime.errors import PayloadError, Problem


@dataclass(frozen=True, slots=True)
class Intake:
    """Vectors handed over in one call.

    Attributes
    ----------
    count : int
        All of them.
    rows : list of Rows
        The good ones in their order, each element of one dimension.
    problems : list of Problem
        What is wrong with the others.
    """

    count: int
    rows: Sequence[Rows]
    problems: Sequence[Problem] = ()

    @property
    def invalid(self) -> int:
        """How many are left out."""
        return self.count - sum(map(len, self.rows))


class _Run(NamedTuple):
    """Vectors of one dimension, one after the other."""

    indices: range
    vectors: NDArray[np.float32]


def read(vectors: object, ids: object, metadata: object, timestamps: object) -> Intake:
    """Read what :meth:`ingest.client.Client.add` takes; raises nothing."""
    try:
        return _read(vectors, ids, metadata, timestamps)
    # Objects of anyone's making fail in their own ways, and so may what they raise.
    except Exception as error:
        return Intake(1, (), [Problem("/embeddings", f"raises {type(error).__name__}", 0)])


def _read(vectors: object, ids: object, metadata: object, timestamps: object) -> Intake:
    count, runs, problems = _runs(vectors)
    try:
        texts = _column("ids", ids, count)
        objects = _column("metadata", metadata, count)
        times = _column("timestamps", timestamps, count)
    except PayloadError as error:
        return Intake(count, (), error.problems)
    texts, more = _texts(texts)
    problems += more
    encoded, more = _encoded(objects, times, count)
    problems += more
    bad = {problem.index for problem in problems}
    rows = []
    for indices, matrix in runs:
        part = slice(indices.start, indices.stop)
        whole = Rows(matrix, texts[part], encoded[part])
        rows.append(whole.pick([row for row, at in enumerate(indices) if at not in bad]))
    return Intake(count, [part for part in rows if len(part)], problems)


def _runs(vectors: object) -> tuple[int, list[_Run], list[Problem]]:
    whole = _array(vectors)
    if isinstance(whole, str) or whole.ndim not in (1, 2):
        return _irregular(vectors)
    if len(whole) == 0:
        return 0, [], []
    if whole.shape[-1] == 0:
        return _irregular(vectors)
    matrix = np.atleast_2d(whole)
    return len(matrix), [_Run(range(len(matrix)), matrix)], checks.finite(matrix)


def _irregular(vectors: object) -> tuple[int, list[_Run], list[Problem]]:
    """Read vector by vector what is no array of numbers as a whole."""
    items = list(vectors) if _is_many(vectors) else [vectors]  # type: ignore[call-overload]
    rows = [_vector(item) for item in items]
    problems = [
        Problem(f"/embeddings/{index}", row, index)
        for index, row in enumerate(rows)
        if isinstance(row, str)
    ]
    runs = []
    for run in _alike(rows):
        runs.append(run)
        problems += checks.finite(run.vectors, run.indices.start)
    return len(rows), runs, problems


def _alike(rows: Sequence[NDArray[np.float32] | str]) -> Iterator[_Run]:
    def dimension(numbered: tuple[int, NDArray[np.float32] | str]) -> int:
        return 0 if isinstance(numbered[1], str) else len(numbered[1])

    for length, group in itertools.groupby(enumerate(rows), dimension):
        if length:
            numbers, vectors = zip(*group, strict=True)
            yield _Run(range(numbers[0], numbers[-1] + 1), np.stack(vectors))


def _is_many(vectors: object) -> bool:
    """Tell vectors from one vector, whose components may be anything but sequences."""
    return _has_length(vectors) and any(map(_has_length, vectors))  # type: ignore[call-overload]


def _has_length(value: Any) -> bool:
    if isinstance(value, str | bytes | Mapping):
        return False
    try:
        len(value)
    except Exception:
        return False
    return True


def _vector(value: object) -> NDArray[np.float32] | str:
    array = _array(value)
    if isinstance(array, str):
        return array
    if array.ndim != 1 or len(array) == 0:
        return f"has the shape {array.shape}; a vector has one dimension and is not empty"
    return array


def _array(value: object) -> NDArray[np.float32] | str:
    try:
        array = np.asarray(value)
    # A library's own arrays fail in its own ways, as a tensor on a GPU does.
    except Exception as error:
        return f"cannot be made an array: {error}"
    if array.dtype.kind not in "fiu":
        return f"is made of {array.dtype}; components must be numbers"
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(np.float32, copy=False)


def _column(name: str, values: Any, count: int) -> Sequence[Any]:
    """Bring what stands beside the vectors to one element a vector; none at all for None."""
    if values is None:
        return ()
    try:
        column: list[Any] = list(values) if _has_length(values) else [values]
    except Exception as error:
        raise checks.refuse([Problem(f"/{name}", f"raises {type(error).__name__}")]) from error
    if len(column) != count:
        raise checks.refuse(
            [Problem(f"/{name}", f"has {len(column)} elements for {count} vectors")]
        )
    return column


def _texts(ids: Sequence[object]) -> tuple[Sequence[str | None], list[Problem]]:
    texts: list[str | None] = []
    problems = []
    for index, id_ in enumerate(ids):
        text, reason = _text(id_)
        texts.append(text)
        if reason is not None:
            problems.append(Problem(f"/ids/{index}", reason, index))
    return texts, problems


def _text(id_: object) -> tuple[str | None, str | None]:
    """Give an id as text, or what is wrong with it."""
    if id_ is None:
        return None, None
    try:
        text = str(id_)
        text.encode()
    except Exception as error:  # of an object of anyone's making
        return None, f"is no text: {error}"
    reason = checks.vector_id(text)
    return (text, None) if reason is None else (None, reason)


def _encoded(
    objects: Sequence[object], timestamps: Sequence[object], count: int
) -> tuple[Sequence[msgspec.Raw | None], list[Problem]]:
    """Encode metadata at once: its owner may go on to change it."""
    if not objects and not timestamps:
        return (), []
    encoded: list[msgspec.Raw | None] = []
    problems = []
    pairs = itertools.zip_longest(objects, timestamps)
    for index, (metadata, timestamp) in enumerate(itertools.islice(pairs, count)):
        try:
            encoded.append(_object(metadata, timestamp))
        except Exception as error:  # of objects of anyone's making
            encoded.append(None)
            problems.append(Problem(f"/metadata/{index}", f"cannot be sent: {error}", index))
    return encoded, problems


def _object(metadata: object, timestamp: object) -> msgspec.Raw | None:
    if metadata is None and timestamp is None:
        return None
    if not isinstance(metadata, Mapping | None):
        raise TypeError(f"it is {type(metadata).__name__}; must be a mapping")
    if not isinstance(timestamp, Real | datetime | None):
        raise TypeError(f"timestamp is {type(timestamp).__name__}; must be a number or a datetime")
    item = dict(metadata or {})
    if timestamp is not None:
        item["timestamp"] = timestamp if isinstance(timestamp, datetime) else float(timestamp)
    return msgspec.Raw(msgspec.json.encode(item))
