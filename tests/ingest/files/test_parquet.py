"""Read Parquet files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from ingest.files.reader import read
from ingest.runtime.errors import PayloadError
from tests.ingest.files.vectors import VECTORS, whole


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.list_(pa.float64(), 2), pa.large_list(pa.float16())]
)
def test_lists_of_any_kind_are_vectors(kind: pa.DataType, tmp_path: Path) -> None:
    column = pa.array([list(map(np.float16, v)) for v in VECTORS], kind)
    parquet.write_table(pa.table({"v": column, "words": [["a"]] * 3}), tmp_path / "v.parquet")
    rows = whole(tmp_path / "v.parquet")
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.metadata == [{"words": ["a"]}] * 3


def test_a_null_id_and_null_metadata_are_left_out(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": ["a", None, None],
            "embedding": VECTORS.tolist(),
            "text": ["one", None, None],
            "n": [1, 2, None],
        }
    )
    parquet.write_table(table, tmp_path / "v.parquet")
    rows = whole(tmp_path / "v.parquet")
    assert rows.ids == ["a", None, None]
    assert rows.metadata == [{"text": "one", "n": 1}, {"n": 2}, {}]


def test_a_vector_of_another_dimension_is_refused_in_a_later_block(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"v": [[1.0, 2.0]] * 2_000 + [[1.0]]}), tmp_path / "v.parquet")
    with pytest.raises(PayloadError, match="row 2000 has 1 components, those before it 2"):
        list(read(tmp_path / "v.parquet"))


WRONG = {
    "no lists": ({"embedding": ["a", "b"]}, "needs a column 'embedding' of lists of numbers"),
    "lists of words": ({"embedding": [["a"], ["b"]]}, "of lists of numbers"),
    "two lists": ({"a": [[1.0]], "b": [[1.0]]}, "or only one such column"),
    "a row without vector": ({"v": [[1.0], None]}, "row 1 has no vector"),
    "a null component": ({"v": [[1.0, 2.0], [1.0, None]]}, "row 1: component 1 is NaN"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_table_without_usable_vectors_is_refused(mistake: str, tmp_path: Path) -> None:
    columns, message = WRONG[mistake]
    parquet.write_table(pa.table(columns), tmp_path / "v.parquet")
    with pytest.raises(PayloadError, match=message):
        list(read(tmp_path / "v.parquet"))


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.parquet").write_bytes(b"nothing")
    with pytest.raises(PayloadError, match=r"v\.parquet: "):
        list(read(tmp_path / "v.parquet"))


def test_without_pyarrow_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(PayloadError, match=r"needs pyarrow: pip install 'embedding-drift-"):
        list(read(tmp_path / "v.parquet"))
