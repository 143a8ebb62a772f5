"""Daily partitions of the vectors: create them in advance, and drop them when they expire."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import NamedTuple

import psycopg
from psycopg import sql

from ingest.store import steps
from ingest.store.connection import changing_tables, take_turns

_log = logging.getLogger(__name__)

_ADVISORY_LOCK = 0x456D6250  # "EmbP"
_PREFIX = "embedding_p"
_DAYS_AHEAD = 3
"""Days after today that have a partition."""
_HISTORY_DAYS = 35
"""Minimum days of drift history that are kept: a weekly season needs five weeks."""


def ensure(connection: psycopg.Connection) -> None:
    """Create the partitions of today and the next days that are missing.

    A day that a partition of somebody else covers is left to it.

    Raises
    ------
    psycopg.Error
        If the server refuses.
    StoreUnavailable
        If another process makes or drops partitions for long, or changes the table.
    """
    with connection.transaction():
        today, found = _begin(connection), _partitions(connection)
        existing = {*map(_name, found.days), *found.others}
        for day in (today + timedelta(days=n) for n in range(_DAYS_AHEAD + 1)):
            if _name(day) not in existing:
                with changing_tables(connection):
                    _create(connection, day)


def warn_of_others(connection: psycopg.Connection) -> None:
    """Log the partitions that are not ours: with another name or other bounds, or the default."""
    with connection.transaction():
        others = _partitions(connection).others
    if others:
        _log.warning(
            "some partitions of the table embedding are not daily ones of this program; their"
            " vectors are used, but they never expire",
            extra={"partitions": ",".join(others)},
        )


def history_days(retention_days: int) -> int:
    """Return for how many days the history of drift is kept."""
    return max(_HISTORY_DAYS, retention_days)


def drop_expired(connection: psycopg.Connection, retention_days: int) -> list[date]:
    """Drop the partitions that ended more than ``retention_days`` ago.

    The ids and idempotency keys of that time are deleted, too. The history of drift and its
    explanations are kept for :func:`history_days`. Only days count on which this was called: after
    a clock has jumped, or after the service was stopped for long, everything is still kept for as
    many days.

    Parameters
    ----------
    connection : psycopg.Connection
        In autocommit mode.
    retention_days : int

    Returns
    -------
    list of date
        The days whose partitions were dropped.

    Raises
    ------
    StoreUnavailable
        If another process makes or drops partitions for long, or a long read would make the drop,
        and with it later readers, wait.
    """
    with connection.transaction():
        today = _begin(connection)
        connection.execute("insert into upkeep values (%s) on conflict do nothing", [today])
        oldest = _oldest(connection, today, retention_days)
        oldest_history = _oldest(connection, today, history_days(retention_days))
    if oldest is None:
        return []
    # Before the vectors: a vector that is sent again would be a duplicate of one that is gone.
    _delete(connection, "embedding_id", "received_at", oldest)
    _delete(connection, "idempotency_key", "received_at", oldest)
    if oldest_history is not None:
        _delete(connection, "drift_history", "computed_at", oldest_history)
        _delete(connection, "slice_history", "computed_at", oldest_history)
        _delete(connection, "explanation", "explained_at", oldest_history)
        connection.execute("delete from upkeep where day < %s", [oldest_history])
    with connection.transaction():
        _begin(connection)
        found = _partitions(connection).days
    expired = [day for day in found if day < oldest]
    for day in expired:
        with connection.transaction():
            _begin(connection)
            # Another process may have dropped it, and another store may have one of its name.
            with changing_tables(connection):
                connection.execute(sql.SQL("drop table if exists {}").format(found[day]))
    return expired


def _begin(connection: psycopg.Connection) -> date:
    """Keep other processes from changing partitions until the transaction ends; return today."""
    take_turns(connection, _ADVISORY_LOCK)
    row = connection.execute("select clock_timestamp()").fetchone()
    assert row is not None
    today: date = row[0].astimezone(UTC).date()
    return today


def _oldest(connection: psycopg.Connection, today: date, days: int) -> date | None:
    """Return the first of so many days before today; None if there were not as many."""
    row = connection.execute(
        "select day from upkeep where day < %s order by day desc offset %s limit 1",
        [today, days - 1],
    ).fetchone()
    return None if row is None else row[0]


def _delete(connection: psycopg.Connection, table: str, column: str, until: date) -> None:
    """Delete the rows of a table before a day, some at a time: writers wait for none for long."""
    before = sql.SQL("{} < %s").format(sql.Identifier(column))
    end = datetime.combine(until, time(), UTC)
    begin = partial(_begin, connection)
    steps.delete(connection, table, column, "-infinity", before, [end], begin)


class _Partitions(NamedTuple):
    """The partitions of the vectors: the tables of ours by day, and the names of the others."""

    days: dict[date, sql.Identifier]
    others: list[str]


def _partitions(connection: psycopg.Connection) -> _Partitions:
    """List the partitions. To be called in a transaction, which pins how bounds are written."""
    rows = connection.execute(
        "select nspname, relname, pg_get_expr(relpartbound, pg_class.oid)"
        " from pg_inherits join pg_class on pg_class.oid = inhrelid"
        " join pg_namespace on pg_namespace.oid = relnamespace"
        " where inhparent = 'embedding'::regclass order by relname"
    ).fetchall()
    days: dict[date, sql.Identifier] = {}
    others: list[str] = []
    for schema, name, bounds in rows:
        day = _day(name, bounds)
        if day is None:
            others.append(name)
        else:
            days[day] = sql.Identifier(schema, name)
    return _Partitions(days, others)


def _day(name: str, bounds: str) -> date | None:
    """Return the day of a partition; None if it is not one of ours."""
    found = re.fullmatch(rf"{_PREFIX}(\d{{8}})", name)
    with suppress(ValueError):
        if found is not None:
            day = datetime.strptime(found[1], "%Y%m%d").date()
            following = day + timedelta(days=1)
            if bounds == f"FOR VALUES FROM ('{day} 00:00:00+00') TO ('{following} 00:00:00+00')":
                return day
    return None


def _name(day: date) -> str:
    return f"{_PREFIX}{day:%Y%m%d}"


def _create(connection: psycopg.Connection, day: date) -> None:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    # Created on its own and then attached: attaching does not block readers and writers.
    # The storage option is repeated because partitions do not inherit it.
    statement = sql.SQL(
        "create table {name} (like embedding including all) with (toast_tuple_target = 8160);"
        "alter table embedding attach partition {name} for values from ({start}) to ({end})"
    )
    # The day may belong to a partition of somebody else, or have vectors in the default one.
    covered = suppress(psycopg.errors.InvalidObjectDefinition, psycopg.errors.CheckViolation)
    with covered, connection.transaction():
        connection.execute(
            statement.format(
                name=sql.Identifier(_name(day)),
                start=sql.Literal(start.isoformat()),
                end=sql.Literal((start + timedelta(days=1)).isoformat()),
            )
        )
