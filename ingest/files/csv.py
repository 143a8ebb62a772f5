"""Read CSV files: each component is a column, or all are one column of JSON lists."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ingest.files.rows import (
    EMBEDDING,
    NOT_COMPONENTS,
    TIMESTAMP,
    Block,
    blocks,
    ids_and_metadata,
)


def read(path: Path) -> Iterator[Block]:
    """Read a CSV file whose first line names the columns."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file, strict=True)
        names = _header(next(lines, []))
        numbered = ((lines.line_num, line) for line in lines if line)
        for block in blocks(numbered):
            for number, line in block:
                if len(line) != len(names):
                    raise ValueError(
                        f"line {number} has {len(line)} columns, the header {len(names)}"
                    )
            numbers = [number for number, _ in block]
            cells = zip(*(line for _, line in block), strict=True)
            columns = dict(zip(names, map(list, cells), strict=True))
            vectors = _vectors(columns, numbers)
            yield Block(vectors, numbers, *ids_and_metadata(_values(columns)))


def _header(names: list[str]) -> list[str]:
    """Check the names of the columns, and return them."""
    # A file without a header would lose its first row, and a column of row numbers would become a
    # component. Names 0, 1, 2, ... are a valid header: pandas writes them.
    components = [name for name in names if name not in NOT_COMPONENTS]
    is_numbered = components == list(map(str, range(len(components))))
    for number, name in enumerate(names):
        if not name:
            raise ValueError(f"line 1: column {number} has no name")
        if _is_number(name) and not is_numbered:
            raise ValueError(f"line 1 must name the columns; column {number} is {name!r}")
        if name in names[:number]:
            raise ValueError(f"line 1 names column {name!r} twice")
    return names


def _vectors(columns: dict[str, list[str]], numbers: Sequence[int]) -> list[list[float]]:
    """Remove the columns of the vectors, and return the vectors."""
    if EMBEDDING in columns:
        texts = columns.pop(EMBEDDING)
        return [_json_list(text, n) for text, n in zip(texts, numbers, strict=True)]
    names = [name for name in columns if name not in NOT_COMPONENTS]
    if not names:
        raise ValueError(f"has neither columns of numbers nor a column {EMBEDDING!r}")
    rows = zip(*(columns.pop(name) for name in names), strict=True)
    return [_numbers(row, names, n) for row, n in zip(rows, numbers, strict=True)]


def _values(columns: Mapping[str, list[str]]) -> dict[str, list[Any]]:
    """Read the other columns as texts, and a time as a number where it is one."""
    # CSV has no null: an empty cell is one.
    values: dict[str, list[Any]] = {
        name: [cell or None for cell in column] for name, column in columns.items()
    }
    if TIMESTAMP in values:
        values[TIMESTAMP] = [
            float(cell) if cell is not None and _is_number(cell) else cell
            for cell in values[TIMESTAMP]
        ]
    return values


def _json_list(text: str, line: int) -> list[float]:
    try:
        return msgspec.json.decode(text, type=list[float])
    except msgspec.DecodeError as error:
        raise ValueError(f"line {line}: {EMBEDDING} is not a JSON list of numbers") from error


def _numbers(cells: Sequence[str], names: Sequence[str], line: int) -> list[float]:
    try:
        return list(map(float, cells))
    except ValueError as error:
        at = [_is_number(cell) for cell in cells].index(False)
        raise ValueError(
            f"line {line}: column {names[at]!r} is {cells[at]!r:.40}; allowed are numbers, or one"
            f" column {EMBEDDING!r} of JSON lists"
        ) from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
