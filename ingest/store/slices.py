"""Slices: the values that vectors have of some keys of their metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psycopg
from psycopg import sql

LONGEST = 64
"""Characters of a value that are read; one more tells that there are more."""

Values = Mapping[int, tuple[str | None, ...]]
"""By number of the vector: its value of each key, None where it has none."""


def of_vectors(
    connection: psycopg.Connection,
    model_name: str,
    keys: Sequence[str],
    seqs: Sequence[int],
    since: float,
    until: float,
) -> Values:
    """Read the values of some vectors of a model.

    Parameters
    ----------
    connection : psycopg.Connection
    model_name : str
    keys : sequence of str
    seqs : sequence of int
        Numbers of the vectors. Those that have expired are missing in the answer.
    since, until : float
        When the oldest and the newest of them arrived, in seconds since the epoch.
    """
    statement = sql.SQL(
        "select seq, {values} from embedding where model_name = {name} and seq = any({seqs})"
        # One second of tolerance: the times were converted to floating point.
        " and received_at between to_timestamp({since}) and to_timestamp({until})"
    ).format(
        values=_values(keys),
        name=sql.Literal(model_name),
        seqs=sql.Literal(list(seqs)),
        since=sql.Literal(since - 1),
        until=sql.Literal(until + 1),
    )
    return {seq: tuple(values) for seq, *values in connection.execute(statement)}


def of_baseline(
    connection: psycopg.Connection, model_name: str, version: int, keys: Sequence[str]
) -> Values:
    """Read the values of the vectors of one version of a model's baseline."""
    statement = sql.SQL(
        "select seq, {values} from baseline_embedding"
        " where model_name = {name} and version = {version}"
    ).format(values=_values(keys), name=sql.Literal(model_name), version=sql.Literal(version))
    return {seq: tuple(values) for seq, *values in connection.execute(statement)}


def _values(keys: Sequence[str]) -> sql.Composable:
    """Select the value of each key as text; objects, lists and null are no values."""
    value = sql.SQL(
        "case when jsonb_typeof(metadata -> {key}) in ('string', 'number', 'boolean')"
        " then left(metadata ->> {key}, {length}) end"
    )
    return sql.SQL(", ").join(
        value.format(key=sql.Literal(key), length=sql.Literal(LONGEST + 1)) for key in keys
    )
