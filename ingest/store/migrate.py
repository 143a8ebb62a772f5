"""Apply the migrations ``migrations/NNNN_name.sql``, each once and in order."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources

import psycopg

from ingest.runtime.errors import SettingsError
from ingest.store import partitions
from ingest.store.connection import changing_tables, store_table, take_turns, unavailable
from ingest.store.rights import elsewhere, owns, role

_log = logging.getLogger(__name__)

_ADVISORY_LOCK = 0x456D6244  # "EmbD"
_MINIMUM_PGVECTOR = (0, 7)  # older ones are not tested
_ALREADY_THERE = (
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateObject,
    psycopg.errors.DuplicateFunction,
)


def migrate(connection: psycopg.Connection) -> list[str]:
    """Apply the migrations that are missing, and create the partitions of the next days.

    A role that does not own the tables leaves the partitions to their owner.

    Safe to run more than once and from several processes at once: they take turns, and each
    migration is committed together with the record of it. A schema that is up to date is only
    read. A schema that a newer release has migrated is used as it is, because migrations only add.

    Parameters
    ----------
    connection : psycopg.Connection
        In autocommit mode.

    Returns
    -------
    list of str
        Names of the migrations that this call applied.

    Raises
    ------
    SettingsError
        If the server has no pgvector or an old one, if the role lacks the privileges, or if the
        schema has tables of another program.
    StoreUnavailable
        If the server cannot be reached, or is read-only and the schema is not up to date. Or if
        another process takes long, or uses a table that must be changed.
    """
    migrations = _migrations()
    with unavailable(), _permitted(connection):
        before = _applied(connection)
        _warn_if_newer(before - {name for name, _ in migrations})
        applied = [
            name
            for name, statements in migrations
            if name not in before and _apply(connection, name, statements)
        ]
        if owns(connection):
            partitions.ensure(connection)
            partitions.warn_of_others(connection)
        else:
            _log.warning(
                "the role does not own the tables, so it leaves upkeep to a process with"
                " database.admin_connection_string",
                extra={"role": role(connection)},
            )
    return applied


@contextmanager
def _permitted(connection: psycopg.Connection) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise SettingsError(
            f"the role {role(connection)} may not bring the schema up to date:"
            f" {error.diag.message_primary}; set database.admin_connection_string to the owner of"
            " the tables, or run, as the owner, embedding-drift migrate --grant"
            f" {shlex.quote(role(connection))}{elsewhere(connection)}"
        ) from error
    except psycopg.errors.InvalidSchemaName as error:
        raise SettingsError(
            f"the search_path of the role {role(connection)} names no schema that exists and that"
            " the role may use: run, in SQL, create schema NAME authorization"
            f" {role(connection)}, or set another search_path"
        ) from error


def _warn_if_newer(unknown: set[str]) -> None:
    if unknown:
        _log.warning(
            "the schema is newer than this program; the program uses it as it is",
            extra={"unknown_migrations": ",".join(sorted(unknown))},
        )


def _migrations() -> list[tuple[str, str]]:
    folder = resources.files("ingest.store") / "migrations"
    files = [f for f in folder.iterdir() if re.fullmatch(r"\d{4}_\w+\.sql", f.name)]
    return sorted((f.name.removesuffix(".sql"), f.read_text(encoding="utf-8")) for f in files)


def _applied(connection: psycopg.Connection) -> set[str]:
    # The table is not created here: for a schema that is up to date, a read-only server or a role
    # without the privilege to create is enough. Without a store, a table of that name is foreign.
    if store_table(connection) is None:
        return set()
    return {name for (name,) in connection.execute("select name from migration")}


def _apply(connection: psycopg.Connection, name: str, statements: str) -> bool:
    """Apply one migration. Return False if another process has applied it."""
    with connection.transaction():
        # The lock belongs to the transaction, not to the session: behind a pooler, each
        # transaction may run in another session.
        take_turns(connection, _ADVISORY_LOCK)
        # Before the query below: a session that saw no table before it waited does not look again.
        connection.execute(
            "create table if not exists migration ("
            " name text primary key, applied_at timestamptz not null default clock_timestamp())"
        )
        applied = _applied(connection)
        if name in applied:
            return False
        if not applied:
            _check_names(connection)
        _check_pgvector(connection)
        try:
            with changing_tables(connection):
                connection.execute(statements)
        except _ALREADY_THERE as error:
            raise _foreign(str(error.diag.message_primary)) from error
        connection.execute("insert into migration (name) values (%s)", [name])
    return True


def _check_names(connection: psycopg.Connection) -> None:
    """Check that no table of another program has the name of one of ours, before ours are made."""
    every = "\n".join(statements for _, statements in _migrations())
    rows = connection.execute(
        "select name from unnest(%s::text[]) as name"
        " where to_regclass(quote_ident(current_schema()) || '.' || name) is not null"
        " union all select 'migration' where 2 > (select count(*) from pg_attribute"
        "  where attrelid = 'migration'::regclass and attname in ('name', 'applied_at'))",
        [re.findall(r"^create (?:table|view) (\w+)", every, re.MULTILINE)],
    ).fetchall()
    if rows:
        raise _foreign(", ".join(name for (name,) in rows))


def _foreign(what: str) -> SettingsError:
    return SettingsError(
        f"the schema has tables that are not of this program ({what}); give the store a schema or a"
        " database of its own"
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
