"""Read vectors, ids, metadata and timestamps from Python objects.

Invalid vectors are reported and left out, so that they do not cost the valid ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedding_drift_client import values
from embedding_drift_client.errors import NOT_FINITE, PayloadError, Problem, refusal
from embedding_drift_client.values import kind, shown

Ids = Collection[object] | int | None
Metadata = Collection[Mapping[str, Any] | None] | Mapping[str, Any] | None
Timestamps = Collection[float | datetime | None] | float | datetime | None


@dataclass(frozen=True, slots=True)
class Rows:
    """Vectors of one dimension with their ids and metadata.

    Attributes
    ----------
    vectors : ndarray of float32, shape (n, d)
    ids : sequence of n, or empty
        None where a vector has no id.
    metadata : sequence of n, or empty
        JSON objects, encoded. None where a vector has no metadata.
    """

    vectors: NDArray[np.float32]
    ids: Sequence[str | None] = ()
    metadata: Sequence[bytes | None] = ()

    def __len__(self) -> int:
        return len(self.vectors)

    def pick(self, rows: Sequence[int]) -> Rows:
        """Copy some of the rows."""
        return Rows(
            self.vectors[np.asarray(rows, np.intp)],
            [self.ids[row] for row in rows] if self.ids else (),
            [self.metadata[row] for row in rows] if self.metadata else (),
        )


@dataclass(frozen=True, slots=True)
class Given:
    """The vectors of one call.

    Attributes
    ----------
    count : int
        The number of vectors, valid or not.
    rows : sequence of Rows
        The valid vectors in order. Each element has vectors of one dimension.
    problems : sequence of Problem
        Why the other vectors are not valid.
    """

    count: int
    rows: Sequence[Rows]
    problems: Sequence[Problem] = ()

    @property
    def invalid(self) -> int:
        """The number of vectors that are left out."""
        return self.count - sum(map(len, self.rows))


class _Run(NamedTuple):
    """Consecutive vectors of one dimension."""

    indices: range
    vectors: NDArray[np.float32]


def read(vectors: object, ids: object, metadata: object, timestamps: object) -> Given:
    """Read the arguments of :meth:`embedding_drift_client.Client.add`; never raises."""
    try:
        return _read(vectors, ids, metadata, timestamps)
    except Exception as error:  # a program's own objects may raise anything
        return Given(1, (), [Problem("/embeddings", f"raises {kind(error)}", 0)])


def _read(vectors: object, ids: object, metadata: object, timestamps: object) -> Given:
    count, runs, problems = _runs(vectors)
    try:
        texts = _column("ids", ids, count)
        objects = _column("metadata", metadata, count)
        times = _column("timestamps", timestamps, count)
    except PayloadError as error:
        return Given(count, (), error.problems)
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
    return Given(count, [part for part in rows if len(part)], problems)


def _runs(vectors: object) -> tuple[int, list[_Run], list[Problem]]:
    whole = values.as_array(vectors)
    if isinstance(whole, str) or whole.ndim not in (1, 2):
        return _irregular(vectors)
    if len(whole) == 0:
        return 0, [], []
    if whole.shape[-1] == 0:
        return _irregular(vectors)
    matrix = np.atleast_2d(whole)
    return len(matrix), [_Run(range(len(matrix)), matrix)], _not_finite(matrix)


def _irregular(vectors: Any) -> tuple[int, list[_Run], list[Problem]]:
    """Read vectors one by one, because they are not one array of numbers."""
    if hasattr(vectors, "to_numpy"):
        vectors = vectors.to_numpy()  # to iterate over a DataFrame gives its columns' names
    items = list(vectors) if _is_many(vectors) else [vectors]
    rows = [_vector(item) for item in items]
    problems = [
        Problem(f"/embeddings/{index}", row, index)
        for index, row in enumerate(rows)
        if isinstance(row, str)
    ]
    runs = []
    for run in _alike(rows):
        runs.append(run)
        problems += _not_finite(run.vectors, run.indices.start)
    return len(rows), runs, problems


def _alike(rows: Sequence[NDArray[np.float32] | str]) -> Iterator[_Run]:
    """Group consecutive vectors of one dimension; reasons are left out."""

    def dimension(numbered: tuple[int, NDArray[np.float32] | str]) -> int:
        return 0 if isinstance(numbered[1], str) else len(numbered[1])

    for length, group in itertools.groupby(enumerate(rows), dimension):
        if length:
            numbers, vectors = zip(*group, strict=True)
            yield _Run(range(numbers[0], numbers[-1] + 1), np.stack(vectors))


def _is_many(vectors: Any) -> bool:
    """Return whether these are several vectors; the components of one have no length."""
    return _has_length(vectors) and any(map(_has_length, vectors))


def _has_length(value: Any) -> bool:
    if isinstance(value, str | bytes | Mapping):
        return False
    try:
        len(value)
    except Exception:  # len of another library's object may raise anything
        return False
    return True


def _vector(value: object) -> NDArray[np.float32] | str:
    array = values.as_array(value)
    if isinstance(array, str):
        return array
    if array.ndim != 1 or len(array) == 0:
        return f"has the shape {array.shape}; a vector has one dimension and is not empty"
    return array


def _not_finite(vectors: NDArray[np.float32], first: int = 0) -> list[Problem]:
    """Report the first component of each vector that is not finite.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
    first : int
        Index of ``vectors[0]`` within the call.
    """
    finite = np.isfinite(vectors)
    return [
        Problem(f"/embeddings/{first + row}/{finite[row].argmin()}", NOT_FINITE, first + int(row))
        for row in np.flatnonzero(~finite.all(axis=1))
    ]


def _column(name: str, column: Any, count: int) -> Sequence[Any]:
    """Return one element for each vector; none at all for None."""
    if column is None:
        return ()
    reason = _unusable(column)
    if reason is not None:
        raise refusal([Problem(f"/{name}", reason)])
    dtype = getattr(column, "dtype", None)
    try:
        if isinstance(dtype, np.dtype) and dtype.kind == "f" and _has_length(column):
            column = np.asarray(column)  # pandas gives Python's floats, whatever the type
        items: list[Any] = list(column) if _has_length(column) else [column]
    except Exception as error:
        raise refusal([Problem(f"/{name}", f"raises {kind(error)}")]) from error
    if len(items) != count:
        raise refusal([Problem(f"/{name}", f"has {len(items)} elements for {count} vectors")])
    return items


def _unusable(column: Any) -> str | None:
    """Return why the elements of this object have no order, if so."""
    if isinstance(column, set | frozenset):
        return f"is a {kind(column)}, which has no order; pass a list"
    if hasattr(column, "columns"):  # to iterate over a DataFrame gives its columns' names
        return f"is a {kind(column)}; pass one column, or to_dict('records') for metadata"
    return None


def _texts(ids: Sequence[object]) -> tuple[Sequence[str | None], list[Problem]]:
    texts: list[str | None] = []
    problems = []
    for index, id_ in enumerate(ids):
        try:
            texts.append(values.as_id(id_))
        except Exception as error:  # a program's own objects may raise anything
            texts.append(None)
            problems.append(Problem(f"/ids/{index}", shown(error), index))
    return texts, problems


def _encoded(
    objects: Sequence[object], timestamps: Sequence[object], count: int
) -> tuple[Sequence[bytes | None], list[Problem]]:
    """Encode metadata now, because the program may change it later."""
    if not objects and not timestamps:
        return (), []
    encoded: list[bytes | None] = []
    problems = []
    pairs = itertools.zip_longest(objects, timestamps)
    for index, (metadata, timestamp) in enumerate(itertools.islice(pairs, count)):
        try:
            encoded.append(values.as_object(metadata, timestamp))
        except Exception as error:  # a program's own objects may raise anything
            encoded.append(None)
            problems.append(Problem(f"/metadata/{index}", f"cannot be sent: {shown(error)}", index))
    return encoded, problems
