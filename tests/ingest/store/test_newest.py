"""The newest vectors: in their order, of a window's age, and with what their clients said."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import psycopg
from numpy.typing import NDArray

from ingest.store.batch import Batch
from ingest.store.newest import newest

InsertAll = Callable[..., list[object]]


def test_the_newest_come_first_with_what_their_clients_said(
    connection: psycopg.Connection, insert_all: InsertAll, sentences: NDArray[np.float32]
) -> None:
    insert_all(
        Batch("m", sentences[:4], ["a", "b", "c", "d"], [None, None, b'{"text": "x"}', None]),
        Batch("other", sentences[:9]),
    )
    described, vectors = newest(connection, "m", 384, 900, 3)
    assert [(each.seq, each.id) for each in described] == [(4, "d"), (3, "c"), (2, "b")]
    assert [each.metadata for each in described] == [None, {"text": "x"}, None]
    np.testing.assert_array_equal(vectors, sentences[[3, 2, 1]])


def test_older_vectors_than_asked_for_are_left_out(
    connection: psycopg.Connection, insert_all: InsertAll
) -> None:
    insert_all(Batch("m", np.ones((2, 3), np.float32)))
    connection.execute("create table past partition of embedding default")
    connection.execute("update embedding set received_at = received_at - interval '2000 s'")
    insert_all(Batch("m", np.ones((1, 3), np.float32)))
    assert [each.seq for each in newest(connection, "m", 3, 1000, 5)[0]] == [3]
    assert len(newest(connection, "m", 3, 3600, 5)[0]) == 3


def test_numbers_tell_which_are_the_newest_once_the_clock_was_set_back(
    connection: psycopg.Connection, insert_all: InsertAll
) -> None:
    insert_all(Batch("m", np.ones((3, 3), np.float32)))
    connection.execute("update embedding set received_at = received_at + interval '1 day'")
    insert_all(Batch("m", np.ones((2, 3), np.float32)))
    assert [each.seq for each in newest(connection, "m", 3, 900, 3)[0]] == [5, 4, 3]
    assert [each.seq for each in newest(connection, "m", 3, 900, 3, after=4)[0]] == [5]
    assert list(newest(connection, "m", 3, 900, 3, after=5)[0]) == []


def test_vectors_of_a_foreign_dimension_are_left_out(
    connection: psycopg.Connection, insert_all: InsertAll
) -> None:
    insert_all(Batch("m", np.ones((1, 3), np.float32)))
    connection.execute("update embedding set embedding = '[1]'")
    described, vectors = newest(connection, "m", 3, 900, 5)
    assert (list(described), vectors.shape) == ([], (0, 3))
