"""What was measured last: ``results.yaml``, by the command that measured it and by table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from bench.table import show

FILE = Path(__file__).parent / "results.yaml"

_HEADER = """\
# What each command measured last; `make docs` makes the tables of docs/scaling.md from it.
"""

Row = dict[str, float | str]


def report(
    command: str,
    name: str,
    title: str,
    head: Sequence[str],
    rows: Sequence[Sequence[float | str]],
    quick: bool,
) -> None:
    """Print a table and, unless it was a quick look, keep it.

    Parameters
    ----------
    command : str
        The module of ``bench`` that measures it.
    name : str
    title : str
    head : sequence of str
        What each column is; names it in what is kept.
    rows : sequence of sequences of number or str
        Numbers rounded to what they are worth.
    quick : bool
        A few small cases, to see that all works.
    """
    show(title, head, [list(map(text, row)) for row in rows])
    if not quick:
        kept = yaml.safe_load(FILE.read_text(encoding="utf-8"))
        of_command = kept.setdefault(f"python -m bench.{command}", {})
        of_command[name] = [dict(zip(head, row, strict=True)) for row in rows]
        written = yaml.safe_dump(kept, sort_keys=False, default_flow_style=None, width=200)
        FILE.write_text(_HEADER + written, encoding="utf-8")


def table(command: str, name: str) -> list[Row]:
    """Read a table."""
    kept = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    rows: list[Row] = kept[f"python -m bench.{command}"][name]
    return rows


def number(command: str, name: str, column: str, **where: float) -> float:
    """Read a number from the row of a table whose columns have these values.

    Raises
    ------
    ValueError
        If there is no such row, or several.
    """
    [row] = (row for row in table(command, name) if where.items() <= row.items())
    return float(row[column])


def text(value: float | str) -> str:
    """Write a number, or a text as it is."""
    return value if isinstance(value, str) else f"{value:,}"
