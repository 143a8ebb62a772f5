"""Find a table of PostgreSQL, check that it can be watched, and say what would make it cheaper."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import args_row

from ingest.files.names import TEXT
from ingest.runtime import timestamps
from ingest.runtime.errors import Problem, SettingsError, SourceUnavailable, StoreUnavailable
from ingest.store.connection import connect
from ingest.watch.sources.postgres import (
    ARRAYS,
    JSON,
    NUMBERS,
    PGVECTOR,
    TEXTS,
    TIMESTAMPS,
    Column,
    Field,
    PostgresSource,
    Table,
)
from ingest.watch.sources.postgres_scan import PostgresScan
from ingest.watch.sources.source import Location

_VECTORS = (*PGVECTOR, *ARRAYS, *TEXTS)
"""Types of a column of vectors."""
_SHOWN = ("vector", "halfvec", "real[]", "double precision[]", "numeric[]", *TEXTS)
"""The same, as SQL writes them."""
_GROWING = ("int2", "int4", "int8")
"""Types of an id that can order the rows, because newer rows have greater ones."""


_ROWS = 1_000
"""Rows in which the keys of the metadata are looked for."""

_STORED = ("r", "p", "m")
"""Kinds of relations that hold rows in files: tables, partitioned tables, materialized views."""


def find(connection_string: str, location: Location) -> PostgresSource | PostgresScan:
    """Find a table.

    Parameters
    ----------
    connection_string : str
        To the server that has the table. It comes from a command line, so it must not contain a
        password.
    location : Location
        See :func:`describe`.

    Raises
    ------
    SettingsError
        If the table cannot be watched; lists every reason.
    SourceUnavailable
        If the server cannot be reached.
    """
    _check_connection_string(connection_string)
    try:
        with connect(connection_string) as connection:
            table = describe(connection, location)
            is_scanned = location.sample is not None
            lines = [*advice(connection, table, is_scanned=is_scanned), *absent(connection, table)]
            if location.sample is not None:
                return PostgresScan(connection_string, table, location.sample, lines)
            return PostgresSource(connection_string, table, lines)
    except StoreUnavailable as error:
        raise SourceUnavailable(
            f"the server with table {location.table}: {error.detail}"
        ) from error


def _check_connection_string(connection_string: str) -> None:
    try:
        parameters = conninfo_to_dict(connection_string)
    except psycopg.ProgrammingError:
        # "from None": libpq's message quotes the string, which may have a password.
        raise SettingsError(
            "--source is not a connection string; allowed are a URI (postgresql://HOST/DATABASE),"
            " key=value pairs (host=... dbname=...) and service=NAME"
        ) from None
    if {"password", "sslpassword"} & set(parameters):
        raise SettingsError(
            "--source has a password, which everyone on this machine can read there; set it in"
            " PGPASSFILE, PGSERVICEFILE or PGPASSWORD"
        )


def describe(connection: psycopg.Connection, location: Location) -> Table:
    """Read what the catalogue says of a table and its columns.

    Parameters
    ----------
    connection : psycopg.Connection
        To the server that has the table.
    location : Location
        The table is named as in SQL: with or without its schema, in double quotes where SQL
        needs them. Columns are named without quotes.

    Raises
    ------
    SettingsError
        If the table cannot be watched; lists every reason.
    """
    oid, schema, name, relation = _find(connection, location.table)
    columns = _columns(connection, oid)
    vector, id_, time = location.vector or "embedding", location.id or "id", location.time
    is_ordered = location.sample is None
    if time is not None and not is_ordered:
        raise SettingsError("--sample needs no order: leave out --time")
    wanted: list[tuple[str, str, tuple[str, ...]]] = [
        ("--column", vector, _VECTORS),
        ("--id", id_, _GROWING if time is None and is_ordered else ()),
    ]
    if time is not None:
        wanted.append(("--time", time, (*TIMESTAMPS, *NUMBERS)))
    kept = {key: _divided(columns, name) for key, name in location.kept.items()}
    for key, (column, path) in kept.items():
        is_text = key == TEXT and location.text is not None
        wanted.append(("--text-column" if is_text else "--metadata", column, JSON if path else ()))
    problems = [
        Problem(option, reason)
        for option, column, kinds in wanted
        if (reason := _fault(columns, column, kinds)) is not None
    ]
    if problems:
        raise SettingsError(f"table {schema}.{name} cannot be watched:", problems)
    table = Table(
        connection.info.dbname,
        schema,
        name,
        columns[vector],
        columns[id_],
        None if time is None else columns[time],
        relation in _STORED,
        tuple(
            Field(key, location.kept[key], columns[column], path)
            for key, (column, path) in kept.items()
        ),
        (True, [id_]) in _indexes(connection, schema, name),
    )
    _check_seconds(connection, table)
    return table


def absent(connection: psycopg.Connection, table: Table) -> Iterator[str]:
    """Name the keys within objects that none of some rows has: they may be misspelt."""
    fields = [field for field in table.metadata if field.path]
    if not fields:
        return
    names = [sql.Identifier(str(place)) for place in range(len(fields))]
    query = sql.SQL(
        "select count(*), {counts} from"
        " (select {values} from {table} where {present} limit %s) as found"
    ).format(
        counts=sql.SQL(", ").join(map(sql.SQL("count({})").format, names)),
        values=sql.SQL(", ").join(
            sql.SQL("{} as {}").format(field.value, name)
            for field, name in zip(fields, names, strict=True)
        ),
        table=table.quoted,
        present=table.present,
    )
    row = connection.execute(query, [_ROWS]).fetchone()
    assert row is not None
    for field, count in zip(fields, row[1:], strict=True):
        if row[0] and not count:
            yield f"metadata: none of {row[0]} rows has {field.name}"


def _divided(columns: dict[str, Column], name: str) -> tuple[str, tuple[str, ...]]:
    """Divide a name into that of a column and the keys within it."""
    column, *path = name.split(".")
    return (name, ()) if name in columns or column not in columns else (column, tuple(path))


def advice(connection: psycopg.Connection, table: Table, *, is_scanned: bool) -> Iterator[str]:
    """Name the indexes that a table lacks. The tables below a view are not examined.

    Parameters
    ----------
    connection : psycopg.Connection
    table : Table
    is_scanned : bool
        Whether every poll looks through the whole table anyway.
    """
    view = "select from pg_views where schemaname = %s and viewname = %s"
    if connection.execute(view, [table.schema, table.name]).fetchone() is not None:
        return
    rows = _indexes(connection, table.schema, table.name)
    ordering = table.order[0].name
    if not is_scanned and not any(columns[:1] == [ordering] for _, columns in rows):
        yield f"no index begins with {ordering}: every poll reads the whole table"
    identifying = {column.name for column in table.order}
    if not any(is_unique and identifying.issuperset(columns) for is_unique, columns in rows):
        yield (
            f"no unique index on {', '.join(sorted(identifying))}: rows with equal values there"
            " are taken for one row, whose vector may seem to change"
        )


def _indexes(
    connection: psycopg.Connection, schema: str, name: str
) -> list[tuple[bool, list[str]]]:
    """Return the indexes of all rows: whether the columns are unique, and which they are."""
    return connection.execute(
        # Where an expression is unique, the columns beside it need not be.
        "select indisunique and indexprs is null,"
        " array(select attname::text from unnest(indkey) with ordinality"
        "  as key (number, place) join pg_attribute on attrelid = indrelid and attnum = number"
        "  where place <= indnkeyatts order by place)"
        " from pg_index join pg_class on pg_class.oid = indrelid"
        " join pg_namespace on pg_namespace.oid = relnamespace"
        " where nspname = %s and relname = %s and indisvalid and indpred is null",
        [schema, name],
    ).fetchall()


def _check_seconds(connection: psycopg.Connection, table: Table) -> None:
    if table.time is None or table.time.kind not in NUMBERS:
        return
    latest = sql.SQL("select max({})::float8 from {}").format(table.time.quoted, table.quoted)
    row = connection.execute(latest, []).fetchone()
    if row is None or row[0] is None:
        return
    try:
        timestamps.seconds(row[0])
    except ValueError as error:
        raise SettingsError(
            f"--time {table.time.name}: {error}, and seconds since the epoch are needed. Watch a"
            " view that converts it, with an index on the expression."
        ) from error


def _find(connection: psycopg.Connection, table: str) -> tuple[int, str, str, str]:
    try:
        with connection.transaction():
            # As the role finds it. In a database with a store, that of the store would come first.
            connection.execute("set local search_path to default")
            row = connection.execute(
                "select pg_class.oid, nspname, relname, relkind::text from pg_class"
                " join pg_namespace on pg_namespace.oid = relnamespace"
                " where pg_class.oid = to_regclass(%s)",
                [table],
            ).fetchone()
    except psycopg.ProgrammingError as error:
        raise SettingsError(f"--table {table}: {error.diag.message_primary}") from error
    if row is None:
        raise SettingsError(
            f"--table {table}: database {connection.info.dbname} has no such table; a table of"
            " another schema is SCHEMA.TABLE, and a name with capitals needs double quotes"
        )
    oid, schema, name, relation = row
    return oid, schema, name, relation


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
    """Say what is wrong with a column, or return None. Empty ``kinds`` allow every type."""
    column = columns.get(name)
    if column is None:
        return f"there is no column {name!r}; the columns are {', '.join(columns)}"
    if not column.is_readable:
        return f"the role may not read column {name!r}: grant select on the table"
    if not kinds or column.kind in kinds:
        return None
    if kinds == _GROWING:
        return (
            f"column {name!r} is of type {column.declared}; without --time, the id orders the rows"
            f" and must be of type {' or '.join(kinds)}. Name a column of times with --time. Or add"
            " one: alter table NAME add column updated_at timestamptz not null default now(), with"
            " an index, and a trigger that sets it when the vector changes. Or read a fixed part of"
            " the table again and again with --sample ROWS"
        )
    if kinds == JSON:
        return f"column {name!r} is of type {column.declared}, and only json and jsonb have keys"
    allowed = _SHOWN if kinds == _VECTORS else kinds
    return f"column {name!r} is of type {column.declared}; allowed are {', '.join(allowed)}"
