"""Read CSV files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ingest.files.reader import read
from ingest.runtime.errors import PayloadError
from tests.ingest.files.vectors import IDS, VECTORS, whole


def test_each_column_of_numbers_is_a_component(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("id,x,y\na,1,2.5\nb,3,4\nc,5,-6\n")
    rows = whole(tmp_path / "v.csv")
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.ids == IDS


def test_an_empty_id_is_none(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("id,x,y\na,1,2.5\n,3,4\n,5,-6\n")
    assert whole(tmp_path / "v.csv").ids == ["a", None, None]


def test_a_time_is_metadata_and_a_number(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text('embedding,timestamp\n"[1, 2]",1703980800\n"[3, 4]",\n')
    (tmp_path / "wide.csv").write_text("timestamp,x,y\n1703980800.5,1,2\n")
    assert whole(tmp_path / "list.csv").metadata == [{"timestamp": 1703980800.0}, {}]
    assert whole(tmp_path / "wide.csv").metadata == [{"timestamp": 1703980800.5}]
    assert whole(tmp_path / "wide.csv").vectors.tolist() == [[1, 2]]


def test_columns_may_be_numbered_and_follow_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("id,0,1\na,1,2.5\n", encoding="utf-8-sig")
    rows = whole(tmp_path / "v.csv")
    assert (rows.ids, rows.vectors.tolist()) == (["a"], [[1, 2.5]])


WRONG = {
    "letters": (b"x,y\n1,2\n3,z\n", "line 3: column 'y' is 'z'; allowed are numbers"),
    "a blank line before": (b"x,y\n1,2\n\n3,z\n", "line 4: column 'y' is 'z'"),
    "an empty cell": (b"x,y\n1,\n", "line 2: column 'y' is ''"),
    "a short line": (b"x,y\n1,2\n3\n", "line 3 has 1 columns, the header 2"),
    "a long line": (b"x,y\n1,2\n3,4,5\n", "line 3 has 3 columns, the header 2"),
    "no header": (b"0.5,0.5\n1,2\n", "line 1 must name the columns; column 0 is '0.5'"),
    "a column of row numbers": (b",x,y\n0,1,2\n", "line 1: column 0 has no name"),
    "a name twice": (b"x,x\n1,2\n", "line 1 names column 'x' twice"),
    "only ids": (b"id\n1\n", "has neither columns of numbers nor a column 'embedding'"),
    "an open quote": (b'x,y\n1,"2\n', "unexpected end of data"),
    "a list that is not JSON": (
        b"embedding\n[1]\n[x]\n",
        "line 3: embedding is not a JSON list of numbers",
    ),
    "lists of two lengths": (
        b'embedding\n"[1,2]"\n[1]\n',
        "line 3 has 1 components, those before it 2",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_reported_with_its_line(mistake: str, tmp_path: Path) -> None:
    content, message = WRONG[mistake]
    (tmp_path / "v.csv").write_bytes(content)
    with pytest.raises(PayloadError) as raised:
        list(read(tmp_path / "v.csv"))
    assert f"{tmp_path / 'v.csv'}: {message}" in str(raised.value)
