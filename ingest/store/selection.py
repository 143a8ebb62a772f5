"""Select the stored vectors of a model that a baseline is made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from ingest.store import copy
from ingest.store.dimension import require_dimension

MOST_VECTORS = 50_000
"""Maximum vectors of a baseline."""
_LONGEST = 256
"""Vectors of a stretch: about as many as a window holds in a quarter of an hour."""
_STRETCHES = 32
"""Stretches that a sample has at least: a detector is fitted to one half and calibrated by the
other."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Stored vectors of a model: the first, the last, or those of a span of time.

    If there are too many, the selection is a sample: stretches of consecutive vectors, spread
    evenly over all of them. Single vectors would not show which ones arrive together.

    Attributes
    ----------
    first, last : int or None
        How many of the first or last vectors. If either is set, the others are ignored.
    arrived : tuple of two datetimes, or None
        Those that arrived then or later, and before the second time. If it is set, start and end
        are ignored.
    start, end : datetime or None
        The span; None leaves that end open. The time of a vector is the client's timestamp or,
        without one, its arrival.
    most : int
        Maximum vectors that are selected.
    """

    first: int | None = None
    last: int | None = None
    arrived: tuple[datetime, datetime] | None = None
    start: datetime | None = None
    end: datetime | None = None
    most: int = MOST_VECTORS

    def __str__(self) -> str:
        if self.first is not None:
            return f"first {self.first}"
        if self.last is not None:
            return f"last {self.last}"
        first, last = self.arrived or (self.start, self.end)
        start = "the beginning" if first is None else _written(first)
        end = "now" if last is None else _written(last)
        return f"from {start} to {end}"


class Stretches(NamedTuple):
    """A sample: the first ``length`` vectors of every ``period``, ``number`` times."""

    length: int
    period: int
    number: int

    @classmethod
    def of(cls, vectors: int, most: int) -> Stretches:
        """Sample at most ``most`` of n vectors."""
        if vectors <= most:
            return cls(1, 1, vectors)
        length = min(max(most // _STRETCHES, 1), _LONGEST)
        count = most // length
        # The last stretch is at the end.
        return cls(length, (vectors - length) // max(count - 1, 1), count)

    def places(self, vectors: int) -> NDArray[np.intp]:
        """Return which of n vectors are in the sample, ascending; the first is 0."""
        places = np.arange(min(vectors, self.number * self.period))
        return places[places % self.period < self.length]


def select(
    connection: psycopg.Connection, model_name: str, selection: Selection
) -> NDArray[np.void]:
    """Read the selected vectors in the order of their arrival.

    Returns
    -------
    structured ndarray, shape (n,)
        Fields ``seq``, ``received_at`` and ``embedding``; at most ``selection.most``.

    Raises
    ------
    NotFound
        If there is no such model.
    """
    components = require_dimension(connection, model_name)
    chosen = _chosen(model_name, selection)
    with connection.transaction():
        counted = connection.execute(
            sql.SQL("select count(*) from ({chosen}) as chosen").format(chosen=chosen)
        ).fetchone()
        assert counted is not None
        sample = Stretches.of(counted[0], selection.most)
        # In two steps, so that only the vectors of the sample are read.
        statement = sql.SQL(
            "copy (with sample as materialized (select received_at, seq from"
            " (select *, row_number() over (order by received_at, seq) - 1 as place"
            "  from ({chosen}) as c) as chosen"
            " where place % {period} < {length} and place < {count} * {period})"
            " select seq, received_at, embedding from {vectors} order by received_at, seq)"
            " to stdout (format binary)"
        ).format(
            chosen=chosen,
            period=sql.Literal(sample.period),
            length=sql.Literal(sample.length),
            count=sql.Literal(sample.number),
            vectors=of_sample(model_name),
        )
        with connection.cursor() as cursor, cursor.copy(statement) as stream:
            return copy.decode(stream, components)


def of_sample(model_name: str) -> sql.Composed:
    """Return the source of a query: the columns of `embedding` for the rows of a CTE `sample`.

    The CTE has the columns ``received_at`` and ``seq``. Each vector is looked up by the index. A
    join would read whole partitions: the planner expects a sample to be a third of all rows.
    """
    return sql.SQL(
        "sample cross join lateral (select embedding, revised_cosine from embedding as e where"
        " e.model_name = {} and e.received_at = sample.received_at and e.seq = sample.seq"
        " offset 0) as e"
    ).format(sql.Literal(model_name))


def _chosen(model_name: str, selection: Selection) -> sql.Composed:
    head = sql.SQL("select received_at, seq from embedding where model_name = {}").format(
        sql.Literal(model_name)
    )
    if selection.first is not None:
        rest = sql.SQL(" order by received_at, seq limit {}").format(_limit(selection.first))
    elif selection.last is not None:
        # By number: once the clock was set back, older vectors have later times.
        rest = sql.SQL(
            " and seq > (select last_seq from model where model_name = {}) - {}"
            " order by received_at desc, seq desc limit {}"
        ).format(sql.Literal(model_name), *2 * [_limit(selection.last)])
    elif selection.arrived is not None:
        rest = sql.SQL(" and received_at >= {} and received_at < {}").format(
            *map(sql.Literal, selection.arrived)
        )
    else:
        rest = sql.SQL(" and coalesce(embedded_at, received_at) between {} and {}").format(
            sql.Literal(selection.start or "-infinity"), sql.Literal(selection.end or "infinity")
        )
    return head + rest


def _limit(vectors: int) -> sql.Literal:
    # PostgreSQL refuses larger numbers than a bigint.
    return sql.Literal(min(vectors, 2**63 - 1))


def _written(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
