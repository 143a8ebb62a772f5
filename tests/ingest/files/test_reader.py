"""The reader checks what every format yields."""

from __future__ import annotations

import gzip
import json
import sys
import tracemalloc
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from ingest.files.columns import Options
from ingest.files.reader import SUFFIXES, opened
from ingest.files.source import Source
from ingest.files.table import Times
from ingest.runtime.errors import PayloadError
from tests.ingest.files.vectors import VECTORS, whole


def test_a_file_of_unknown_format_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("1 2 3")
    with pytest.raises(PayloadError, match=r"v\.txt: is of unknown format; allowed are \.parquet"):
        whole(tmp_path / "v.txt")


def test_a_file_that_is_not_what_its_suffix_says_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.parquet").write_text("id,embedding")
    with pytest.raises(PayloadError, match=r"is not Parquet: it begins with b'id,embedding'"):
        whole(tmp_path / "v.parquet")


def test_each_model_has_a_dimension_of_its_own(tmp_path: Path) -> None:
    lines = [("a", [1.0, 2.0]), ("b", [1.0]), ("a", [3.0]), ("b", [4.0]), (None, [1.0])]
    text = "\n".join(json.dumps({"model_name": n, "embedding": v}) for n, v in lines)
    (tmp_path / "v.jsonl").write_text(text)
    source = Source.find(str(tmp_path / "v.jsonl"), SUFFIXES)
    with opened(source, source.files[0], Options()) as file:
        [rows] = list(file.rows(0))
    assert [vector.tolist() for vector in rows.vectors] == [[1, 2], [1], [4]]
    assert rows.models == ["a", "b", "b"]
    assert [fault.reason for fault in rows.faults] == [
        "has a vector of 1 components, those of other rows 2",
        "has no model in column 'model_name'",
    ]


def test_one_bad_first_row_does_not_set_the_dimension_of_the_others(tmp_path: Path) -> None:
    bad: list[list[float]] = [[], [float("nan")] * 3, [1], [1]]
    text = "\n".join(json.dumps({"embedding": v}) for v in bad + [[1, 2, 3, 4]] * 5)
    (tmp_path / "v.jsonl").write_text(text)
    rows = whole(tmp_path / "v.jsonl")
    assert rows.vectors.tolist() == [[1, 2, 3, 4]] * 5
    assert [fault[:6] for fault in rows.faults] == ["line 1", "line 2", "line 3", "line 4"]
    assert rows.faults[2:] == [
        f"line {n} has a vector of 1 components, those of other rows 4" for n in (3, 4)
    ]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize(("kind", "name"), [("<f2", "float16"), ("<f8", "float64")])
def test_each_row_of_bytes_or_base64_of_another_type_than_float32_is_a_fault(
    kind: str, name: str, suffix: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=32).astype(kind if index in (1, 2) else "<f4") for index in range(4)]
    cells = [row.tobytes() for row in rows]
    path = tmp_path / f"v{suffix}"
    if suffix == ".parquet":
        parquet.write_table(pa.table({"embedding": cells}), path)
    else:
        path.write_text("\n".join(["embedding", *(b64encode(each).decode() for each in cells)]))
    source = Source.find(str(path), SUFFIXES)
    with opened(source, source.files[0], Options()) as file:
        [found] = list(file.rows(0))
    np.testing.assert_array_equal(found.vectors, [rows[0], rows[3]])
    assert [fault.place for fault in found.faults] == [1, 2]
    for fault in found.faults:
        assert fault.reason.startswith("has magnitudes of ")
        assert fault.reason.endswith(
            f" as float32; it looks like {name}: write float32 or lists of numbers"
        )


def test_numbers_that_are_written_as_numbers_are_taken_whatever_their_magnitudes(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    odd = [rng.normal(size=32).astype("<f2").view("<f4").tolist() for _ in range(2)]
    lines = [
        {"model_name": "m", "embedding": odd[0]},
        {"model_name": "m", "embedding": str(odd[1])},
    ]
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, lines)))
    parquet.write_table(pa.table({"model_name": ["m", "m"], "embedding": odd}), tmp_path / "v.pq")
    for path in (tmp_path / "v.jsonl", tmp_path / "v.pq"):
        np.testing.assert_array_equal(whole(path).vectors, np.array(odd, np.float32))


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
@pytest.mark.parametrize(("kind", "limit"), [("f2", 2**11), ("f4", 2**24), ("f8", 2**53)])
def test_floats_are_ids_below_the_first_whole_number_that_their_type_lacks(
    kind: str, limit: int, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"v{suffix}"
    ids = np.array([limit - 1, limit, -limit], kind)
    if suffix == ".npz":
        np.savez(path, id=ids, embedding=VECTORS)
    else:
        parquet.write_table(pa.table({"id": ids, "embedding": VECTORS.tolist()}), path)
    rows = whole(path)
    assert rows.ids == [str(limit - 1)]
    assert rows.faults == [
        f"row {row} has {float(value)!r} as id, a float that cannot tell it from others; allowed"
        " are integers"
        for row, value in ((1, limit), (2, -limit))
    ]


def test_a_module_that_no_extra_installs_is_an_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "v.jsonl").write_text('{"v": [1, 2]}')
    monkeypatch.delitem(sys.modules, "ingest.files.json", raising=False)
    monkeypatch.setitem(sys.modules, "msgspec", None)
    with pytest.raises(ModuleNotFoundError, match="msgspec"):
        whole(tmp_path / "v.jsonl")


TIMES = {
    "ms": ([1_700_000_000_000], "looks like milliseconds; --time-unit declares"),
    "us": ([1_700_000_000_000_000], "looks like microseconds; --time-unit declares"),
    "ns": ([1_700_000_000_000_000_000], "looks like nanoseconds; --time-unit declares"),
}


@pytest.mark.parametrize("unit", TIMES)
def test_another_unit_than_seconds_is_named_and_can_be_declared(unit: str, tmp_path: Path) -> None:
    stamps, message = TIMES[unit]
    path = tmp_path / "v.parquet"
    parquet.write_table(pa.table({"timestamp": stamps, "embedding": VECTORS[:1].tolist()}), path)
    assert message in whole(path).faults[0]
    assert whole(path, times=Times(unit)).times == [1_700_000_000.0]  # type: ignore[arg-type]


def memory(read: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".npy", ".parquet", ".jsonl.gz"])
def test_memory_does_not_grow_with_the_file(suffix: str, tmp_path: Path) -> None:
    """Measured by Python and pyarrow: a file four times as long takes no more."""
    peaks = []
    for count in (5_000, 20_000):
        path = tmp_path / f"{count}{suffix}"
        vectors = np.random.default_rng(0).normal(size=(count, 32)).astype(np.float32).round(3)
        rows = [json.dumps({"embedding": vector}) for vector in vectors.tolist()]
        if suffix == ".npy":
            np.save(path, vectors)
        elif suffix == ".parquet":
            lists = pa.array(list(vectors), pa.list_(pa.float32()))
            parquet.write_table(pa.table({"embedding": lists}), path, row_group_size=5_000)
        elif suffix == ".csv":
            cells = (row[len('{"embedding": ') : -1] for row in rows)
            path.write_text("\n".join(["embedding", *(f'"{cell}"' for cell in cells)]))
        elif suffix == ".json":
            path.write_text(f"[{','.join(rows)}]")
        else:
            data = "\n".join(rows).encode()
            path.write_bytes(gzip.compress(data, 1) if suffix.endswith("gz") else data)
        source = Source.find(str(path), SUFFIXES)

        def read(source: Source = source, count: int = count) -> None:
            with opened(source, source.files[0], Options()) as file:
                blocks = (rows for part in range(file.parts) for rows in file.rows(part))
                assert sum(map(len, blocks)) == count

        arrow = pa.total_allocated_bytes()
        peaks.append(memory(read))
        assert pa.total_allocated_bytes() - arrow < 2**20
    assert peaks[1] < 1.2 * peaks[0] + 2**19
