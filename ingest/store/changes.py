"""Read what is new: the models, and the vectors of a model after a number.

The numbers of a model's vectors have no gaps and become visible in order (see the schema). So a
reader that continues after the last number it saw misses no vector, and can check that it did not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from psycopg.rows import class_row

from ingest.store import copy
from ingest.store.selection import of_sample
from ingest.store.shard import WHOLE, Shard

_MODULUS = 2**32
_FACTOR = 0x45D9F3B
"""Odd, and small enough for the products below to be bigints."""
_STEPS = 4
"""Levels that halve a sample."""

_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model as the store knows it.

    Attributes
    ----------
    model_name : str
    dimension : int
    last_seq : int
        Number of its newest vector.
    last_received_at : datetime or None
        When its newest vector arrived.
    mismatched_dimension : int or None
    mismatched_at : datetime or None
        Which other dimension was last refused, and when.
    baseline_version : int or None
        Version of the baseline in use.
    now : datetime
        The server's clock when the row was read.
    created_at : datetime
        Differs between a model and a removed model of the same name.
    baseline_used_at : datetime or None
        When that baseline was chosen.
    canaries_received_at : datetime or None
        When its newest canaries arrived; None if it has none.
    canary_median_distance, canary_max_distance : float or None
        Of these canaries from their reference: 1 - cosine.
    canary_gap : float or None
        Longest time in seconds between two of its newest sets of canaries; None if they are too
        few.
    """

    model_name: str
    dimension: int
    last_seq: int
    last_received_at: datetime | None
    mismatched_at: datetime | None
    baseline_version: int | None
    now: datetime
    mismatched_dimension: int | None = None
    created_at: datetime = _EARLIEST
    baseline_used_at: datetime | None = None
    canaries_received_at: datetime | None = None
    canary_median_distance: float | None = None
    canary_max_distance: float | None = None
    canary_gap: float | None = None

    @property
    def mismatch(self) -> tuple[int, datetime] | None:
        """Which other dimension was last refused, and when, if nobody has resolved it since."""
        dimension, moment = self.mismatched_dimension, self.mismatched_at
        if dimension is None or moment is None:
            return None
        # A baseline that was chosen since is of vectors that somebody wants.
        if self.baseline_used_at is not None and moment <= self.baseline_used_at:
            return None
        return dimension, moment


# Lateral, because it reads one row of the canaries of each model instead of all.
_SELECT = (
    "select model_name, dimension, last_seq, last_received_at, mismatched_dimension,"
    " mismatched_at, version as baseline_version, clock_timestamp() as now, created_at,"
    " used_at as baseline_used_at, canaries_received_at, canary_median_distance,"
    " canary_max_distance, canary_gap from model left join baseline_in_use using (model_name)"
    " left join lateral (select received_at as canaries_received_at,"
    " median_distance as canary_median_distance, max_distance as canary_max_distance,"
    " longest_gap_seconds as canary_gap from canary where canary.model_name = model.model_name"
    " order by received_at desc limit 1) as newest on true"
)


def models(connection: psycopg.Connection, shard: Shard = WHOLE) -> list[ModelRow]:
    """Read the models of a shard."""
    with connection.cursor(row_factory=class_row(ModelRow)) as cursor:
        cursor.execute(
            f"{_SELECT} where shard_of(model_name, %s) = %s order by model_name",
            (shard.total, shard.ordinal),
        )
        return cursor.fetchall()


def model(connection: psycopg.Connection, model_name: str) -> ModelRow | None:
    """Read one model; None if there is no such model."""
    with connection.cursor(row_factory=class_row(ModelRow)) as cursor:
        cursor.execute(f"{_SELECT} where model_name = %s", (model_name,))
        return cursor.fetchone()


def last_seqs(connection: psycopg.Connection, shard: Shard = WHOLE) -> dict[str, int]:
    """Read the number of the newest vector of each model of a shard."""
    return dict(
        connection.execute(
            "select model_name, last_seq from model where shard_of(model_name, %s) = %s",
            (shard.total, shard.ordinal),
        ).fetchall()
    )


def is_another(
    connection: psycopg.Connection, model_name: str, seq: int, received_at: float
) -> bool:
    """Return whether the vector of a number is another one than that stored at this time.

    Parameters
    ----------
    connection : psycopg.Connection
    model_name : str
    seq : int
    received_at : float
        Seconds since the epoch, as :func:`vectors` gives them.
    """
    of_number = "select from embedding where model_name = %s and seq = %s"
    # A float of this size is exact to a microsecond, as PostgreSQL's times are.
    moment = datetime.fromtimestamp(received_at, UTC)
    found = connection.execute(f"{of_number} and received_at = %s", (model_name, seq, moment))
    if found.fetchone() is not None:
        return False
    # A vector that was deleted is no restore. A restored store may have another one of any time, so
    # all partitions are searched.
    return connection.execute(of_number, (model_name, seq)).fetchone() is not None


def first_arrivals(
    connection: psycopg.Connection, model_name: str, most: int
) -> NDArray[np.float64]:
    """Return when the oldest stored vectors arrived, in seconds since the epoch, oldest first."""
    found = connection.execute(
        "select extract(epoch from received_at)::float8 from embedding where model_name = %s"
        " order by received_at, seq limit %s",
        (model_name, most),
    )
    return np.array([time for (time,) in found], np.float64)


def first_seq(connection: psycopg.Connection, model: ModelRow, since: datetime) -> int:
    """Return the number of the first vector that arrived at a time or later.

    One more than ``model.last_seq`` if there is none.
    """
    found = connection.execute(
        "select seq from embedding where model_name = %s and received_at >= %s"
        " order by received_at, seq limit 1",
        (model.model_name, since),
    ).fetchone()
    return model.last_seq + 1 if found is None else int(found[0])


def vectors(
    connection: psycopg.Connection,
    model: ModelRow,
    after: int,
    since: datetime | None,
    level: int = 0,
) -> NDArray[np.void]:
    """Read the vectors with numbers ``after`` < seq <= ``model.last_seq``, in order.

    Parameters
    ----------
    connection : psycopg.Connection
    model : ModelRow
    after : int
    since : datetime or None
        Leave out vectors that arrived before. The server then skips older partitions.
    level : int
        Leave out vectors that are not in the sample of this level; see :func:`is_sampled`.

    Returns
    -------
    structured ndarray, shape (n,)
        Fields ``seq``, ``received_at``, ``embedding`` and ``revised_cosine`` (NaN where a vector
        revises none): see :func:`ingest.store.copy.decode`.

    Raises
    ------
    ValueError
        If a vector has another dimension than the model: something else wrote it.
    """
    wanted = sql.SQL(
        "model_name = {name} and seq > {after} and seq <= {last} and received_at >= {since}"
    ).format(
        name=sql.Literal(model.model_name),
        after=sql.Literal(after),
        last=sql.Literal(model.last_seq),
        since=sql.Literal("-infinity" if since is None else since.isoformat()),
    )
    sample, source = sql.Composed([]), sql.SQL("embedding where {}").format(wanted)
    if level:
        # In two steps: the index tells which vectors are in the sample, and only those are read.
        sample = sql.SQL(
            "with sample as materialized (select received_at, seq from embedding"
            " where {wanted} and {hashed} < {bound})"
        ).format(wanted=wanted, hashed=_hashed(), bound=sql.Literal(_bound(level)))
        source = of_sample(model.model_name)
    statement = sql.SQL(
        "copy ({sample} select seq, received_at, embedding, coalesce(revised_cosine, 'NaN')"
        " from {source} order by received_at, seq) to stdout (format binary)"
    ).format(sample=sample, source=source)
    try:
        with (
            connection.transaction(),
            connection.cursor() as cursor,
            cursor.copy(statement) as stream,
        ):
            return copy.decode(stream, model.dimension, with_cosine=True)
    except ValueError:
        _check_dimensions(connection, model, after)
        raise


def sampled_ratio(level: int) -> float:
    """Return the share of the vectors that is in the sample of a level: four levels halve it."""
    ratio: float = 2 ** (-level / _STEPS)
    return ratio


def is_sampled(seqs: NDArray[np.int64], level: int) -> NDArray[np.bool_]:
    """Return which vectors are in the sample of a level, given their numbers, shape (n,).

    The sample of a higher level is a part of that of a lower one. The
    number alone decides, so every process chooses the same vectors.

    No period of the traffic is in step with it. A single multiplication would be: with that by the
    golden ratio, 144 sources that take turns are sampled in 66 of them only.

    Source: the hash of integers in the database H2 (Mueller), without its last step, which changes
    low bits.
    """
    hashed = seqs % _MODULUS
    for _ in range(2):
        hashed = (hashed >> 16 ^ hashed) * _FACTOR % _MODULUS
    chosen: NDArray[np.bool_] = hashed < _bound(level)
    return chosen


def _hashed() -> sql.Composable:
    """Return the hash in :func:`is_sampled` of the column ``seq``."""
    modulus, factor = sql.Literal(_MODULUS), sql.Literal(_FACTOR)
    hashed: sql.Composable = sql.SQL("(seq % {})").format(modulus)
    for _ in range(2):
        mixed = sql.SQL("(({hashed} >> 16) # {hashed})").format(hashed=hashed)
        hashed = sql.SQL("({} * {} % {})").format(mixed, factor, modulus)
    return hashed


def _bound(level: int) -> int:
    return int(_MODULUS * sampled_ratio(level))


def _check_dimensions(connection: psycopg.Connection, model: ModelRow, after: int) -> None:
    """Raise a ValueError that names the first vector of another dimension than the model."""
    with connection.transaction():
        found = connection.execute(
            "select seq, vector_dims(embedding) from embedding where model_name = %(name)s"
            " and seq > %(after)s and seq <= %(last)s and vector_dims(embedding) <> %(dimension)s"
            " order by seq limit 1",
            {
                "name": model.model_name,
                "after": after,
                "last": model.last_seq,
                "dimension": model.dimension,
            },
        ).fetchone()
    if found is not None:
        seq, dimension = found
        raise ValueError(
            f"the row of table embedding with seq {seq} has a vector of dimension {dimension};"
            f" the model's is {model.dimension}"
        )
