"""Columns of Arrow streams and Parquet files, and what must not come out of streams."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from ingest.formats.format import Place
from ingest.formats.registry import FORMATS
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


HALF = [row.tobytes() for row in np.random.default_rng(0).normal(size=(3, 16)).astype("<f2")]
WHOLE = [row.tobytes() for row in np.random.default_rng(0).normal(size=(3, 8)).astype("<f4")]


@both
@pytest.mark.parametrize("wrong", [0, 2])
@pytest.mark.parametrize("is_text", [False, True])
def test_bytes_of_another_type_in_the_first_or_last_row_are_refused(
    content_type: str, wrong: int, is_text: bool
) -> None:
    cells = [HALF[0] if index == wrong else cell for index, cell in enumerate(WHOLE)]
    column = [base64.b64encode(cell).decode() for cell in cells] if is_text else cells
    body = WRITERS[content_type](pa.table({"embedding": column}))
    [problem] = refusal(body, content_type=content_type, x_model_name="m").problems
    assert problem.pointer == f"/embeddings/{wrong}"
    assert problem.reason.endswith(
        " as float32; it looks like float16: send float32 or lists of numbers, or set dtype to"
        " float32 if it is float32"
    )


@both
def test_bytes_in_columns_are_float32_if_that_is_said_and_cannot_be_another_type(
    content_type: str,
) -> None:
    body = WRITERS[content_type](pa.table({"embedding": HALF}))
    assert read(body, content_type, x_model_name="m", x_dtype="float32").vectors.shape == (3, 8)
    told = refusal(body, content_type=content_type, query={"dtype": "float16"}, x_model_name="m")
    assert told.problems[0].reason.startswith("is of bytes, which are float32 in columns, ")
    told = refusal(body, content_type=content_type, x_model_name="m", x_dtype="float8")
    assert told.detail.startswith("X-Dtype: float8 is not allowed; allowed are float32,")
    lists = WRITERS[content_type](table_of(ROWS.astype(np.float16)))
    batch = read(lists, content_type, x_model_name="m", x_dtype="float16")
    assert batch.vectors.tolist() == ROWS.tolist()


@both
def test_lists_of_any_magnitudes_are_not_taken_for_bytes(content_type: str) -> None:
    odd = [np.frombuffer(cell, "<f4").tolist() for cell in HALF]
    texts = list(map(str, odd))
    for column in (odd, texts):
        body = WRITERS[content_type](pa.table({"embedding": column}))
        assert len(read(body, content_type, x_model_name="m")) == 3


def test_a_stream_may_have_many_record_batches() -> None:
    table = pa.concat_tables([table_of(ROWS, id=["a", "b"]), table_of(ROWS, id=["c", "d"])])
    batch = read(arrow_stream(table), STREAM, x_model_name="m")
    assert batch.ids == ["a", "b", "c", "d"]
    assert batch.vectors.shape == (4, 3)


WRONG: dict[str, tuple[pa.Table, str]] = {
    "several models": (table_of(ROWS, model_name=["m", "n"]), "rows of several models, 'm', 'n'"),
    "an id twice": (table_of(ROWS, id=["a", "a"]), "/ids/1: 'a' comes twice in this batch"),
    "a truth value as id": (table_of(ROWS, id=[True, False]), "/ids/0: has True as id; allowed"),
    "an inexact id": (
        table_of(ROWS, id=[1.0, 2.0**53]),
        "/ids/1: has 9007199254740992.0 as id, a float that cannot tell it from others",
    ),
    "an inexact id of float32": (
        table_of(ROWS, id=pa.array([1.0, 2.0**24], pa.float32())),
        "/ids/1: has 16777216.0 as id, a float that cannot tell it from others",
    ),
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


def test_a_long_text_that_every_row_has_is_not_copied_for_each() -> None:
    limits = IngestSettings(max_body_bytes=1_000_000)
    rows = np.ones((1_000, 2), np.float32)
    text = pa.array(["x" * 100_000] * 1_000).dictionary_encode()
    body = arrow_stream(table_of(rows, text=text))
    tracemalloc.start()
    refused = refusal(body, content_type=STREAM, x_model_name="m", limits=limits)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "column 'text', each row with its value, exceeds 1000000 bytes" in refused.detail
    assert peak < 10_000_000


def test_texts_that_rows_share_count_for_all_columns_and_batches() -> None:
    limits = IngestSettings(max_body_bytes=1_000_000)
    rows = np.ones((50, 2), np.float32)
    text = pa.array(["x" * 10_000] * 50).dictionary_encode()
    one = table_of(rows, a=text)
    assert len(read(arrow_stream(one), STREAM, limits=limits, x_model_name="m")) == 50
    for table in (table_of(rows, a=text, b=text, c=text), pa.concat_tables([one] * 3)):
        refused = refusal(arrow_stream(table), content_type=STREAM, x_model_name="m", limits=limits)
        assert "each row with its value, exceeds 1000000 bytes" in refused.detail
        assert isinstance(refused, BodyTooLarge)


def test_one_long_text_among_short_ones_counts_once() -> None:
    text = pa.array(["x" * 10_000, *["a"] * 9_999]).dictionary_encode()
    body = arrow_stream(table_of(np.ones((10_000, 2), np.float32), text=text))
    limits = IngestSettings(max_body_bytes=1_000_000)
    assert len(read(body, STREAM, limits=limits, x_model_name="m")) == 10_000


@both
def test_more_columns_than_vectors_and_metadata_need_are_refused(content_type: str) -> None:
    table = pa.table({f"c{n}": pa.array([1.0], pa.float32()) for n in range(2_000)})
    limits = IngestSettings(max_dimension=1_000)
    error = refusal(WRITERS[content_type](table), content_type=content_type, limits=limits)
    assert isinstance(error, BodyTooLarge)
    assert "has 2000 columns; allowed are at most 1000 of components (ingest.max_dim" in str(error)


@both
@pytest.mark.parametrize("is_nested", [False, True])
def test_more_columns_than_metadata_needs_are_refused(content_type: str, is_nested: bool) -> None:
    texts = {f"c{n}": pa.array(["a", "b"]) for n in range(300)}
    columns = {"c": pa.StructArray.from_arrays(list(texts.values()), list(texts))}
    body = WRITERS[content_type](table_of(ROWS, **(columns if is_nested else texts)))
    error = refusal(body, content_type=content_type)
    assert isinstance(error, BodyTooLarge)
    assert "and 256 others. Each field of an object counts as one" in str(error)


def test_four_times_the_columns_take_about_four_times_as_long() -> None:
    def body(columns: int) -> bytes:
        return arrow_stream(pa.table({f"dim_{n}": np.ones(1, np.float32) for n in range(columns)}))

    bodies = {columns: body(columns) for columns in (1_000, 4_000)}
    spent: dict[int, list[float]] = {columns: [] for columns in bodies}
    for _ in range(5):
        # In turn: what slows the machine down slows both.
        for columns, sent in bodies.items():
            start = time.thread_time()
            batch = read(sent, STREAM, limits=IngestSettings(), x_model_name="m")
            spent[columns].append(time.thread_time() - start)
            assert batch.dimension == columns
    # Names that are looked up one by one took 15 times as long, 3 seconds, in the event loop.
    assert min(spent[4_000]) < 8 * min(spent[1_000])


def test_what_comes_after_the_end_of_a_stream_is_refused() -> None:
    stream = arrow_stream(table_of(ROWS))
    for rest in (stream, b"junk"):
        refused = refusal(stream + rest, content_type=STREAM, x_model_name="m")
        assert f"has {len(rest)} bytes beyond the end of its stream; send each" in refused.detail
    without_end = stream.removesuffix(b"\xff\xff\xff\xff\0\0\0\0")
    assert without_end != stream
    assert len(read(without_end, STREAM, x_model_name="m")) == len(ROWS)


def test_texts_may_be_views_as_polars_writes_them() -> None:
    views = pa.array(["a" * 40, None], pa.string_view())
    batch = read(arrow_stream(table_of(ROWS, id=views, text=views)), STREAM, x_model_name="m")
    assert batch.ids == ["a" * 40, None]
    assert batch.metadata == [b'{"text":"%s"}' % (b"a" * 40), None]


def test_views_of_one_long_text_are_refused_unread() -> None:
    text, rows = b"x" * 1_000_000, 5
    view = struct.pack("<i4sii", len(text), text[:4], 0, 0)
    buffers = [None, pa.py_buffer(rows * view), pa.py_buffer(text)]
    views = pa.Array.from_buffers(pa.string_view(), rows, buffers)
    body = arrow_stream(table_of(np.ones((rows, 2), np.float32), text=views))
    limits = IngestSettings(max_body_bytes=2_000_000)
    tracemalloc.start()
    refused = refusal(body, content_type=STREAM, x_model_name="m", limits=limits)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "column 'text', each row with its value, exceeds 2000000 bytes" in refused.detail
    assert peak < len(text)


NOTHING = {
    "null": pa.nulls(10**9),
    "objects without fields": pa.Array.from_buffers(pa.struct([]), 10**9, [None], children=[]),
    "empty lists": pa.Array.from_buffers(
        pa.list_(pa.float32(), 0), 10**9, [None], children=[pa.array([], pa.float32())]
    ),
}


@pytest.mark.parametrize("what", NOTHING)
def test_very_many_values_that_take_no_bytes_are_refused(what: str) -> None:
    lists = pa.LargeListArray.from_arrays(pa.array([0, 0, 10**9], pa.int64()), NOTHING[what])
    body = arrow_stream(table_of(ROWS, x=lists))
    assert len(body) < 10_000
    refused = refusal(body, content_type=STREAM, x_model_name="m")
    assert "column 'x', each row with its value, exceeds" in refused.detail


def in_one_row(items: pa.Array, rows: int = 2) -> pa.Array:
    """Return lists, of which the last one holds everything."""
    return pa.LargeListArray.from_arrays(pa.array([0] * rows + [len(items)], pa.int64()), items)


def objects_in_objects(rows: int, depth: int) -> pa.Array:
    found = pa.nulls(rows)
    for _ in range(depth):
        found = pa.StructArray.from_arrays([found], ["a"])
    return found


TINY = pa.array(np.full(300_000, -100, np.int8))
LARGE: dict[str, dict[str, pa.Array]] = {
    "objects of nulls": {
        "x": in_one_row(
            pa.StructArray.from_arrays([pa.nulls(1_000)] * 200, [f"f{n}" for n in range(200)])
        )
    },
    "objects in objects": {"x": objects_in_objects(100, 50)},
    "empty lists": {"x": in_one_row(pa.array([[]] * 20_000, pa.list_(pa.null())))},
    "nulls of two columns": {"a": in_one_row(pa.nulls(90_000)), "x": in_one_row(pa.nulls(90_000))},
    "a list that rows share": {
        "x": pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int8()), [[None] * 10_000])
    },
    "short numbers in lists": {"x": in_one_row(in_one_row(TINY))},
    "short numbers as text": {"text": in_one_row(TINY)},
    "vectors of several lengths": {"x": in_one_row(TINY)},
    "a vector with a null": {"x": in_one_row(pa.concat_arrays([TINY, pa.nulls(1, pa.int8())]), 1)},
}


@pytest.mark.parametrize("what", LARGE)
def test_a_short_body_of_values_that_take_much_as_objects_is_refused(what: str) -> None:
    columns = LARGE[what]
    rows = np.ones((len(next(iter(columns.values()))), 2), np.float32)
    body = arrow_stream(table_of(rows, **columns))
    assert len(body) < 400_000
    limits = IngestSettings(max_body_bytes=1_000_000)
    refused = refusal(body, content_type=STREAM, x_model_name="m", limits=limits)
    assert isinstance(refused, BodyTooLarge)
    assert f"column '{list(columns)[-1]}" in refused.detail
    assert "each row with its value, exceeds 1000000 bytes" in refused.detail


def test_short_numbers_of_vectors_may_take_all_of_a_body() -> None:
    limits = IngestSettings(max_body_bytes=1_000_000)
    for kind in (pa.list_(pa.int8()), pa.list_(pa.int8(), 900)):
        table = pa.table({"embedding": pa.array([[1] * 900] * 1_000, kind)})
        batch = read(arrow_stream(table), STREAM, x_model_name="m", limits=limits)
        assert batch.vectors.shape == (1_000, 900)


@both
def test_more_columns_of_metadata_than_allowed_are_refused_also_if_they_are_numbers(
    content_type: str,
) -> None:
    body = WRITERS[content_type](table_of(ROWS, **{f"c{n}": [1, 2] for n in range(257)}))
    refused = refusal(body, content_type=content_type, x_model_name="m", limits=IngestSettings())
    assert isinstance(refused, BodyTooLarge)
    assert "has 257 columns of metadata; allowed are at most 256" in refused.detail


def test_lists_that_rows_may_share_are_refused() -> None:
    table = pa.table({"embedding": pa.array(ROWS.tolist(), pa.list_view(pa.float32()))})
    refused = refusal(arrow_stream(table), content_type=STREAM, x_model_name="m")
    assert "column 'embedding' is of type list_view<item: float>, which is not" in refused.detail


def test_a_field_may_have_a_name_that_is_like_a_type() -> None:
    table = table_of(ROWS, product=[{"review": "good", "views": 1}] * 2)
    batch = read(arrow_stream(table), STREAM, x_model_name="m")
    assert batch.metadata == [b'{"product":{"review":"good","views":1}}'] * 2


@both
def test_a_map_of_texts_is_an_object(content_type: str) -> None:
    tags = pa.array([[("a", 1), ("b", 2)], None], pa.map_(pa.string(), pa.int64()))
    notes = pa.array([[("x", "y")], [("x", "z")]], pa.map_(pa.string(), pa.string()))
    body = WRITERS[content_type](table_of(ROWS, tags=tags, metadata=notes))
    batch = read(body, content_type, x_model_name="m")
    metadata = [json.loads(item or b"") for item in batch.metadata or ()]
    assert metadata == [{"x": "y", "tags": {"a": 1, "b": 2}}, {"x": "z"}]


def test_damaged_offsets_are_refused() -> None:
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 4], pa.int32()), pa.array([1.0, 2, 3, 4]))
    body = arrow_stream(pa.table({"embedding": lists}))
    offsets = np.array([0, 2, 4], "<i4").tobytes()
    assert offsets in body
    damaged = body.replace(offsets, np.array([0, 2, 2**30], "<i4").tobytes())
    assert "the body is damaged" in refusal(damaged, content_type=STREAM, x_model_name="m").detail


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    body = arrow_stream(table_of(ROWS))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "ingest.files.arrow", raising=False)
    refused = refusal(body, content_type=STREAM, x_model_name="m")
    assert type(refused) is UnsupportedMediaType
    assert "needs pyarrow at the server: pip install 'embedding-drift-exporter[files]'" in str(
        refused
    )


LIGHT = {
    "a batch": table_of(np.ones((100, 768), np.float32), id=range(100), text=["a"] * 100),
    "vectors": table_of(np.ones((300, 768), np.float32)),
    "vectors in lists of any length": pa.table({"embedding": ROWS.tolist()}),
    "objects": table_of(ROWS, s=[{"a": {"b": 1}}] * 2),
}
HEAVY = {
    "times as texts": table_of(np.ones((5_000, 2), np.float32), timestamp=["2024"] * 5_000),
    "columns without values": table_of(
        np.ones((100, 2), np.float32), **{f"c{n}": pa.nulls(100) for n in range(250)}
    ),
    "a column for each component": pa.table({f"dim_{n}": [1.0] for n in range(1_000)}),
    "many short batches": pa.Table.from_batches(table_of(ROWS).to_batches() * 200),
    "a list of nulls": table_of(ROWS, x=in_one_row(pa.nulls(4_000_000))),
    "a list of times": table_of(
        ROWS, x=in_one_row(pa.array(np.zeros(120_000, np.int64), pa.timestamp("us")))
    ),
    "a list in an object": table_of(
        ROWS, x=pa.StructArray.from_arrays([in_one_row(pa.nulls(4_000_000))], ["a"])
    ),
    "a map": table_of(ROWS, x=pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64()))),
    "a list of numbers as text": table_of(ROWS, text=in_one_row(TINY)),
    "a long one": table_of(np.ones((400, 768), np.float32)),
}


@pytest.mark.parametrize("what", [*LIGHT, *HEAVY])
def test_a_short_stream_of_few_values_is_read_in_the_event_loop_and_others_are_not(
    what: str,
) -> None:
    read(arrow_stream(table_of(ROWS)), STREAM, x_model_name="m")
    body = arrow_stream((LIGHT | HEAVY)[what])
    assert FORMATS[STREAM].place(body) is (Place.LOOP if what in LIGHT else Place.THREAD)
    assert (len(body) < 1024 * 1024) == (what != "a long one")


def test_a_damaged_stream_is_not_read_in_the_event_loop() -> None:
    assert FORMATS[STREAM].place(b"damaged") is Place.THREAD


def test_the_event_loop_does_not_wait_for_the_import_of_the_library() -> None:
    program = """
from ingest.formats.registry import FORMATS
from tests.ingest.formats.test_columnar import ROWS, STREAM, arrow_stream, read, table_of
body = arrow_stream(table_of(ROWS))
print(FORMATS[STREAM].place(body).name)
read(body, STREAM, x_model_name="m")
print(FORMATS[STREAM].place(body).name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["THREAD", "LOOP"], done.stderr
