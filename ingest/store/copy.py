"""Encode and decode rows with vectors in PostgreSQL's binary COPY format.

The text format of vectors is slow to write and to read. Here numpy converts all rows at once, as
one structured array. The format is described in the PostgreSQL documentation, COPY, "Binary
Format". A vector is what pgvector's ``vector_send`` writes: the dimension and a reserved word as
int16, then the components as float32, all big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.store.batch import Batch

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""Start of a binary COPY: the signature, no flags, no extension."""
TRAILER = struct.pack(">h", -1)
"""End of a binary COPY."""
COLUMNS = "model_name, seq, received_at, embedded_at, id, metadata, revised_cosine, embedding"
"""Columns of the table ``embedding``, in the order in which :func:`encode` writes them."""

_POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_POSTGRES_EPOCH_SECONDS = _POSTGRES_EPOCH.timestamp()
_NULL = struct.pack(">i", -1)
_OPTIONAL = 4
"""Number of optional columns."""
_LENGTH = struct.Struct(">i")


def encode(batches: Sequence[Batch], first_seq: int, received_at: datetime) -> bytes | memoryview:
    """Encode vectors as tuples of ``COPY embedding (COLUMNS) FROM STDIN (FORMAT BINARY)``.

    Parameters
    ----------
    batches : sequence of Batch
        At least one; all of one model and one dimension.
    first_seq : int
        Number of the first vector. The others are numbered without gaps.
    received_at : datetime
        The same for all vectors.

    Returns
    -------
    bytes or memoryview
        Without header and trailer.
    """
    tuples = _tuples(batches, first_seq, received_at)
    whole, size = tuples.view(np.uint8).data, tuples.itemsize
    if not any(map(_has_optional_columns, batches)):
        return whole
    nulls, vector = _offset(tuples, "nulls"), _offset(tuples, "length")
    columns = (column for batch in batches for column in _optional_columns(batch))
    parts: list[bytes | memoryview] = []
    for row, column in enumerate(columns):
        tuple_ = whole[row * size : (row + 1) * size]
        parts += tuple_[:nulls], column, tuple_[vector:]
    return b"".join(parts)


def encode_ids(model_name: str, ids: Iterable[tuple[str, int]], received_at: datetime) -> bytes:
    """Encode pairs of id and number as tuples of the table ``embedding_id``."""
    start = struct.pack(">h", 4) + _text(model_name)
    end = struct.pack(">iq", 8, _microseconds(received_at))
    return b"".join(start + _text(id_) + struct.pack(">iq", 8, seq) + end for id_, seq in ids)


def decode(
    blocks: Iterable[bytes | bytearray | memoryview], dimension: int, with_cosine: bool = False
) -> NDArray[np.void]:
    """Decode tuples of (seq bigint, received_at timestamptz, embedding vector).

    Parameters
    ----------
    blocks : iterable of bytes
        Output of ``COPY ... TO STDOUT (FORMAT BINARY)``.
    dimension : int
        Dimension of all vectors.
    with_cosine : bool
        Whether the tuples end with a fourth column, revised_cosine real.

    Returns
    -------
    structured ndarray, shape (n,)
        Fields ``seq`` (int64), ``received_at`` (float64, seconds since the Unix epoch),
        ``embedding`` (float32, shape (dimension,)) and, if asked for, ``revised_cosine`` (float32).

    Raises
    ------
    ValueError
        If the bytes are not such tuples, or a vector has another dimension.
    """
    data = b"".join(blocks)
    layout = _layout(dimension, with_cosine)
    size, rest = divmod(len(data) - len(HEADER) - len(TRAILER), layout.itemsize)
    if rest or not data.startswith(HEADER):
        raise ValueError(f"not a binary COPY of vectors of dimension {dimension}")
    wire = np.frombuffer(data, layout, size, len(HEADER))
    if size and not (wire["dimension"] == dimension).all():
        raise ValueError(f"not all vectors have dimension {dimension}")
    rows = np.empty(size, row_type(dimension, with_cosine))
    rows["seq"] = wire["seq"]
    rows["received_at"] = wire["received_at"] / 1e6 + _POSTGRES_EPOCH_SECONDS
    rows["embedding"] = wire["embedding"]
    if with_cosine:
        rows["revised_cosine"] = wire["cosine"]
    return rows


def decode_sent(vectors: Sequence[bytes], dimension: int) -> NDArray[np.float32]:
    """Decode what ``vector_send`` returns for vectors of one dimension, shape (n, dimension).

    A query for ``real[]`` would make a Python float of each component.
    """
    wire = np.frombuffer(
        b"".join(vectors), np.dtype([("head", ">i2", (2,)), ("components", ">f4", (dimension,))])
    )
    return wire["components"].astype(np.float32)


def row_type(dimension: int, with_cosine: bool = False) -> np.dtype[Any]:
    """Return the type of the rows that :func:`decode` returns."""
    cosine = [("revised_cosine", "f4")] if with_cosine else []
    return np.dtype(
        [("seq", "i8"), ("received_at", "f8"), ("embedding", "f4", (dimension,)), *cosine],
        align=True,
    )


def _layout(dimension: int, with_cosine: bool) -> np.dtype[Any]:
    cosine = [("cosine_length", ">i4"), ("cosine", ">f4")] if with_cosine else []
    return np.dtype(
        [
            ("fields", ">i2"),
            ("seq_length", ">i4"),
            ("seq", ">i8"),
            ("received_at_length", ">i4"),
            ("received_at", ">i8"),
            ("embedding_length", ">i4"),
            ("dimension", ">i2"),
            ("reserved", ">i2"),
            ("embedding", ">f4", (dimension,)),
            *cosine,
        ]
    )


def _tuples(batches: Sequence[Batch], first_seq: int, received_at: datetime) -> NDArray[np.void]:
    """Encode tuples in which the optional columns are null."""
    count, dimension = sum(map(len, batches)), batches[0].dimension
    fixed = struct.pack(">h", 4 + _OPTIONAL) + _text(batches[0].model_name) + struct.pack(">i", 8)
    stamp = struct.pack(">iq", 8, _microseconds(received_at))
    # "V", not "S": numpy would drop trailing zero bytes of "S".
    layout = [
        ("fixed", f"V{len(fixed)}"),
        ("seq", ">i8"),
        ("stamp", f"V{len(stamp)}"),
        ("nulls", f"V{_OPTIONAL * len(_NULL)}"),
        ("length", ">i4"),
        ("dimension", ">i2"),
        ("reserved", ">i2"),
        ("data", ">f4", (dimension,)),
    ]
    tuples = np.empty(count, layout)
    tuples["fixed"], tuples["stamp"] = np.void(fixed), np.void(stamp)
    tuples["nulls"] = np.void(_OPTIONAL * _NULL)
    tuples["seq"] = np.arange(first_seq, first_seq + count)
    tuples["length"], tuples["dimension"], tuples["reserved"] = 4 + 4 * dimension, dimension, 0
    np.concatenate([batch.vectors for batch in batches], out=tuples["data"])
    return tuples


def _offset(tuples: NDArray[np.void], field: str) -> int:
    assert tuples.dtype.fields is not None
    return int(tuples.dtype.fields[field][1])


def _has_optional_columns(batch: Batch) -> bool:
    # A batch with revisions has ids.
    return not (batch.ids is None and batch.metadata is None and batch.timestamps is None)


def _optional_columns(batch: Batch) -> Iterator[bytes]:
    """Encode the optional columns of each vector: time, id, metadata and revised cosine."""
    absent = [None] * len(batch)
    for timestamp, id_, metadata, cosine in zip(
        batch.timestamps or absent,
        batch.ids or absent,
        batch.metadata or absent,
        batch.revised_cosines or absent,
        strict=True,
    ):
        yield b"".join(
            (
                _NULL if timestamp is None else _timestamp(timestamp),
                _NULL if id_ is None else _text(id_),
                # jsonb_recv reads a version byte, then the text.
                _NULL if metadata is None else _LENGTH.pack(len(metadata) + 1) + b"\1" + metadata,
                _NULL if cosine is None else struct.pack(">if", 4, cosine),
            )
        )


def _timestamp(seconds: float) -> bytes:
    return struct.pack(">iq", 8, round((seconds - _POSTGRES_EPOCH_SECONDS) * 1e6))


def _text(value: str) -> bytes:
    data = value.encode()
    return _LENGTH.pack(len(data)) + data


def _microseconds(moment: datetime) -> int:
    return (moment - _POSTGRES_EPOCH) // timedelta(microseconds=1)
