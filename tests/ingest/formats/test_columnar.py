"""Arrow streams and Parquet files: their columns, and what must not come out of them."""

from __future__ import annotations

import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from ingest.runtime.errors import BodyTooLarge, UnsupportedMediaType
from ingest.runtime.settings.settings import IngestSettings
from tests.ingest.formats.bodies import (
    NOW,
    ROWS,
    arrow_stream,
    parquet_file,
    read,
    refusal,
    table_of,
)

STREAM, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
WRITERS: dict[str, Callable[..., bytes]] = {STREAM: arrow_stream, PARQUET: parquet_file}
MOMENT = datetime(2024, 1, 1, tzinfo=UTC)

both = pytest.mark.parametrize("content_type", WRITERS)


@both
def test_ids_times_model_and_metadata_come_by_column(content_type: str) -> None:
    table = table_of(
        ROWS,
        id=pa.array([7, None]),
        timestamp=pa.array([MOMENT, None], pa.timestamp("us", "UTC")),
        model_name=pa.array(["m", "m"]).dictionary_encode(),
        text=["a", "b"],
        tenant=pa.array(["x", None]),
        metadata=[{"score": 0.5}, {"score": float("nan")}],
    )
    batch = read(WRITERS[content_type](table), content_type)
    assert batch.model_name == "m"
    assert batch.vectors.tolist() == ROWS.tolist()
    assert batch.ids == ["7", None]
    assert batch.timestamps == [MOMENT.timestamp(), None]
    metadata = [json.loads(item or b"") for item in batch.metadata or ()]
    assert metadata == [{"score": 0.5, "text": "a", "tenant": "x"}, {"score": None, "text": "b"}]


@both
@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint8"])
def test_vectors_may_be_of_the_types_that_the_form_has(content_type: str, dtype: str) -> None:
    rows = np.array([[1, 2], [3, 100]], dtype)
    batch = read(WRITERS[content_type](table_of(rows)), content_type, x_model_name="m")
    assert batch.vectors.tolist() == [[1, 2], [3, 100]]


@both
def test_vectors_may_be_lists_bytes_or_a_column_for_each_component(content_type: str) -> None:
    for table in (
        pa.table({"vector": ROWS.tolist()}),
        pa.table({"vector": [row.tobytes() for row in ROWS]}),
        pa.table({f"dim_{number}": ROWS[:, number] for number in range(3)}),
    ):
        batch = read(WRITERS[content_type](table), content_type, x_model_name="m")
        assert batch.vectors.tolist() == ROWS.tolist()


def test_a_stream_may_have_many_record_batches() -> None:
    table = pa.concat_tables([table_of(ROWS, id=["a", "b"]), table_of(ROWS, id=["c", "d"])])
    batch = read(arrow_stream(table), STREAM, x_model_name="m")
    assert batch.ids == ["a", "b", "c", "d"]
    assert batch.vectors.shape == (4, 3)


WRONG: dict[str, tuple[pa.Table, str]] = {
    "several models": (table_of(ROWS, model_name=["m", "n"]), "rows of several models, 'm', 'n'"),
    "an id twice": (table_of(ROWS, id=["a", "a"]), "/ids/1: 'a' comes twice in this batch"),
    "a list as id": (table_of(ROWS, id=[["a"], ["b"]]), "/ids/0: has ['a'] as id; allowed are"),
    "a vector too short": (
        pa.table({"embedding": [[1.0, 2.0], [1.0]]}),
        "/embeddings/1: has dimension 1, those before it 2",
    ),
    "no vector": (pa.table({"embedding": [[1.0], None]}), "/embeddings/1: has no vector"),
    "milliseconds": (
        table_of(ROWS, timestamp=[NOW, NOW * 1e3]),
        "/timestamp/1: 1750000000000.0 is out of range; it looks like milliseconds",
    ),
    "a time ahead": (table_of(ROWS, timestamp=[NOW, NOW + 3e5]), "days ahead of this server's"),
    "a time without a zone": (
        table_of(ROWS, timestamp=["2024-01-01T00:00:00", None]),
        "names no time zone; an offset or Z is needed",
    ),
    "metadata too large": (table_of(ROWS, a=["x" * 200, ""]), "/metadata/0: takes 208 bytes"),
    "two columns of vectors": (
        pa.table({"a": ROWS.tolist(), "b": ROWS.tolist()}),
        'has 2 columns of vectors: a, b; name the column of vectors "embedding"',
    ),
    "no column of vectors": (
        pa.table({"a": ["x", "y"]}),
        "has no column of vectors; its columns are 'a'; name the column of vectors",
    ),
}


@both
@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_named_without_the_options_of_commands(
    content_type: str, mistake: str
) -> None:
    table, reason = WRONG[mistake]
    named = {} if mistake == "several models" else {"x_model_name": "m"}
    told = refusal(WRITERS[content_type](table), content_type=content_type, **named).detail
    assert reason in told
    assert "--" not in told


def test_the_model_of_the_request_counts_more_than_the_column() -> None:
    table = table_of(ROWS, model_name=["m", "n"])
    assert read(arrow_stream(table), STREAM, x_model_name="x").model_name == "x"


def test_compressed_buffers_of_a_stream_are_refused_unread() -> None:
    zeros = np.zeros((1_000, 1_000), np.float32)
    for codec in ("lz4", "zstd"):
        options = pa.ipc.IpcWriteOptions(compression=codec)
        bomb = arrow_stream(table_of(zeros), options=options)
        before = pa.total_allocated_bytes()
        refused = refusal(bomb, content_type=STREAM, x_model_name="m")
        assert type(refused) is UnsupportedMediaType
        assert "use Content-Encoding" in refused.detail
        assert pa.total_allocated_bytes() <= before


def test_a_parquet_file_is_refused_by_what_would_come_out() -> None:
    limits = IngestSettings(max_body_bytes=100_000)
    zeros = np.zeros((1_000, 100), np.float32)
    bomb = parquet_file(table_of(zeros))
    assert len(bomb) < 10_000
    refused = refusal(bomb, content_type=PARQUET, x_model_name="m", limits=limits)
    assert type(refused) is BodyTooLarge
    assert "decompressed, exceeds 100000 bytes" in refused.detail


@both
def test_a_long_text_that_every_row_has_is_not_copied_for_each(content_type: str) -> None:
    limits = IngestSettings(max_body_bytes=1_000_000)
    rows = np.ones((1_000, 2), np.float32)
    text = pa.array(["x" * 100_000] * 1_000).dictionary_encode()
    body = WRITERS[content_type](table_of(rows, text=text))
    tracemalloc.start()
    refused = refusal(body, content_type=content_type, x_model_name="m", limits=limits)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "column 'text', each row with its value, exceeds 1000000 bytes" in refused.detail
    assert peak < 10_000_000


@both
def test_more_columns_than_vectors_and_metadata_need_are_refused(content_type: str) -> None:
    table = pa.table({f"c{n}": pa.array([1.0], pa.float32()) for n in range(2_000)})
    limits = IngestSettings(max_dimension=1_000)
    error = refusal(WRITERS[content_type](table), content_type=content_type, limits=limits)
    assert isinstance(error, BodyTooLarge)
    assert "has 2000 columns; at most 1256 are allowed (ingest.max_dimension" in str(error)


def test_four_times_the_columns_take_about_four_times_as_long() -> None:
    def seconds(columns: int) -> float:
        table = pa.table({f"dim_{n}": np.ones(1, np.float32) for n in range(columns)})
        body, spent = arrow_stream(table), []
        for _ in range(3):
            start = time.thread_time()
            batch = read(body, STREAM, limits=IngestSettings(), x_model_name="m")
            spent.append(time.thread_time() - start)
            assert batch.dimension == columns
        return min(spent)

    # Names that are looked up one by one took 15 times as long, 3 seconds, in the event loop.
    assert seconds(4_000) < 8 * seconds(1_000)


def test_damaged_offsets_are_refused() -> None:
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 4], pa.int32()), pa.array([1.0, 2, 3, 4]))
    body = arrow_stream(pa.table({"embedding": lists}))
    offsets = np.array([0, 2, 4], "<i4").tobytes()
    assert offsets in body
    damaged = body.replace(offsets, np.array([0, 2, 2**30], "<i4").tobytes())
    assert "the body is damaged" in refusal(damaged, content_type=STREAM, x_model_name="m").detail


@both
def test_without_the_library_the_extra_is_named(
    content_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = WRITERS[content_type](table_of(ROWS))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "ingest.files.arrow", raising=False)
    refused = refusal(body, content_type=content_type, x_model_name="m")
    assert type(refused) is UnsupportedMediaType
    assert "needs pyarrow at the server: pip install 'embedding-drift-exporter[files]'" in str(
        refused
    )
