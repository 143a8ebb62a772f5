"""Read CSV and TSV files, whatever separates their columns, with the standard library."""

from __future__ import annotations

import codecs
import csv
import io
from collections import deque
from collections.abc import Iterator
from typing import IO, Any

from ingest.files import vectors
from ingest.files.table import Kind, Records, number

SEPARATORS = ",;\t|"
_LONGEST_CELL = 2**24
"""Characters of a cell. The library's limit is that of a vector of 6,000 components. Without a
limit, a quote that is not closed would make one cell of the whole file."""


def open_table(file: IO[bytes]) -> Records:
    """Open a file whose first line names the columns. A row's number is that of its first line."""
    csv.field_size_limit(_LONGEST_CELL)
    return Records("line", _records(file), _kind)


def _records(file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    text = io.TextIOWrapper(file, encoding=_encoding(file), errors="surrogateescape", newline="")
    first = text.readline()
    if not first.strip():
        return
    text.seek(0)
    separator = _separator(first)
    is_spaced = f"{separator} " in first
    lines = _Lines(text)
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=is_spaced, strict=True)
    names = _header([name.strip() for name in next(reader)])
    while True:
        number = lines.begin()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield number, f"is not valid CSV: {error}{lines.again()}"
            continue
        if cells is None:
            return
        if not cells:
            continue
        bad = next(
            (name for name, cell in zip(names, cells, strict=False) if not _is_utf8(cell)), None
        )
        if bad is not None:
            yield number, f"has in column {bad!r} bytes that are not UTF-8{lines.again()}"
        elif len(cells) != len(names):
            yield number, f"has {len(cells)} columns, the header {len(names)}{lines.again()}"
        else:
            # CSV has no null: an empty cell is one.
            yield number, {n: cell or None for n, cell in zip(names, cells, strict=True)}


class _Lines:
    """Lines of a file. Those of a bad row are read again, but the first.

    A quote that is not closed makes one row of good ones.
    """

    def __init__(self, text: IO[str]) -> None:
        self._text = text
        self._row: list[str] = []
        self._ahead: deque[str] = deque()
        self._count = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._ahead.popleft() if self._ahead else next(self._text)
        self._row.append(line)
        self._count += 1
        return line

    def begin(self) -> int:
        """Begin a row, and return the number of its first line."""
        self._row.clear()
        return self._count + 1

    def again(self) -> str:
        """Go back to the second line of the row, if it has one, and say so."""
        end, others = self._count, self._row[1:]
        self._count -= len(others)
        self._ahead.extendleft(reversed(others))
        return f"; a quote that is not closed may join it to line {end}" * bool(others)


def _is_utf8(cell: str) -> bool:
    if cell.isascii():
        return True
    try:
        cell.encode()
    except UnicodeEncodeError:
        return False
    return True


def _encoding(file: IO[bytes]) -> str:
    start = file.read(2)
    file.seek(0)
    return "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _separator(header: str) -> str:
    return max(SEPARATORS, key=header.count)


def _header(names: list[str]) -> list[str]:
    """Check the names of the columns, and return them."""
    # A file without a header would lose its first row. Names 0, 1, 2, ... are a valid header:
    # pandas writes them.
    numbered = [name for name in names if name.isdecimal()]
    is_numbered = numbered == [str(at) for at in range(len(numbered))]
    for at, name in enumerate(names):
        if name in names[:at]:
            raise ValueError(f"line 1 names column {name!r} twice")
        is_number = not isinstance(number(name), str)
        if (is_number and not (is_numbered and name in numbered)) or name[:1] in ("[", "{"):
            raise ValueError(f"line 1 must name the columns; column {at} is {name!r:.40}")
    return names


def _kind(cell: Any) -> Kind:
    if cell is None:
        return Kind.OTHER
    if not isinstance(number(cell), str):
        return Kind.NUMBERS
    return Kind.VECTORS if vectors.is_text_of_vector(cell) else Kind.OTHER
