"""The catalogue: whether a table can be watched, and what would make that cheaper."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import args_row

from ingest.runtime.errors import Problem, SettingsError, SourceUnavailable, StoreUnavailable
from ingest.store.connection import connect
from ingest.watch.sources.postgres import LATEST_SECONDS, NUMBERS, TIMESTAMPS, Column, Source

_VECTORS = ("vector", "halfvec")
_GROWING = ("int2", "int4", "int8")


_log = logging.getLogger(__name__)


def find(
    connection_string: str, table: str, vector: str, id_: str, time: str | None = None
) -> Source:
    """Find a table and its columns, and log what would make it cheaper to watch.

    Parameters
    ----------
    connection_string : str
        To the server that has the table; comes from a command line, so without a password.
    table, vector, id_, time
        See :func:`describe`.

    Raises
    ------
    SettingsError
        Naming everything that keeps the table from being watched.
    SourceUnavailable
        If the server cannot be reached.
    """
    _check(connection_string)
    try:
        with connect(connection_string) as connection:
            source = describe(connection, table, vector, id_, time)
            for line in advice(connection, source):
                _log.warning(line, extra={"table": str(source)})
    except StoreUnavailable as error:
        raise SourceUnavailable(f"the server with table {table}: {error.detail}") from error
    return source


def _check(connection_string: str) -> None:
    try:
        parameters = conninfo_to_dict(connection_string)
    except psycopg.ProgrammingError as error:
        raise SettingsError(
            "--source is no connection string; allowed are a URI (postgresql://HOST/DATABASE),"
            " key=value pairs (host=... dbname=...) and service=NAME"
        ) from error
    if {"password", "sslpassword"} & set(parameters):
        raise SettingsError(
            "--source has a password, which everyone on this machine could read there; give it by"
            " PGPASSFILE, PGSERVICEFILE or PGPASSWORD"
        )


def describe(
    connection: psycopg.Connection, table: str, vector: str, id_: str, time: str | None
) -> Source:
    """Find a table and its columns.

    Parameters
    ----------
    connection : psycopg.Connection
        To the server that has the table.
    table : str
        As in SQL: with or without its schema, and in double quotes where SQL wants them.
    vector, id_, time : str or None
        Names of columns.

    Raises
    ------
    SettingsError
        Naming everything that keeps the table from being watched.
    """
    oid, schema, name = _find(connection, table)
    columns = _columns(connection, oid)
    allowed = {"--column": (vector, _VECTORS), "--id": (id_, ()), "--time": (time, ())}
    if time is None:
        allowed["--id"] = (id_, _GROWING)
    else:
        allowed["--time"] = (time, (*TIMESTAMPS, *NUMBERS))
    problems = [
        Problem(option, reason)
        for option, (column, kinds) in allowed.items()
        if column is not None and (reason := _fault(columns, column, kinds)) is not None
    ]
    if problems:
        raise SettingsError(f"table {schema}.{name} cannot be watched:", problems)
    source = Source(
        connection.info.dbname,
        schema,
        name,
        columns[vector],
        columns[id_],
        None if time is None else columns[time],
    )
    _check_seconds(connection, source)
    return source


def advice(connection: psycopg.Connection, source: Source) -> Iterator[str]:
    """Say what indexes a table lacks; a view's are those of its tables, and not looked for."""
    names = [source.schema, source.table]
    view = "select from pg_views where schemaname = %s and viewname = %s"
    if connection.execute(view, names).fetchone() is not None:
        return
    rows = connection.execute(
        "select indisunique, array(select attname::text from unnest(indkey) with ordinality"
        "  as key (number, place) join pg_attribute on attrelid = indrelid and attnum = number"
        "  where place <= indnkeyatts order by place)"
        " from pg_index join pg_class on pg_class.oid = indrelid"
        " join pg_namespace on pg_namespace.oid = relnamespace"
        " where nspname = %s and relname = %s and indisvalid and indpred is null",
        names,
    ).fetchall()
    ordering = source.order[0].name
    if not any(columns[:1] == [ordering] for _, columns in rows):
        yield f"no index begins with {ordering}, so that every poll reads the whole table"
    identifying = {column.name for column in source.order}
    if not any(is_unique and identifying.issuperset(columns) for is_unique, columns in rows):
        yield (
            f"no unique index on {', '.join(sorted(identifying))}; of rows that are equal there,"
            " one is counted"
        )


def _check_seconds(connection: psycopg.Connection, source: Source) -> None:
    if source.time is None or source.time.kind not in NUMBERS:
        return
    latest = sql.SQL("select max({})::float8 from {}").format(source.time.quoted, source.quoted)
    row = connection.execute(latest).fetchone()
    if row is not None and row[0] is not None and row[0] > LATEST_SECONDS:
        raise SettingsError(
            f"--time {source.time.name}: {row[0]:.0f} is no time in seconds since the epoch; it"
            " looks like milliseconds. A view may divide it, with an index on the expression."
        )


def _find(connection: psycopg.Connection, table: str) -> tuple[int, str, str]:
    try:
        row = connection.execute(
            "select pg_class.oid, nspname, relname from pg_class"
            " join pg_namespace on pg_namespace.oid = relnamespace"
            " where pg_class.oid = to_regclass(%s)",
            [table],
        ).fetchone()
    except psycopg.ProgrammingError as error:
        raise SettingsError(f"--table {table}: {error.diag.message_primary}") from error
    if row is None:
        raise SettingsError(
            f"--table {table}: database {connection.info.dbname} has no such table, or it is in a"
            " schema to be named too (SCHEMA.TABLE); capitals need double quotes within the name"
        )
    oid, schema, name = row
    return oid, schema, name


def _columns(connection: psycopg.Connection, oid: int) -> dict[str, Column]:
    with connection.cursor(row_factory=args_row(Column)) as cursor:
        cursor.execute(
            "select attname, format_type(atttypid, atttypmod), typname, nspname,"
            " has_column_privilege(attrelid, attnum, 'select')"
            " from pg_attribute join pg_type on pg_type.oid = atttypid"
            " join pg_namespace on pg_namespace.oid = typnamespace"
            " where attrelid = %s and attnum > 0 and not attisdropped order by attnum",
            [oid],
        )
        return {column.name: column for column in cursor.fetchall()}


def _fault(columns: dict[str, Column], name: str, kinds: tuple[str, ...]) -> str | None:
    """Say what is wrong with a column, if anything; no kinds allow any."""
    column = columns.get(name)
    if column is None:
        return f"there is no column {name!r}; there are {', '.join(columns)}"
    if not column.is_readable:
        return f"the role may not read column {name!r}: grant select on the table"
    if not kinds or column.kind in kinds:
        return None
    if kinds == _GROWING:
        return (
            f"column {name!r} is of type {column.declared}; without --time, rows are followed by"
            f" ids that grow, of type {' or '.join(kinds)}"
        )
    return f"column {name!r} is of type {column.declared}; allowed are {', '.join(kinds)}"
