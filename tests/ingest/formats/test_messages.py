"""Messages of Arrow: what their metadata tell."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from ingest.formats import messages
from tests.ingest.formats.bodies import ROWS, arrow_stream, table_of


def metadata_of(table: pa.Table, **options: object) -> Iterator[memoryview]:
    body = arrow_stream(table, options=pa.ipc.IpcWriteOptions(**options))
    for message in pa.ipc.MessageReader.open_stream(pa.BufferReader(body)):
        yield memoryview(message.metadata)


@pytest.mark.parametrize("codec", [None, "lz4", "zstd"])
@pytest.mark.parametrize("is_dictionary", [False, True])
def test_compressed_buffers_are_seen(codec: str | None, is_dictionary: bool) -> None:
    text = pa.array(["a" * 1_000] * 2)
    table = table_of(ROWS, text=text.dictionary_encode() if is_dictionary else text)
    schema, *others = map(messages.is_compressed, metadata_of(table, compression=codec))
    assert not schema
    assert others == [codec is not None] * (2 if is_dictionary else 1)


def test_values_are_those_of_all_columns_but_the_components_of_vectors() -> None:
    table = table_of(np.ones((100, 8), np.float32), id=range(100), s=[{"a": 1, "b": 2}] * 100)
    _, rows = map(messages.values, metadata_of(table))
    # Lists and components, id, s, a and b.
    assert rows == 10 + 100 * 6


def test_a_negative_number_of_rows_does_not_lower_the_count() -> None:
    _, rows = metadata_of(table_of(np.ones((100, 8), np.float32)))
    length = struct.pack("<q", 100)
    assert length in rows.tobytes()
    damaged = rows.tobytes().replace(length, struct.pack("<q", -100))
    assert messages.values(memoryview(damaged)) == 10


def test_a_schema_counts_by_its_columns() -> None:
    few, many = (
        next(map(messages.values, metadata_of(pa.table({f"c{n}": [1.0] for n in range(count)}))))
        for count in (10, 1_000)
    )
    assert few < 100 < 1_000 < many


@pytest.mark.parametrize(
    "texts",
    [pa.array(["a"] * 2).dictionary_encode(), pa.array(["a" * 40] * 2, pa.string_view())],
    ids=["dictionary", "views"],
)
def test_values_that_rows_may_share_are_many(texts: pa.Array) -> None:
    assert sum(map(messages.values, metadata_of(table_of(ROWS, text=texts)))) > 1_000_000
