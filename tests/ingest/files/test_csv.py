"""Read CSV files."""

from __future__ import annotations

import base64
from datetime import UTC
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ingest.files.table import Times
from ingest.runtime.errors import PayloadError
from tests.ingest.files.vectors import IDS, VECTORS, Whole, whole

FRAME = pd.DataFrame(VECTORS.astype(float), columns=["x", "y"])


def read(folder: Path, text: str | bytes) -> Whole:
    path = folder / "v.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return whole(path)


def test_each_column_of_numbers_is_a_component(tmp_path: Path) -> None:
    rows = read(tmp_path, "id,x,y\na,1,2.5\nb,3,4\nc,5,-6\n")
    np.testing.assert_array_equal(rows.vectors, VECTORS)
    assert rows.ids == IDS


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("decimal", [".", ","])
def test_columns_and_decimals_may_be_separated_otherwise(
    separator: str, decimal: str, tmp_path: Path
) -> None:
    FRAME.to_csv(tmp_path / "v.tsv", sep=separator, decimal=decimal, index=False)
    np.testing.assert_array_equal(whole(tmp_path / "v.tsv").vectors, VECTORS)


def test_spaces_may_follow_the_separators(tmp_path: Path) -> None:
    rows = read(tmp_path, 'id, embedding, text\na, "[1, 2.5]", one\n')
    assert (rows.ids, rows.vectors.tolist()) == (["a"], [[1, 2.5]])
    assert rows.metadata == [{"text": "one"}]


def test_times_that_are_numbers_count_seconds_or_the_unit_that_is_declared(tmp_path: Path) -> None:
    for cell in ("1700000000", "1700000000.0", "1.7e+09"):
        rows = read(tmp_path, f"timestamp,0,1\n{cell},1,2.5\n")
        assert rows.times == [1_700_000_000]
    rows = read(tmp_path, "timestamp,0,1\n1700000000123,1,2.5\n")
    assert rows.faults[0].endswith(
        "1700000000123 is out of range; it looks like milliseconds; --time-unit declares what the"
        " numbers count"
    )
    assert whole(tmp_path / "v.csv", times=Times("ms")).times == [1_700_000_000.123]


def test_eight_digits_are_a_date_and_no_number(tmp_path: Path) -> None:
    rows = read(tmp_path, "timestamp,0,1\n20261120,1,2.5\n")
    assert "'2026-11-20 00:00:00' names no time zone" in rows.faults[0]
    assert whole(tmp_path / "v.csv", times=Times(zone=UTC)).times == [1_795_132_800]


def test_the_unnamed_index_of_pandas_is_left_out(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "wide.csv")
    np.testing.assert_array_equal(whole(tmp_path / "wide.csv").vectors, VECTORS)
    pd.read_csv(tmp_path / "wide.csv").to_csv(tmp_path / "again.csv")
    np.testing.assert_array_equal(whole(tmp_path / "again.csv").vectors, VECTORS)
    pd.DataFrame(VECTORS).to_csv(tmp_path / "numbered.csv")
    np.testing.assert_array_equal(whole(tmp_path / "numbered.csv").vectors, VECTORS)


CELLS = {
    "JSON": '"[1, 2.5]"',
    "pgvector": '"[1,2.5]"',
    "PostgreSQL": '"{1,2.5}"',
    "NumPy": "[1.  2.5]",
    "NumPy, repr": '"array([1. , 2.5], dtype=float32)"',
    "NumPy 2, in a list": '"[np.float32(1.0), np.float32(2.5)]"',
    "PyTorch": '"tensor([1.0000, 2.5000])"',
    "a tuple": '"(1.0, 2.5)"',
    "an array of one row": '"[[1.0, 2.5]]"',
    "decimal commas": '"[1,0; 2,5]"',
}


@pytest.mark.parametrize("form", CELLS)
def test_a_vector_in_a_cell_may_be_written_by_many_programs(form: str, tmp_path: Path) -> None:
    rows = read(tmp_path, f"id,values\na,{CELLS[form]}\nb,{CELLS[form]}\n")
    assert rows.vectors.tolist() == [[1, 2.5]] * 2
    assert rows.ids == ["a", "b"]


def test_hashes_beside_the_vectors_are_metadata(tmp_path: Path) -> None:
    md5 = "b1946ac92492d2347c6235b4d2611184"
    rows = read(tmp_path, f"md5,trace,dim_0,dim_1\n{md5},{md5},1,2.5\n")
    assert rows.vectors.tolist() == [[1, 2.5]]
    assert rows.metadata == [{"md5": md5, "trace": md5}]


def test_a_column_with_the_name_of_the_vectors_or_chosen_holds_them_in_base64(
    tmp_path: Path,
) -> None:
    cell = base64.b64encode(np.array([1, 2.5, 3], "<f4").tobytes()).decode()
    for name, options in (("embedding", {}), ("Vector", {}), ("v", {"vector": "v"})):
        (tmp_path / "v.csv").write_text(f"id,{name}\na,{cell}\n")
        assert whole(tmp_path / "v.csv", **options).vectors.tolist() == [[1, 2.5, 3]]


def test_a_dot_in_a_name_makes_no_object(tmp_path: Path) -> None:
    header = "embedding,embedding.model,text,text.lang"
    rows = read(tmp_path, f'{header}\n"[1, 2.5]",ada,one,en\n')
    assert rows.metadata == [{"text": "one", "embedding.model": "ada", "text.lang": "en"}]


def test_an_empty_cell_is_none(tmp_path: Path) -> None:
    rows = read(tmp_path, "id,d0,d1,lang\na,1,2.5,en\n,3,4,\n")
    assert rows.ids == ["a", None]


def test_a_byte_order_mark_and_utf_16_are_read(tmp_path: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        rows = read(tmp_path, "id,0,1\nä,1,2.5\n".encode(encoding))
        assert (rows.ids, rows.vectors.tolist()) == (["ä"], [[1, 2.5]])


def test_rows_are_numbered_by_their_first_line(tmp_path: Path) -> None:
    rows = read(tmp_path, 'text,embedding\n"two\nlines",[1]\nb,x\n"c\n",y\n')
    assert [fault[:14] for fault in rows.faults] == ["line 4 has 'x'", "line 5 has 'y'"]
    assert rows.metadata == [{"text": "two\nlines"}]


BAD = {
    "letters": (b"x,y\n1,2\n3,z\n", "line 3 has a component, column 'y', that is 'z'"),
    "a blank line before": (b"x,y\n1,2\n\n3,z\n", "line 4 has a component, column 'y', that"),
    "an empty cell": (b"x,y\n5,2\n1,\n", "line 3 has a component, column 'y', that is null"),
    "a short line": (b"x,y\n1,2\n3\n", "line 3 has 1 columns, the header 2"),
    "a long line": (b"x,y\n1,2\n3,4,5\n", "line 3 has 3 columns, the header 2"),
    "an open quote": (b'x,y\n1,2\n1,"2\n', "line 3 is not valid CSV: unexpected end of data"),
    "other bytes": (
        b"t,d0,d1\na,1,2\n\xe9,1,2\n",
        "line 3 has in column 't' bytes that are",
    ),
    "lists of two lengths": (b'e\n"[1,2]"\n"[1]"\n', "line 3 has a vector of 1 components, those"),
    "dots": (
        b'embedding\n"[1 2]"\n"[1 ... 2]"',
        "line 3 has a vector that the program",
    ),
    "NaN": (b"x,y\n1,2\nNaN,1\n", "line 3 has a vector whose component 0 is missing, NaN"),
    "a huge number": (b"x,y\n1,2\n1e300,1\n", "line 3 has a vector whose component 0 is"),
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_bad_row_is_reported_with_its_line(mistake: str, tmp_path: Path) -> None:
    content, message = BAD[mistake]
    rows = read(tmp_path, content)
    assert [fault[: len(message)] for fault in rows.faults] == [message]
    assert len(rows.vectors) == 1


JOINED = {
    "an open quote": ('b,"open,1,2\n', "line 3 is not valid CSV: unexpected end of data; a quote"),
    "text after a quote": ('b,"open,1,2\nc,"x",1,2\n', "line 3 is not valid CSV: ',' expected"),
    "another number of columns": (
        'b,"open,1,2\nc,x",1,2,3\n',
        "line 3 has 5 columns, the header 4",
    ),
    "other bytes": ('b,"open,1,2\nc,\xe9",1,2\n', "line 3 has in column 't' bytes that are not"),
}


@pytest.mark.parametrize("mistake", JOINED)
def test_a_quote_that_is_not_closed_costs_no_good_row(mistake: str, tmp_path: Path) -> None:
    lines, message = JOINED[mistake]
    good = "".join(f"{n},y,1,2\n" for n in range(3_000))
    rows = read(tmp_path, f"id,t,d0,d1\na,x,1,2\n{lines}{good}".encode("latin-1"))
    assert rows.faults[0].startswith(message)
    assert "; a quote that is not closed may join it to line " in rows.faults[0]
    assert {*rows.ids} >= {"a", *(str(n) for n in range(3_000))}
    assert {fault[:7] for fault in rows.faults} <= {"line 3 ", "line 4 "}


def test_rows_after_a_quote_that_is_not_closed_keep_their_numbers(tmp_path: Path) -> None:
    rows = read(tmp_path, 't,0,1\na,1,2\n"a,1,2\n"two\nlines",1,z\nb,1,z\n')
    assert [fault[:7] for fault in rows.faults] == ["line 3 ", "line 4 ", "line 6 "]


def test_a_bad_row_of_several_lines_ends_with_them(tmp_path: Path) -> None:
    rows = read(tmp_path, 't,0,1\n"two\nlines",1\n"three\nmore\nlines",1,2\n')
    assert [fault[:7] for fault in rows.faults] == ["line 2 ", "line 3 "]
    assert rows.metadata == [{"t": "three\nmore\nlines"}]


UNUSABLE = {
    "no header": (b"0.5,0.5\n1,2\n", "line 1 must name the columns; column 0 is '0.5'"),
    "a vector as header": (b'"[1, 2]"\n"[1, 2]"\n', "line 1 must name the columns; column 0 is"),
    "a name twice": (b"x,x\n1,2\n", "line 1 names column 'x' twice"),
    "only ids": (b"id\n1\n", "has no column of vectors; its columns are 'id'"),
}


@pytest.mark.parametrize("mistake", UNUSABLE)
def test_a_header_that_cannot_be_right_is_refused(mistake: str, tmp_path: Path) -> None:
    content, message = UNUSABLE[mistake]
    with pytest.raises(PayloadError) as raised:
        read(tmp_path, content)
    assert f"{tmp_path / 'v.csv'}: {message}" in str(raised.value)
