"""The last measurements: ``results.yaml``, by command and table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import yaml

from bench.table import show

FILE = Path(__file__).parent / "results.yaml"

_HEADER = """\
# The last measurements of each command. `make docs` computes docs/scaling.md from them.
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
    """Print a table and, unless the run was quick, keep it in ``results.yaml``.

    Parameters
    ----------
    command : str
        The module of ``bench`` that measures it.
    name : str
    title : str
    head : sequence of str
        Names of the columns, also in the file.
    rows : sequence of sequences of number or str
        Numbers, rounded to their precision.
    quick : bool
        Whether only a few small cases ran, as a check that everything works.
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
    return _parse(FILE.read_text(encoding="utf-8"))[f"python -m bench.{command}"][name]


@cache
def _parse(text: str) -> dict[str, dict[str, list[Row]]]:
    # The plan reads dozens of numbers when it is imported.
    kept: dict[str, dict[str, list[Row]]] = yaml.safe_load(text)
    return kept


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
    """Format a number; a text stays as it is."""
    return value if isinstance(value, str) else f"{value:,}"
