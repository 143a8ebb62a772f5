"""Invalid vectors are reported and left out; nothing is raised."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from embedding_drift_client.rows import Given, read

NAN = float("nan")


def accepted(given: Given) -> list[list[list[float]]]:
    return [rows.vectors.tolist() for rows in given.rows]


def pointers(given: Given) -> list[str]:
    return [problem.pointer for problem in given.problems]


class OnDevice:
    """An array on a GPU that NumPy cannot read."""

    def __array__(self, *_: object, **__: object) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


class Frame:
    """An object with NumPy's array protocol."""

    def __array__(self, *_: object, **__: object) -> Any:
        return np.array([[1.0, 2.0]])


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [
        ([1, 2], [[[1, 2]]]),
        ([[1, 2], [3, 4]], [[[1, 2], [3, 4]]]),
        (((1.5, 2.5),), [[[1.5, 2.5]]]),
        (np.array([1, 2], np.float16), [[[1, 2]]]),
        (np.array([[1, 2]], ">f8"), [[[1, 2]]]),
        (np.array([[1, 2], [3, 4]], np.int64).T, [[[1, 3], [2, 4]]]),
        ([np.array([1.0, 2.0]), np.array([3.0, 4.0])], [[[1, 2], [3, 4]]]),
        (Frame(), [[[1, 2]]]),
        ([], []),
        (np.empty((0, 3)), []),
    ],
)
def test_numbers_are_vectors(vectors: object, expected: object) -> None:
    given = read(vectors, None, None, None)
    assert accepted(given) == expected
    assert given.count == sum(map(len, given.rows))
    assert not given.problems


def generator() -> Iterator[float]:
    yield 1.0


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        ([1, NAN], "is NaN"),
        ([1, 1e39], "too large for float32"),
        (["a", "b"], "components must be numbers"),
        ([1.0, None], "components must be numbers"),
        ([True, False], "components must be numbers"),
        ([1j, 2], "components must be numbers"),
        ("text", "components must be numbers"),
        ({"a": 1}, "components must be numbers"),
        (None, "components must be numbers"),
        (generator(), "components must be numbers"),
        (OnDevice(), "cannot be made an array: can't convert cuda:0"),
        (1.0, r"has the shape \(\); a vector has one dimension"),
        ([[]], r"has the shape \(0,\)"),
        ([[[1.0]]], r"has the shape \(1, 1\)"),
    ],
)
def test_invalid_vectors_are_reported(vectors: object, reason: str) -> None:
    given = read(vectors, None, None, None)
    assert (given.count, given.invalid) == (1, 1)
    [problem] = given.problems
    assert problem.index == 0
    assert re.search(reason, problem.reason)


def test_valid_vectors_are_kept_beside_invalid_ones() -> None:
    given = read([[1, 2], [NAN, 2], [3, 4]], ["a", "b", "c"], [{"n": 1}, {"n": 2}, None], None)
    [rows] = given.rows
    assert rows.vectors.tolist() == [[1, 2], [3, 4]]
    assert rows.ids == ["a", "c"]
    assert rows.metadata == [b'{"n":1}', None]
    assert pointers(given) == ["/embeddings/1/0"]


def test_vectors_of_several_dimensions_are_separate_rows() -> None:
    given = read([[1, 2], [3, 4], "x", [5, 6], [7], [8, None], [9, 0]], list("abcdefg"), None, None)
    assert accepted(given) == [[[1, 2], [3, 4]], [[5, 6]], [[7]], [[9, 0]]]
    assert [rows.ids for rows in given.rows] == [["a", "b"], ["d"], ["e"], ["g"]]
    assert pointers(given) == ["/embeddings/2", "/embeddings/5"]


def test_arguments_beside_one_vector_need_no_list() -> None:
    [rows] = read([1, 2], "a", {"n": 1}, 7).rows
    assert rows.ids == ["a"]
    assert rows.metadata == [b'{"n":1,"timestamp":7.0}']


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_arguments_beside_one_vector_may_be_numbers_of_numpy(kind: type[np.floating]) -> None:
    one = np.array([1.0, 2.0])
    found = read(one, kind(7), None, kind(512))
    assert not found.problems
    assert (found.rows[0].ids, found.rows[0].metadata) == (["7"], [b'{"timestamp":512.0}'])
    assert not read(one, kind("nan"), kind("nan"), kind("nan")).problems


def test_ids_become_text() -> None:
    [rows] = read(np.ones((3, 2)), np.array([1, 2, 3]), None, None).rows
    assert rows.ids == ["1", "2", "3"]


def test_timestamps_are_numbers_or_datetimes() -> None:
    times = [np.float32(1.5), datetime(2024, 1, 1, tzinfo=UTC), None]
    [rows] = read(np.ones((3, 2)), None, None, times).rows
    assert rows.metadata == [
        b'{"timestamp":1.5}',
        b'{"timestamp":"2024-01-01T00:00:00Z"}',
        None,
    ]


def circular() -> dict[str, Any]:
    item: dict[str, Any] = {}
    item["self"] = item
    return item


@pytest.mark.parametrize(
    ("column", "bad", "pointer"),
    [
        ("ids", "", "/ids/1"),
        ("ids", "line\n", "/ids/1"),
        ("metadata", "text", "/metadata/1"),
        ("metadata", {"a": object()}, "/metadata/1"),
        ("metadata", {(1, 2): 3}, "/metadata/1"),
        ("metadata", {"a": "\ud800"}, "/metadata/1"),
        ("metadata", circular(), "/metadata/1"),
        ("timestamps", "yesterday", "/metadata/1"),
    ],
)
def test_a_vector_with_an_invalid_argument_is_left_out(
    column: str, bad: object, pointer: str
) -> None:
    columns: dict[str, Any] = {"ids": None, "metadata": None, "timestamps": None}
    given = read([[1, 2], [3, 4], [5, 6]], **columns | {column: [None, bad, None]})
    assert accepted(given) == [[[1, 2], [5, 6]]]
    assert pointers(given) == [pointer]


@pytest.mark.parametrize("column", ["ids", "metadata", "timestamps"])
@pytest.mark.parametrize("values", [[None], "ab", 5, [None] * 3])
def test_an_argument_of_another_length_is_refused_as_a_whole(column: str, values: object) -> None:
    columns: dict[str, Any] = {"ids": None, "metadata": None, "timestamps": None}
    given = read([[1, 2], [3, 4]], **columns | {column: values})
    assert (given.count, given.invalid) == (2, 2)
    assert pointers(given) == [f"/{column}"]


def test_later_changes_by_the_program_are_not_sent() -> None:
    metadata, vectors = {"n": 1}, np.array([1, 2], np.float32)
    [rows] = read(vectors, None, metadata, None).rows
    metadata["n"] = 2
    vectors[:] = 0
    assert rows.metadata == [b'{"n":1}']
    assert rows.vectors.tolist() == [[1, 2]]
