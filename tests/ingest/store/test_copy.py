"""The binary COPY format: PostgreSQL reads what is encoded, and what it writes is decoded."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest

from ingest.store import copy
from ingest.store.batch import Batch

TIMESTAMP = 1_700_000_000.25


@pytest.fixture
def now() -> datetime:
    """Not made when the module is read: it may be another day when the store is."""
    return datetime.now(UTC).replace(microsecond=123_456)


def write(connection: psycopg.Connection, target: str, tuples: bytes | memoryview) -> None:
    statement = f"copy {target} from stdin (format binary)".encode()
    with connection.cursor() as cursor, cursor.copy(statement) as stream:
        stream.write(copy.HEADER)
        stream.write(tuples)
        stream.write(copy.TRAILER)


def read(connection: psycopg.Connection, dimension: int) -> np.ndarray[tuple[int], np.dtype]:
    statement = (
        "copy (select seq, received_at, embedding from embedding order by seq)"
        " to stdout (format binary)"
    )
    with connection.cursor() as cursor, cursor.copy(statement) as stream:
        return copy.decode(stream, dimension)


def test_vectors_are_numbered_across_batches_and_return_unchanged(
    connection: psycopg.Connection,
    now: datetime,
) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    batches = [Batch("m", vectors[:2]), Batch("m", vectors[2:])]
    write(connection, f"embedding ({copy.COLUMNS})", copy.encode(batches, 41, now))
    rows = read(connection, 7)
    assert rows["seq"].tolist() == [41, 42, 43, 44, 45]
    assert rows["embedding"].tobytes() == vectors.tobytes()
    assert rows["received_at"] == pytest.approx(now.timestamp(), abs=1e-6)
    assert rows.dtype == copy.row_type(7)


def test_optional_columns_are_null_where_a_batch_has_none(
    connection: psycopg.Connection, now: datetime
) -> None:
    ones = np.ones((2, 3), np.float32)
    batches = [
        Batch("m", ones),
        Batch(
            "m",
            ones,
            ids=["é", None],
            metadata=[None, b'{"n": 1}'],
            timestamps=[None, 0.0],
            revised_cosines=[0.25, None],
        ),
        Batch("m", ones[:1], timestamps=[TIMESTAMP]),
    ]
    write(connection, f"embedding ({copy.COLUMNS})", copy.encode(batches, 1, now))
    found = connection.execute(
        "select model_name, received_at, id, metadata,"
        " extract(epoch from embedded_at)::float8, revised_cosine from embedding order by seq"
    ).fetchall()
    assert [row[:2] for row in found] == [("m", now)] * 5
    assert [row[2:] for row in found] == [
        (None, None, None, None),
        (None, None, None, None),
        ("é", None, None, 0.25),
        (None, {"n": 1}, 0.0, None),
        (None, None, TIMESTAMP, None),
    ]
    assert read(connection, 3)["embedding"].tolist() == [[1, 1, 1]] * 5


def test_ids_are_stored_with_their_numbers(connection: psycopg.Connection, now: datetime) -> None:
    write(
        connection,
        "embedding_id (model_name, id, seq, received_at)",
        copy.encode_ids("m", [("a", 5), ("ü" * 100, 6)], now),
    )
    found = connection.execute("select * from embedding_id order by seq").fetchall()
    assert found == [("m", "a", 5, now), ("m", "ü" * 100, 6, now)]


def test_no_rows_are_decoded_as_an_empty_array() -> None:
    rows = copy.decode([copy.HEADER, copy.TRAILER], 3)
    assert (rows.shape, rows["embedding"].shape) == ((0,), (0, 3))


@pytest.mark.parametrize(
    "content",
    [b"", copy.HEADER + b"12345" + copy.TRAILER, bytes(len(copy.HEADER)) + copy.TRAILER],
    ids=["nothing", "half a row", "no signature"],
)
def test_bytes_that_are_not_such_rows_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a binary COPY of vectors of dimension 3"):
        copy.decode([content], 3)


def test_a_vector_of_another_dimension_is_refused(
    connection: psycopg.Connection, now: datetime
) -> None:
    one = copy.encode([Batch("m", np.ones((1, 3), np.float32))], 1, now)
    write(connection, f"embedding ({copy.COLUMNS})", one)
    with pytest.raises(ValueError, match="of dimension 4"):
        read(connection, 4)


def test_a_row_that_only_claims_another_dimension_is_refused(
    connection: psycopg.Connection,
    now: datetime,
) -> None:
    """Its length is right, and its dimension is not."""
    write(
        connection,
        f"embedding ({copy.COLUMNS})",
        copy.encode([Batch("m", np.ones((1, 3), np.float32))], 1, now),
    )
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "copy (select seq, received_at, embedding from embedding) to stdout (format binary)"
        ) as stream,
    ):
        content = bytearray(b"".join(bytes(block) for block in stream))
    at = content.rindex(b"\0\3\0\0")
    content[at + 1] = 2
    with pytest.raises(ValueError, match="not all vectors have dimension 3"):
        copy.decode([content], 3)


def test_what_vector_send_returns_is_decoded(connection: psycopg.Connection) -> None:
    given = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    sent = [
        connection.execute(
            "select vector_send(%s::real[]::vector)", [row.tolist()], binary=True
        ).fetchone()
        for row in given
    ]
    found = copy.decode_sent([row[0] for row in sent if row is not None], 5)
    np.testing.assert_array_equal(found, given)
    assert copy.decode_sent([], 5).shape == (0, 5)
