"""Numbered migrations: ``migrations/NNNN_name.sql``, each applied once, in order."""

from __future__ import annotations

import re
from importlib import resources

import psycopg

from ingest.runtime.errors import SettingsError
from ingest.store import partitions

_ADVISORY_LOCK = 0x456D6244  # "EmbD"
_MINIMUM_PGVECTOR = (0, 7)  # the first with halfvec, which indexes more than 2,000 dimensions


def migrate(connection: psycopg.Connection) -> list[str]:
    """Apply the migrations that are missing and make the next days' partitions.

    Safe to run twice and from several processes at once: they take turns, and each migration
    commits together with the record that it was applied.

    Parameters
    ----------
    connection : psycopg.Connection
        In autocommit mode.

    Returns
    -------
    list of str
        Names of the migrations applied by this call.

    Raises
    ------
    SettingsError
        If the server has no pgvector, or one that is too old.
    """
    applied = []
    for name, statements in _migrations():
        with connection.transaction():
            # Held to the end of the transaction, not of the session: a pooler between us and
            # the server may give every transaction another session.
            connection.execute("select pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
            if not _is_applied(connection, name):
                _check_pgvector(connection)
                connection.execute(statements)
                connection.execute("insert into migration (name) values (%s)", [name])
                applied.append(name)
    partitions.ensure(connection)
    return applied


def _migrations() -> list[tuple[str, str]]:
    folder = resources.files("ingest.store") / "migrations"
    files = [f for f in folder.iterdir() if re.fullmatch(r"\d{4}_\w+\.sql", f.name)]
    return sorted((f.name.removesuffix(".sql"), f.read_text(encoding="utf-8")) for f in files)


def _is_applied(connection: psycopg.Connection, name: str) -> bool:
    connection.execute(
        "create table if not exists migration ("
        " name text primary key, applied_at timestamptz not null default clock_timestamp())"
    )
    return (
        connection.execute("select 1 from migration where name = %s", [name]).fetchone() is not None
    )


def _check_pgvector(connection: psycopg.Connection) -> None:
    row = connection.execute(
        "select coalesce(installed_version, default_version) from pg_available_extensions"
        " where name = 'vector'"
    ).fetchone()
    wanted = ".".join(map(str, _MINIMUM_PGVECTOR))
    if row is None:
        raise SettingsError(
            f"the PostgreSQL server has no pgvector extension; install pgvector {wanted} or newer"
        )
    version = tuple(int(part) for part in row[0].split(".")[:2])
    if version < _MINIMUM_PGVECTOR:
        raise SettingsError(
            f"the database's pgvector is {row[0]}; {wanted} or newer is needed:"
            " alter extension vector update"
        )
