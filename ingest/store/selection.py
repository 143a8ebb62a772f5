"""Select the stored vectors of a model that a baseline is made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from ingest.store import copy
from ingest.store.dimension import require_dimension

MOST_VECTORS = 50_000
"""Maximum vectors of a baseline. Of a larger selection, every n-th vector is taken."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Stored vectors of a model: the first, the last, or those of a span of time.

    Attributes
    ----------
    first, last : int or None
        How many of the first or last vectors. If either is set, the others are ignored.
    start, end : datetime or None
        The span; None leaves that end open. The time of a vector is the client's timestamp or,
        without one, its arrival.
    """

    first: int | None = None
    last: int | None = None
    start: datetime | None = None
    end: datetime | None = None

    def __str__(self) -> str:
        if self.first is not None:
            return f"first {self.first}"
        if self.last is not None:
            return f"last {self.last}"
        start = "the beginning" if self.start is None else f"{self.start:%Y-%m-%d %H:%M:%S} UTC"
        end = "now" if self.end is None else f"{self.end:%Y-%m-%d %H:%M:%S} UTC"
        return f"from {start} to {end}"


def select(
    connection: psycopg.Connection, model_name: str, selection: Selection
) -> NDArray[np.void]:
    """Read the selected vectors in the order of their arrival.

    Returns
    -------
    structured ndarray, shape (n,)
        Fields ``seq``, ``received_at`` and ``embedding``; at most ``MOST_VECTORS``.

    Raises
    ------
    NotFound
        If there is no such model.
    """
    components = require_dimension(connection, model_name)
    chosen = _chosen(model_name, selection)
    counted = connection.execute(
        sql.SQL("select count(*) from ({chosen}) as chosen").format(chosen=chosen)
    ).fetchone()
    assert counted is not None
    stride = -(-counted[0] // MOST_VECTORS) or 1
    statement = sql.SQL(
        "copy (select seq, received_at, embedding from"
        " (select *, row_number() over (order by received_at, seq) as place from ({chosen}) as c)"
        " as chosen where place % {stride} = 0 order by received_at, seq) to stdout (format binary)"
    ).format(chosen=chosen, stride=sql.Literal(stride))
    with connection.cursor() as cursor, cursor.copy(statement) as stream:
        return copy.decode(stream, components)


def _chosen(model_name: str, selection: Selection) -> sql.Composed:
    head = sql.SQL("select * from embedding where model_name = {}").format(sql.Literal(model_name))
    if selection.first is not None:
        rest = sql.SQL(" order by received_at, seq limit {}").format(sql.Literal(selection.first))
    elif selection.last is not None:
        rest = sql.SQL(" order by received_at desc, seq desc limit {}").format(
            sql.Literal(selection.last)
        )
    else:
        rest = sql.SQL(" and coalesce(embedded_at, received_at) between {} and {}").format(
            sql.Literal(selection.start or "-infinity"), sql.Literal(selection.end or "infinity")
        )
    return head + rest
