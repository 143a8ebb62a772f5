"""Daily partitions of the vectors: create them in advance, and drop them when they expire."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import psycopg
from psycopg import sql

_ADVISORY_LOCK = 0x456D6250  # "EmbP"
_PREFIX = "embedding_p"
_DAYS_AHEAD = 3
"""Days after today that have a partition."""
_HISTORY_DAYS = 35
"""Minimum days of drift history that are kept: a weekly season needs five weeks."""


def ensure(connection: psycopg.Connection) -> None:
    """Create the partitions of today and the next days that are missing.

    Raises
    ------
    psycopg.Error
        If the server refuses.
    """
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        row = connection.execute("select clock_timestamp()").fetchone()
        assert row is not None
        today = row[0].astimezone(UTC).date()
        existing = set(_days(connection))
        for day in (today + timedelta(days=n) for n in range(_DAYS_AHEAD + 1)):
            if day not in existing:
                _create(connection, day)


def history_days(retention_days: int) -> int:
    """Return for how many days the history of drift is kept."""
    return max(_HISTORY_DAYS, retention_days)


def drop_expired(connection: psycopg.Connection, retention_days: int) -> list[date]:
    """Drop the partitions that ended more than ``retention_days`` ago.

    The ids and idempotency keys of that time are deleted, too. The history of drift is kept for
    :func:`history_days`.

    Returns
    -------
    list of date
        The days whose partitions were dropped.
    """
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        # A drop waits for readers, and later readers wait for it. Give up soon: the next call
        # tries again.
        connection.execute("set local lock_timeout = '2s'")
        row = connection.execute("select clock_timestamp()").fetchone()
        assert row is not None
        oldest = row[0].astimezone(UTC).date() - timedelta(days=retention_days)
        expired = [day for day in _days(connection) if day < oldest]
        for day in expired:
            connection.execute(sql.SQL("drop table {}").format(_name(day)))
        start = datetime(oldest.year, oldest.month, oldest.day, tzinfo=UTC)
        connection.execute("delete from embedding_id where received_at < %s", [start])
        connection.execute("delete from idempotency_key where received_at < %s", [start])
        history_start = start - timedelta(days=history_days(retention_days) - retention_days)
        connection.execute("delete from drift_history where computed_at < %s", [history_start])
    return expired


def _days(connection: psycopg.Connection) -> list[date]:
    rows = connection.execute(
        "select relname from pg_inherits join pg_class on oid = inhrelid"
        " where inhparent = 'embedding'::regclass order by relname"
    )
    return [datetime.strptime(name, f"{_PREFIX}%Y%m%d").date() for (name,) in rows]


def _name(day: date) -> sql.Identifier:
    return sql.Identifier(f"{_PREFIX}{day:%Y%m%d}")


def _create(connection: psycopg.Connection, day: date) -> None:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    # Created on its own and then attached: attaching does not block readers and writers.
    # The storage option is repeated because partitions do not inherit it.
    statement = sql.SQL(
        "create table {name} (like embedding including all) with (toast_tuple_target = 8160);"
        "alter table embedding attach partition {name} for values from ({start}) to ({end})"
    )
    connection.execute(
        statement.format(
            name=_name(day),
            start=sql.Literal(start.isoformat()),
            end=sql.Literal((start + timedelta(days=1)).isoformat()),
        )
    )
