"""Read Parquet and Arrow files, whatever wrote them."""

from __future__ import annotations

import json
import random
import sys
import tracemalloc
from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Literal
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from ingest.files.arrow import ArrowColumn, Parquet
from ingest.files.table import CHUNK, Kind, Times
from ingest.runtime.errors import PayloadError
from tests.ingest.files.vectors import IDS, VECTORS, Whole, whole

HALVES = [list(map(np.float16, v)) for v in VECTORS]
LISTS = VECTORS.tolist()
DECIMALS = [[Decimal(str(component)) for component in vector] for vector in LISTS]


def read(folder: Path, columns: dict[str, object], **options: str) -> Whole:
    path = folder / "v.parquet"
    parquet.write_table(pa.table(columns), path)
    return whole(path, **options)


FORMS: dict[str, object] = {
    "list": pa.array(LISTS, pa.list_(pa.float64())),
    "fixed-size list": pa.array(LISTS, pa.list_(pa.float32(), 2)),
    "large list": pa.array(HALVES, pa.large_list(pa.float16())),
    "fixed-size list, sliced": pa.array([[9, 9], *LISTS, [8, 8]], pa.list_(pa.float32(), 2))[1:4],
    "decimals, as DuckDB makes them": pa.array(DECIMALS, pa.list_(pa.decimal128(4, 1))),
    "bytes": pa.array([v.tobytes() for v in VECTORS]),
    "fixed-size bytes": pa.array([v.tobytes() for v in VECTORS], pa.binary(8)),
    "JSON": pa.array([json.dumps(v) for v in LISTS]),
    "large JSON": pa.array([json.dumps(v) for v in LISTS], pa.large_string()),
    "dictionary": pa.array([json.dumps(v) for v in LISTS]).dictionary_encode(),
    "array of NumPy": pa.array([str(v) for v in VECTORS]),
    "lists of one list": pa.array([[v] for v in LISTS]),
    "struct": pa.array([{"values": v, "n": 1} for v in LISTS]),
    "structs in structs": pa.array([{"a": {"values": v}} for v in LISTS]),
    "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(VECTORS),
}


@pytest.mark.parametrize("form", FORMS)
def test_vectors_of_any_form_are_read(form: str, tmp_path: Path) -> None:
    rows = read(tmp_path, {"id": IDS, "found": FORMS[form], "words": [["a"]] * 3})
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.ids == IDS
    beside = {"found.n": 1} if form == "struct" else {}
    assert rows.metadata == [{**beside, "words": ["a"]}] * 3


def test_a_dropped_field_of_a_struct_is_in_no_metadata(tmp_path: Path) -> None:
    metadata = {"email": "x", "timestamp": "yesterday", "lang": "en"}
    parquet.write_table(pa.table({"v": LISTS[:1], "metadata": [metadata]}), tmp_path / "v.pq")
    rows = whole(tmp_path / "v.pq", drop=("metadata.email", "metadata.timestamp"))
    assert rows.metadata == [{"lang": "en"}]


def test_a_dot_in_a_name_makes_no_struct(tmp_path: Path) -> None:
    columns = {"embedding": LISTS[:1], "embedding.model": ["ada"], "text": ["a"], "text.n": [7]}
    rows = read(tmp_path, columns)
    assert rows.metadata == [{"text": "a", "embedding.model": "ada", "text.n": 7}]
    # A column comes before a field of the same name.
    rows = read(tmp_path, {"v": LISTS[:1], "a": [{"b": "field"}], "a.b": ["column"]}, text="a.b")
    assert rows.metadata == [{"text": "column", "a": {"b": "field"}}]
    rows = read(tmp_path, {"a": [{"v": LISTS[0], "b.c": 1}]})
    assert rows.metadata == [{"a.b.c": 1}]


def test_a_column_of_nulls_has_no_others_read_to_their_end() -> None:
    texts = [random.Random(row).randbytes(50).hex() for row in range(20 * CHUNK)]
    nothing = pa.nulls(len(texts), pa.string())
    held = BytesIO()
    parquet.write_table(pa.table({"none": nothing, "text": texts}), held, row_group_size=CHUNK)

    class Counted(BytesIO):
        count = 0

        def read(self, size: int | None = -1) -> bytes:
            found = super().read(size)
            self.count += len(found)
            return found

    file = Counted(held.getvalue())
    assert Parquet(file).kinds == {"none": Kind.OTHER, "text": Kind.OTHER}
    assert 0 < file.count < len(held.getvalue()) / 5


def test_integers_of_one_byte_are_vectors(tmp_path: Path) -> None:
    rows = read(tmp_path, {"v": pa.array([[1, -128], [3, 127]], pa.list_(pa.int8()))})
    assert rows.vectors.tolist() == [[1, -128], [3, 127]]


@pytest.mark.parametrize("kind", [pa.int8(), pa.float16(), pa.float64()], ids=str)
def test_lists_of_several_lengths_make_no_object_of_each_number(kind: pa.DataType) -> None:
    numbers = pa.array(np.arange(100_000, dtype=np.int64) % 3, pa.int64()).cast(kind)
    column = ArrowColumn(pa.ListArray.from_arrays(pa.array([0, 2, 100_000], pa.int32()), numbers))
    tracemalloc.start()
    try:
        one, other = column.vectors()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.array_equal(one, [0, 1])
    assert np.array_equal(other, np.arange(2, 100_000) % 3)
    assert peak < 6 * 100_000  # a float32 takes four bytes, and a reference to an object eight


@pytest.mark.parametrize("names", [("0", "1"), ("dim_0", "dim_1"), ("x.1", "x.2"), ("e00", "e01")])
def test_columns_of_components_are_ordered_by_their_numbers(
    names: tuple[str, str], tmp_path: Path
) -> None:
    first, second = names
    columns = {second: VECTORS[:, 1], "label": [7, 7, 7], first: VECTORS[:, 0], "id": [1, 2, 3]}
    rows = read(tmp_path, columns)
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.ids == ["1", "2", "3"]
    assert rows.metadata == [{"label": 7}] * 3


def test_a_null_component_in_its_own_column_is_a_bad_row(tmp_path: Path) -> None:
    rows = read(tmp_path, {"d0": [1.0, None], "d1": [1.0, 2.0]})
    assert rows.faults == [
        "row 1 has a vector whose component 0 is missing, NaN, infinite or too large for float32"
    ]


def test_bad_rows_are_reported_and_the_others_read(tmp_path: Path) -> None:
    nan = float("nan")
    rows = read(tmp_path, {"v": [[1.0, 2.0], None, [1.0], [1.0, nan], [None, 1.0], [], [3.0, 4.0]]})
    assert rows.vectors.tolist() == [[1, 2], [3, 4]]
    places, reasons = zip(*(fault.split(" has ", 1) for fault in rows.faults), strict=True)
    assert list(places) == [f"row {n}" for n in range(1, 6)]
    assert [reason[:40] for reason in reasons] == [
        "no vector",
        "a vector of 1 components, those of other",
        "a vector whose component 1 is missing, N",
        "a vector whose component 0 is null; comp",
        "an empty vector",
    ]


def test_null_ids_and_metadata_are_left_out(tmp_path: Path) -> None:
    columns = {"id": ["a", None, None], "e": LISTS, "text": ["one", None, None], "n": [1, 2, None]}
    rows = read(tmp_path, columns)
    assert rows.ids == ["a", None, None]
    assert rows.metadata == [{"text": "one", "n": 1}, {"n": 2}, {}]


def test_an_id_that_pandas_made_a_float_is_an_integer_again(tmp_path: Path) -> None:
    assert read(tmp_path, {"id": [1.0, None, 3.0], "e": LISTS}).ids == ["1", None, "3"]


def test_the_index_of_pandas_is_left_out_or_is_the_id_that_it_is_called(tmp_path: Path) -> None:
    frame = pd.DataFrame({"v": LISTS, "lang": "en"})
    frame[::2].to_parquet(tmp_path / "gaps.parquet")
    assert whole(tmp_path / "gaps.parquet").metadata == [{"lang": "en"}] * 2
    frame.index = pd.Index(IDS, name="id")
    frame.to_parquet(tmp_path / "named.parquet")
    assert whole(tmp_path / "named.parquet").ids == IDS


def test_ids_in_bytes_stay_different_and_can_be_shown(tmp_path: Path) -> None:
    uuids = [UUID(int=n) for n in (7, 8, 255)]
    data = [each.bytes for each in uuids]
    for kind in (pa.binary(), pa.binary(16)):
        rows = read(tmp_path, {"id": pa.array(data, kind), "e": LISTS})
        assert rows.ids == [each.hex for each in uuids]
    assert read(tmp_path, {"id": pa.array(data, pa.uuid()), "e": LISTS}).ids == list(
        map(str, uuids)
    )
    assert read(tmp_path, {"id": [b"a", b"\xc3\xa4", b"\xe4"], "e": LISTS}).ids == ["a", "ä", "e4"]
    texts = ["a\u00a0b", "\u6771\u3000\u4eac", "\ufffd"]
    assert read(tmp_path, {"id": [each.encode() for each in texts], "e": LISTS}).ids == texts
    controls = [b"a\0", b"a\n", b"\xc2\x85"]
    assert read(tmp_path, {"id": controls, "e": LISTS}).ids == ["6100", "610a", "c285"]


STAMPS: dict[str, object] = {
    "s": pa.array([1_700_000_000] * 3, pa.timestamp("s")),
    "ns with a zone": pa.array([1_700_000_000 * 10**9 + 1] * 3, pa.timestamp("ns", "Asia/Tokyo")),
    "numbers": pa.array([1_700_000_000.0] * 3),
    "texts": pa.array(["2023-11-14T22:13:20Z"] * 3),
    "texts of PostgreSQL": pa.array(["2023-11-14 23:13:20.000+01"] * 3),
    "objects": pa.array([datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)] * 3),
}


@pytest.mark.parametrize("form", STAMPS)
def test_times_of_any_form_are_read(form: str, tmp_path: Path) -> None:
    rows = read(tmp_path, {"made": STAMPS[form], "e": LISTS}, time="made")
    assert rows.times == pytest.approx([1_700_000_000] * 3)
    assert rows.metadata == []


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("us"), pa.timestamp("us", "UTC")])
def test_a_time_out_of_range_is_a_bad_row(kind: pa.DataType, tmp_path: Path) -> None:
    days = pa.array([date(1, 1, 1), date(9999, 12, 31), date(2026, 1, 1)]).cast(kind)
    rows = read(tmp_path, {"embedding": FORMS["list"], "timestamp": days})
    assert rows.times == [1_767_225_600]
    assert [fault.partition(": ")[2] for fault in rows.faults] == [
        "'0001-01-01T00:00:00.000000' is out of range",
        "'9999-12-31T00:00:00.000000' is out of range",
    ]


@pytest.mark.parametrize("zone", [None, "UTC"])
@pytest.mark.parametrize("unit", ["s", "ms"])
def test_a_time_does_not_wrap_around(unit: Literal["s", "ms"], zone: str | None) -> None:
    """As microseconds, four times this one is zero."""
    column = ArrowColumn(pa.array([2**62, 0, None], pa.timestamp(unit, zone)))
    far, first, missing = column.seconds(Times())
    assert str(far).endswith("' is not a time as in RFC 3339")
    assert first == 0
    assert np.isnan(missing)
    far, first, missing = column.values()
    assert far == f"{np.datetime64(2**62, unit)}"
    assert first == datetime(1970, 1, 1, tzinfo=UTC if zone else None)
    assert missing is None


def test_a_time_far_away_within_metadata_costs_nothing_else() -> None:
    far = pa.array([[2**60], [0]], pa.list_(pa.timestamp("s")))
    assert ArrowColumn(far).values() == [None, [datetime(1970, 1, 1)]]


def test_a_date_is_midnight_and_a_null_time_is_none(tmp_path: Path) -> None:
    rows = read(tmp_path, {"timestamp": [date(2023, 11, 14), None], "e": LISTS[:2]})
    assert rows.times[0] == 1_699_920_000
    assert np.isnan(rows.times[1])


def test_times_beside_the_vectors_are_metadata_to_a_microsecond(tmp_path: Path) -> None:
    rows = read(tmp_path, {"e": LISTS[:1], "seen": pa.array([1_001], pa.timestamp("ns"))})
    assert rows.metadata == [{"seen": datetime(1970, 1, 1, 0, 0, 0, 1)}]


def test_a_column_name_that_comes_twice_is_named(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(LISTS)] * 2, ["v", "v"])
    parquet.write_table(table, tmp_path / "v.parquet")
    with pytest.raises(PayloadError, match=r"v\.parquet: has two columns named 'v'; rename or"):
        whole(tmp_path / "v.parquet")


def test_a_stream_of_arrow_is_read_as_a_file_is(tmp_path: Path) -> None:
    table = pa.table({"v": LISTS * 1_000})
    path = tmp_path / "v.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=1_700)
    np.testing.assert_array_equal(whole(path).vectors, np.tile(VECTORS, (1_000, 1)))


def test_a_pickle_in_a_cell_is_never_loaded(tmp_path: Path) -> None:
    rows = read(tmp_path, {"embedding": [VECTORS[0].dumps()]})
    assert rows.faults == [
        "row 0 has a pickled object, which is never loaded; write float32 bytes or a list"
    ]


def test_without_pyarrow_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet.write_table(pa.table({"v": LISTS}), tmp_path / "v.parquet")
    (tmp_path / "v.jsonl.zst").write_bytes(pa.compress(b'{"v": [1, 2]}', "zstd", asbytes=True))
    monkeypatch.delitem(sys.modules, "ingest.files.arrow")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name in ("v.parquet", "v.jsonl.zst"):
        with pytest.raises(PayloadError, match=rf"{name}: needs pyarrow: /.* -m pip install '.*fi"):
            whole(tmp_path / name)


def test_what_comes_after_the_end_of_a_stream_is_not_lost_in_silence(tmp_path: Path) -> None:
    table = pa.table({"v": LISTS})
    path = tmp_path / "v.arrow"
    for _ in range(2):
        with path.open("ab") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(PayloadError, match="has more after the end of its stream; write each"):
        whole(path)
