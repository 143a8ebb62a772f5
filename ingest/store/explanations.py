"""Explanations: what changed while a window drifted, as it was found out at the time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

_READ = sql.SQL(
    "select model_name, window_name, slice, extract(epoch from began_at)::float8, number,"
    " extract(epoch from explained_at)::float8, extract(epoch from seen_at)::float8,"
    " baseline_version, summary, told from explanation"
)


@dataclass(frozen=True, slots=True)
class ExplanationRow:
    """What changed in a window while it drifted. Times are in seconds since the epoch.

    Attributes
    ----------
    model_name, window_name, slice : str
        The slice is empty for all vectors of the model.
    began_at : float
        When the drift began. It names the drift.
    number : int
        0 for the explanation of the beginning; each later one of the same drift has the next.
    explained_at : float
    seen_at : float
        When the drift was last seen. In an explanation that has a newer one: when that was made.
    baseline_version : int
    summary : str
        One line.
    told : mapping
        The whole explanation, as JSON objects.
    """

    model_name: str
    window_name: str
    slice: str
    began_at: float
    number: int
    explained_at: float
    seen_at: float
    baseline_version: int
    summary: str
    told: Mapping[str, Any]


def newest(
    connection: psycopg.Connection,
    model_name: str,
    window_name: str,
    of_slice: str = "",
    began_until: float = math.inf,
) -> ExplanationRow | None:
    """Return the newest explanation of a window, if there is any.

    Parameters
    ----------
    connection : psycopg.Connection
    model_name, window_name, of_slice : str
    began_until : float
        Leave out drifts that began after this time, in seconds since the epoch: the clock was set
        back since.
    """
    found = connection.execute(
        _READ
        + sql.SQL(
            " where model_name = %s and window_name = %s and slice = %s"
            " and began_at <= to_timestamp(%s) order by explained_at desc limit 1"
        ),
        [model_name, window_name, of_slice, began_until],
    ).fetchone()
    return None if found is None else ExplanationRow(*found)


def keep(
    connection: psycopg.Connection, row: ExplanationRow, kept_seconds: float
) -> ExplanationRow:
    """Store an explanation, unless another process has explained the same since.

    Parameters
    ----------
    connection : psycopg.Connection
    row : ExplanationRow
    kept_seconds : float
        A drift that was last seen so long before this one began is another one.

    Returns
    -------
    ExplanationRow
        The one that counts: this one, or that of the other process.
    """
    with connection.transaction():
        key = f"{row.model_name}\n{row.window_name}\n{row.slice}"
        connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [key])
        other = newest(connection, row.model_name, row.window_name, row.slice, row.seen_at)
        if (
            other is not None
            and other.baseline_version == row.baseline_version
            and other.number >= row.number
            and other.seen_at > row.began_at - kept_seconds
            and (other.began_at == row.began_at or row.number == 0)
        ):
            return other
        connection.execute(
            "insert into explanation (model_name, window_name, slice, began_at, number,"
            " explained_at, seen_at, baseline_version, summary, told)"
            " select %s, %s, %s, to_timestamp(%s), %s, to_timestamp(%s), to_timestamp(%s), %s, %s,"
            " %s where exists (select from model where model_name = %s)",
            [
                row.model_name,
                row.window_name,
                row.slice,
                row.began_at,
                row.number,
                row.explained_at,
                row.seen_at,
                row.baseline_version,
                row.summary,
                Jsonb(row.told),
                row.model_name,
            ],
        )
    return row


def see(connection: psycopg.Connection, row: ExplanationRow, seen_at: float) -> None:
    """Note that the drift of this explanation was seen."""
    connection.execute(
        "update explanation set seen_at = greatest(seen_at, to_timestamp(%s))"
        " where (model_name, window_name, slice, number) = (%s, %s, %s, %s)"
        " and began_at = to_timestamp(%s)",
        [seen_at, row.model_name, row.window_name, row.slice, row.number, row.began_at],
    )


def keep_map(connection: psycopg.Connection, row: ExplanationRow, drawn: Mapping[str, Any]) -> None:
    """Store the map of an explanation, as JSON objects."""
    connection.execute(
        "update explanation set map = %s"
        " where (model_name, window_name, slice, number) = (%s, %s, %s, %s)"
        " and began_at = to_timestamp(%s)",
        [Jsonb(drawn), row.model_name, row.window_name, row.slice, row.number, row.began_at],
    )


def last_map(
    connection: psycopg.Connection, model_name: str, baseline_version: int
) -> Mapping[str, Any] | None:
    """Return the newest map of a baseline, if there is any."""
    found = connection.execute(
        "select map from explanation where model_name = %s and baseline_version = %s"
        " and map is not null order by explained_at desc limit 1",
        [model_name, baseline_version],
    ).fetchone()
    return None if found is None else found[0]


def maps(
    connection: psycopg.Connection, model_name: str, explained_at: Sequence[datetime]
) -> dict[str, Mapping[str, Any]]:
    """Return the maps of the explanations that were made at these times, by window.

    Slices have none.
    """
    found = connection.execute(
        "select window_name, map from explanation where model_name = %s and slice = ''"
        " and explained_at = any(%s) and map is not null",
        [model_name, list(explained_at)],
    )
    return dict(found.fetchall())


def between(
    connection: psycopg.Connection, model_name: str, since: float, until: float
) -> list[ExplanationRow]:
    """Return the explanations of the drifts of a model that were seen in a span, oldest first.

    Parameters
    ----------
    connection : psycopg.Connection
    model_name : str
    since, until : float
        Seconds since the epoch.
    """
    found = connection.execute(
        _READ
        + sql.SQL(
            " where model_name = %s and began_at <= to_timestamp(%s)"
            " and seen_at >= to_timestamp(%s) order by explained_at, window_name, slice"
        ),
        [model_name, until, since],
    )
    return [ExplanationRow(*row) for row in found]


def drifted(
    connection: psycopg.Connection,
    model_name: str,
    window_name: str,
    baseline_version: int,
    since: float,
    until: float,
) -> set[str]:
    """Return the slices of a window of which a drift in a span was explained.

    The name is empty if that was a drift of all vectors.

    Parameters
    ----------
    connection : psycopg.Connection
    model_name, window_name : str
    baseline_version : int
    since, until : float
        Seconds since the epoch.
    """
    found = connection.execute(
        "select distinct slice from explanation where model_name = %s and window_name = %s"
        " and baseline_version = %s and began_at <= to_timestamp(%s)"
        " and seen_at >= to_timestamp(%s)",
        [model_name, window_name, baseline_version, until, since],
    )
    return {of_slice for (of_slice,) in found}


class LastSeen(NamedTuple):
    """When drift was last seen, in seconds since the epoch; minus infinity if never."""

    whole: float
    """Of all vectors of a window."""
    slices: float
    """Of a slice."""


def last_seen(connection: psycopg.Connection, model_name: str, baseline_version: int) -> LastSeen:
    """Return when a drift from a baseline was last seen."""
    row = connection.execute(
        "select coalesce(extract(epoch from max(seen_at) filter (where slice = '')), '-infinity')"
        "::float8, coalesce(extract(epoch from max(seen_at) filter (where slice <> '')),"
        " '-infinity')::float8 from explanation where model_name = %s and baseline_version = %s",
        [model_name, baseline_version],
    ).fetchone()
    assert row is not None
    return LastSeen(*row)


def drifts(
    connection: psycopg.Connection,
    model_name: str,
    since: float,
    until: float,
    most: int,
    of_slice: str = "",
) -> list[ExplanationRow]:
    """Return the newest explanation of each drift that was seen in a span, the newest drift first.

    Of what was told, they have only what the settings allowed then.

    Parameters
    ----------
    connection : psycopg.Connection
    model_name : str
    since, until : float
        Seconds since the epoch.
    most : int
        Drifts, at most.
    of_slice : str
        The only slice that counts; empty for all vectors and every slice.
    """
    found = connection.execute(
        "select model_name, window_name, slice, extract(epoch from began_at)::float8, number,"
        " extract(epoch from explained_at)::float8, extract(epoch from seen_at)::float8,"
        " baseline_version, summary,"
        " jsonb_build_object('texts', told->'texts', 'metadata_keys', told->'metadata_keys')"
        " from (select distinct on (window_name, slice, began_at) * from explanation"
        " where model_name = %s and began_at <= to_timestamp(%s) and seen_at >= to_timestamp(%s)"
        " and slice = coalesce(nullif(%s, ''), slice)"
        " order by window_name, slice, began_at, explained_at desc) newest"
        " order by began_at desc limit %s",
        [model_name, until, since, of_slice, most],
    )
    return [ExplanationRow(*row) for row in found]


def at(
    connection: psycopg.Connection, model_name: str, moment: float, kept_seconds: float
) -> list[ExplanationRow]:
    """Return what was known of each window that drifted at a time: one explanation of each.

    That is the newest one before the time. An alert may be a little older than the first
    explanation of its drift: then it is that one.

    Parameters
    ----------
    connection : psycopg.Connection
    model_name : str
    moment : float
        Seconds since the epoch.
    kept_seconds : float
        How long a drift goes on after it was last seen.
    """
    chosen: dict[tuple[str, str], ExplanationRow] = {}
    around = between(connection, model_name, moment - kept_seconds, moment + kept_seconds)
    for row in around:
        series = row.window_name, row.slice
        if row.explained_at <= moment or series not in chosen:
            chosen[series] = row
    return list(chosen.values())
