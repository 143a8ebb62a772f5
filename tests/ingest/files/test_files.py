"""Files of vectors: every format gives the same rows, and mistakes name their place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from ingest.files.reader import read
from ingest.files.rows import Rows
from ingest.runtime.errors import PayloadError

VECTORS = np.array([[1, 2.5], [3, 4], [5, -6]], np.float32)
IDS = ["a", "b", "c"]
TEXTS = ["one", "two", "three"]


def write_npy(path: Path) -> None:
    np.save(path, VECTORS.astype(np.float16))


def write_npz(path: Path) -> None:
    np.savez(path, embedding=VECTORS, text=TEXTS, id=IDS, unrelated=np.arange(9))


def write_parquet(path: Path) -> None:
    table = pa.table({"id": IDS, "embedding": VECTORS.tolist(), "text": TEXTS})
    parquet.write_table(table, path)


def write_csv(path: Path) -> None:
    lines = [f'{i},"{v.tolist()}",{t}' for i, v, t in zip(IDS, VECTORS, TEXTS, strict=True)]
    path.write_text("\n".join(["id,embedding,text", *lines]))


def write_jsonl(path: Path) -> None:
    objects = [
        {"id": i, "embedding": v.tolist(), "metadata": {"text": t}}
        for i, v, t in zip(IDS, VECTORS, TEXTS, strict=True)
    ]
    path.write_text("\n".join(map(json.dumps, objects)))


def whole(path: Path) -> Rows:
    blocks = list(read(path))
    return Rows(
        np.concatenate([block.vectors for block in blocks]),
        [id_ for block in blocks for id_ in block.ids],
        [item for block in blocks for item in block.metadata],
    )


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("v.npz", write_npz),
        ("v.parquet", write_parquet),
        ("v.csv", write_csv),
        ("v.jsonl", write_jsonl),
    ],
)
def test_a_format_with_columns_gives_vectors_ids_and_metadata(
    name: str, write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path / name)
    rows = whole(tmp_path / name)
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.ids == IDS
    assert [item["text"] for item in rows.metadata] == TEXTS


def test_npy_gives_vectors(tmp_path: Path) -> None:
    write_npy(tmp_path / "v.npy")
    rows = whole(tmp_path / "v.npy")
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.vectors.dtype == np.float32
    assert (rows.ids, rows.metadata) == ([], [])


def test_csv_of_numbers_needs_no_embedding_column(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("id,x,y\na,1,2.5\nb,3,4\nc,5,-6\n")
    rows = whole(tmp_path / "v.csv")
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.ids == IDS


def test_jsonl_takes_other_keys_as_metadata_and_ids_where_there_are_any(tmp_path: Path) -> None:
    lines = ['{"embedding": [1, 2], "text": "one", "id": 7}', '{"embedding": [3, 4]}']
    (tmp_path / "v.jsonl").write_text("\n".join(lines))
    rows = whole(tmp_path / "v.jsonl")
    assert rows.ids == ["7", None]
    assert rows.metadata == [{"text": "one"}, {}]


def test_a_long_file_comes_in_blocks(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((2_500, 2)))
    assert [len(rows) for rows in read(tmp_path / "v.npy")] == [1_000, 1_000, 500]


def test_rows_without_an_id_have_none(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", None, None], "embedding": VECTORS.tolist()})
    parquet.write_table(table, tmp_path / "v.parquet")
    (tmp_path / "v.csv").write_text("id,x,y\na,1,2.5\n,3,4\n,5,-6\n")
    assert whole(tmp_path / "v.parquet").ids == ["a", None, None]
    assert whole(tmp_path / "v.csv").ids == ["a", None, None]


def test_nulls_beside_the_vectors_are_left_out(tmp_path: Path) -> None:
    table = pa.table(
        {"embedding": VECTORS.tolist(), "text": ["one", None, None], "n": [1, 2, None]}
    )
    parquet.write_table(table, tmp_path / "v.parquet")
    assert whole(tmp_path / "v.parquet").metadata == [{"text": "one", "n": 1}, {"n": 2}, {}]


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.list_(pa.float64(), 2), pa.large_list(pa.float16())]
)
def test_parquet_lists_of_any_kind_are_vectors(kind: pa.DataType, tmp_path: Path) -> None:
    column = pa.array([list(map(np.float16, v)) for v in VECTORS], kind)
    parquet.write_table(pa.table({"v": column, "words": [["a"]] * 3}), tmp_path / "v.parquet")
    np.testing.assert_array_equal(whole(tmp_path / "v.parquet").vectors, VECTORS)


def test_the_timestamp_of_a_csv_is_a_number_and_never_a_component(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text('embedding,timestamp\n"[1, 2]",1703980800\n"[3, 4]",\n')
    (tmp_path / "wide.csv").write_text("timestamp,x,y\n1703980800.5,1,2\n")
    assert whole(tmp_path / "list.csv").metadata == [{"timestamp": 1703980800.0}, {}]
    assert whole(tmp_path / "wide.csv").metadata == [{"timestamp": 1703980800.5}]
    assert whole(tmp_path / "wide.csv").vectors.tolist() == [[1, 2]]


def test_csv_columns_may_be_numbered_and_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("id,0,1\na,1,2.5\n", encoding="utf-8-sig")
    rows = whole(tmp_path / "v.csv")
    assert (rows.ids, rows.vectors.tolist()) == (["a"], [[1, 2.5]])


def test_other_keys_of_jsonl_join_its_metadata(tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text('{"embedding": [1], "lang": "en", "metadata": {"text": "x"}}')
    assert whole(tmp_path / "v.jsonl").metadata == [{"lang": "en", "text": "x"}]


def test_blank_lines_of_jsonl_are_skipped_but_counted(tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text('{"embedding": [1]}\n\n{"embedding": [2]}\n\n')
    assert whole(tmp_path / "v.jsonl").vectors.tolist() == [[1], [2]]
    (tmp_path / "v.jsonl").write_text('{"embedding": [1]}\n\n{"embedding": 2}\n')
    with pytest.raises(PayloadError, match="line 3: Expected `array`"):
        whole(tmp_path / "v.jsonl")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet", ".csv", ".jsonl"])
def test_a_file_without_rows_holds_no_vectors(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"v{suffix}"
    none = np.empty((0, 2), np.float32)
    match suffix:
        case ".npy":
            np.save(path, none)
        case ".npz":
            np.savez(path, none)
        case ".parquet":
            parquet.write_table(pa.table({"v": pa.array([], pa.list_(pa.float32()))}), path)
        case _:
            path.write_text("x,y\n" if suffix == ".csv" else "")
    with pytest.raises(PayloadError, match="holds no vectors"):
        list(read(path))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_component_that_is_no_float32_names_its_row(value: float, tmp_path: Path) -> None:
    vectors = np.ones((2_500, 2))
    vectors[2_100, 1] = value
    np.save(tmp_path / "v.npy", vectors)
    parquet.write_table(pa.table({"v": vectors.tolist()}), tmp_path / "v.parquet")
    for name in ("v.npy", "v.parquet"):
        with pytest.raises(PayloadError, match="row 2100: component 1 is NaN, infinite or too"):
            list(read(tmp_path / name))


def test_a_dimension_that_changes_names_its_row_in_any_block(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"v": [[1.0, 2.0]] * 2_000 + [[1.0]]}), tmp_path / "v.parquet")
    with pytest.raises(PayloadError, match="row 2000 has 1 components, those before it 2"):
        list(read(tmp_path / "v.parquet"))


WRONG_PARQUET = {
    "no lists": ({"embedding": ["a", "b"]}, "needs a column 'embedding' of lists of numbers"),
    "lists of words": ({"embedding": [["a"], ["b"]]}, "of lists of numbers"),
    "two lists": ({"a": [[1.0]], "b": [[1.0]]}, "or only one such column"),
    "a row without vector": ({"v": [[1.0], None]}, "row 1 has no vector"),
    "a null component": ({"v": [[1.0, 2.0], [1.0, None]]}, "row 1: component 1 is NaN"),
}


@pytest.mark.parametrize("mistake", WRONG_PARQUET)
def test_a_mistake_in_parquet_is_named(mistake: str, tmp_path: Path) -> None:
    columns, message = WRONG_PARQUET[mistake]
    parquet.write_table(pa.table(columns), tmp_path / "v.parquet")
    with pytest.raises(PayloadError, match=message):
        list(read(tmp_path / "v.parquet"))


WRONG_NPZ: dict[str, tuple[dict[str, NDArray[Any]], str]] = {
    "two arrays": ({"a": VECTORS, "b": VECTORS}, "needs an array 'embedding' of shape"),
    "three dimensions": ({"embedding": np.ones((2, 2, 2))}, r"shape \(2, 2, 2\); allowed"),
    "words": ({"embedding": np.array([["a"]])}, "allowed are numbers"),
    "complex beside": ({"v": VECTORS, "z": np.ones(3, complex)}, "'z' beside the vectors holds"),
    "objects": ({"v": np.array([[None]])}, "Object arrays cannot be loaded"),
}


@pytest.mark.parametrize("mistake", WRONG_NPZ)
def test_a_mistake_in_npz_is_named(mistake: str, tmp_path: Path) -> None:
    arrays, message = WRONG_NPZ[mistake]
    np.savez(tmp_path / "v.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(PayloadError, match=message):
        list(read(tmp_path / "v.npz"))


@pytest.mark.parametrize(
    ("name", "write"),
    [("v.npy", write_npy), ("v.npz", write_npz), ("v.parquet", write_parquet)],
)
def test_a_file_cut_anywhere_is_refused(
    name: str, write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    for length in range(0, len(content), 7):
        (tmp_path / name).write_bytes(content[:length])
        with pytest.raises(PayloadError, match=name):
            list(read(tmp_path / name))


MISTAKES = {
    "v.txt": (b"", "unknown suffix; allowed are .npy, .npz, .parquet, .csv, .jsonl"),
    "v.npy": (b"nothing", "v.npy: "),
    "zip.npy": (b"PK\3\4" + bytes(40), "zip.npy: the magic string is not correct"),
    "v.npz": (b"nothing", "v.npz: File is not a zip file"),
    "v.parquet": (b"nothing", "v.parquet: "),
    "letters.csv": (b"x,y\n1,2\n3,z\n", "line 3: column 'y' is 'z'; allowed are numbers"),
    "blank.csv": (b"x,y\n1,2\n\n3,z\n", "line 4: column 'y' is 'z'"),
    "empty.csv": (b"x,y\n1,\n", "line 2: column 'y' is ''"),
    "short.csv": (b"x,y\n1,2\n3\n", "line 3 has 1 columns, the header 2"),
    "long.csv": (b"x,y\n1,2\n3,4,5\n", "line 3 has 3 columns, the header 2"),
    "nan.csv": (b"x,y\n1,nan\n", "line 2: component 1 is NaN"),
    "headless.csv": (b"0.5,0.5\n1,2\n", "line 1 must name the columns; column 0 is '0.5'"),
    "index.csv": (b",x,y\n0,1,2\n", "line 1: column 0 has no name"),
    "twice.csv": (b"x,x\n1,2\n", "line 1 names column 'x' twice"),
    "ids.csv": (b"id\n1\n", "has neither columns of numbers nor a column 'embedding'"),
    "quote.csv": (b'x,y\n1,"2\n', "unexpected end of data"),
    "list.csv": (b"embedding\n[1]\n[x]\n", "line 3: embedding is not a JSON list of numbers"),
    "ragged.csv": (b'embedding\n"[1,2]"\n[1]\n', "line 3 has 1 components, those before it 2"),
    "v.jsonl": (b'{"embedding": [1]}\n{"embedding": \n', "line 2: Input data was truncated"),
    "none.jsonl": (b'{"embeddings": [1]}\n', "line 1: Object missing required field `embedding`"),
    "empty.jsonl": (b'{"embedding": []}\n', "line 1 has 0 components, at least one is needed"),
    "words.jsonl": (b'{"embedding": [1, "2"]}\n', "line 1: Expected `float`, got `str` - at `$.em"),
    "bool.jsonl": (b'{"embedding": [true]}\n', "line 1: Expected `float`, got `bool`"),
    "null.jsonl": (b'{"embedding": [null]}\n', "line 1: Expected `float`, got `null`"),
    "nested.jsonl": (b'{"embedding": [[1], [2]]}\n', "line 1: Expected `float`, got `array`"),
    "huge.jsonl": (b'{"embedding": [%s]}\n' % (b"9" * 400), "line 1: Number out of range"),
    "deep.jsonl": (b'{"embedding": [1], "a": ' + b"[" * 20_000, "line 1: "),
    "note.jsonl": (b'{"embedding": [1], "metadata": "x"}', "line 1: Expected `object | null`"),
    "ragged.jsonl": (b'{"embedding": [1]}\n{"embedding": [1, 2]}\n', "line 2 has 2 components"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_names_file_and_place(name: str, tmp_path: Path) -> None:
    content, message = MISTAKES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PayloadError) as raised:
        list(read(tmp_path / name))
    assert str(tmp_path / name) in str(raised.value)
    assert message in str(raised.value)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(PayloadError, match="cannot be read: No such file"):
        list(read(tmp_path / "v.csv"))
