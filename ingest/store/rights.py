"""Rights: what each command needs in the database, how a role gets it, and who owns the tables.

The owner of the tables migrates them, and makes and drops partitions. Every other command is done
with rights that the owner grants.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

import psycopg
from psycopg import sql

from ingest.runtime.errors import Problem, SettingsError, StoreUnavailable
from ingest.runtime.settings.settings import DatabaseSettings
from ingest.store.connection import NO_SCHEMA, ConnectionString, store_table

Rights = Mapping[str, frozenset[str]]
"""Privileges by table or view."""


def _rights(**tables: str) -> Rights:
    return {table: frozenset(privileges.split()) for table, privileges in tables.items()}


def _all(*rights: Rights) -> Rights:
    tables = dict.fromkeys(table for each in rights for table in each)
    return {t: frozenset().union(*(each.get(t, ()) for each in rights)) for t in tables}


_BASELINES = _rights(model="select", baseline="select", baseline_in_use="select")
_PINNING = _all(
    _BASELINES,
    _rights(
        embedding="select",
        baseline="insert update delete",
        baseline_embedding="select insert delete",
        drift_history="select",
    ),
)
_SHOWING = _all(
    _BASELINES,
    _rights(report="select", explanation="select"),
    _rights(drift_history="select", slice_history="select"),
)
_INGEST = _rights(
    migration="select",
    model="select insert update",
    embedding="select insert",
    embedding_id="select insert update",
    idempotency_key="select insert",
    baseline_in_use="select",
    baseline_embedding="select",
    canary="select insert update delete",
)
_EXPORTER = _all(
    _PINNING,
    _SHOWING,
    _rights(drift_history="insert", slice_history="insert"),
    _rights(canary="select", explanation="select insert update"),
    _rights(report="insert update delete"),
)

NEEDED: Mapping[str, Rights] = {
    "ingest": _all(_INGEST, _SHOWING),
    "exporter": _EXPORTER,
    "serve": _all(_INGEST, _EXPORTER),
    "watch": _all(
        _INGEST,
        _EXPORTER,
        _rights(watch="select insert update", watch_sample="select insert update"),
    ),
    "backfill": _all(_PINNING, _rights(model="insert", drift_history="insert update")),
    "baseline list": _BASELINES,
    "baseline pin": _all(_PINNING, _rights(explanation="select")),
    "baseline use": _all(_BASELINES, _rights(baseline="update")),
    "explain": _all(
        _BASELINES,
        _rights(embedding="select", baseline_embedding="select", explanation="select"),
    ),
    "canary accept": _rights(model="select update", canary="select update"),
    "canary remove": _rights(model="select", canary="select delete"),
    "model list": _rights(model="select"),
    "model resolve": _rights(model="select update"),
    "model remove": _all(
        _rights(model="select update delete", baseline="select delete"),
        _rights(**dict.fromkeys(("embedding", "embedding_id"), "select delete")),
        _rights(idempotency_key="select delete"),
        _rights(**dict.fromkeys(("drift_history", "slice_history"), "select delete")),
        _rights(**dict.fromkeys(("watch", "watch_sample"), "select delete")),
        _rights(**dict.fromkeys(("baseline_embedding", "canary"), "select delete")),
        _rights(explanation="select delete", report="select delete"),
    ),
}
"""Rights by command."""


def owner(settings: DatabaseSettings, store: ConnectionString) -> ConnectionString:
    """Return the connection string of the owner of the tables; without one, the store's own."""
    admin = settings.admin_connection_string
    return store if admin is None else admin.get_secret_value


def role(connection: psycopg.Connection) -> str:
    """Return the role of a connection. A pooler may use another than that of its clients."""
    row = connection.execute("select current_user::text").fetchone()
    assert row is not None
    return str(row[0])


def owns(connection: psycopg.Connection) -> bool:
    """Return whether the role may do what only the owner of the tables may."""
    row = connection.execute(
        "select pg_has_role(relowner, 'usage') from pg_class"
        " where oid = to_regclass(quote_ident(current_schema()) || '.embedding')"
    ).fetchone()
    return row == (True,)


def check(connection: psycopg.Connection, command: str) -> None:
    """Check that the role has the rights that a command needs.

    Parameters
    ----------
    connection : psycopg.Connection
    command : str
        One of :data:`NEEDED`.

    Raises
    ------
    SettingsError
        If some are missing; names each with the statement that grants it.
    StoreUnavailable
        If the store has no schema, or an older one.
    """
    grantee = role(connection)
    grants = [_on_schema(schema, grantee) for schema in _closed_schemas(connection)]
    if not grants:
        missing = _missing(connection, NEEDED[command])
        grants = [_on_table(table, missing[table], grantee) for table in missing]
    if grants:
        raise SettingsError(
            f"the role {grantee} lacks rights that {command} needs; run, as the owner of the"
            f" tables, embedding-drift migrate --grant {shlex.quote(grantee)}, or in SQL:",
            [Problem("missing", statement.as_string(connection)) for statement in grants],
        )


def elsewhere(connection: psycopg.Connection) -> str:
    """Name a store that the role may read but does not find; empty if there is none."""
    if store_table(connection) is not None:
        return ""
    row = connection.execute(
        "select nspname, current_database()::text from pg_class"
        " join pg_namespace on pg_namespace.oid = relnamespace"
        " where relname = 'baseline_embedding'"
        " and has_schema_privilege(relnamespace, 'usage')"
        " and has_table_privilege(pg_class.oid, 'select') order by nspname limit 1"
    ).fetchone()
    if row is None:
        return ""
    schema, database = row
    statement = _path(role(connection), database, schema).as_string(connection)
    return f"; or, to use the store in the schema {schema}, run in SQL: {statement}"


def grant(connection: psycopg.Connection, grantee: str) -> str | None:
    """Grant a role the rights that all commands need, except what only the owner may.

    Parameters
    ----------
    connection : psycopg.Connection
        Of the owner, in autocommit mode. The schema must be up to date.
    grantee : str
        A role.

    Returns
    -------
    str or None
        The statement by which the role finds the tables, unless it does without.

    Raises
    ------
    SettingsError
        If there is no such role, or the connection's may not grant.
    """
    try:
        with connection.transaction():
            for (schema,) in connection.execute(_SCHEMAS, [grantee]).fetchall():
                connection.execute(_on_schema(schema, grantee))
            for table, privileges in _all(*NEEDED.values()).items():
                connection.execute(_on_table(table, privileges, grantee))
    except psycopg.errors.UndefinedObject as error:
        raise SettingsError(
            f"--grant {grantee}: there is no such role; in SQL:"
            f" {sql.SQL('create role {} login').format(sql.Identifier(grantee)).as_string()}"
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise SettingsError(
            f"--grant {grantee}: the role {role(connection)} may not grant:"
            f" {error.diag.message_primary}; run this as the owner of the tables, with"
            " database.admin_connection_string"
        ) from error
    row = connection.execute("select current_schema()::text, current_database()::text").fetchone()
    assert row is not None
    schema, database = row
    if schema in ("public", grantee):
        return None
    return _path(grantee, database, schema).as_string(connection)


def _path(grantee: str, database: str, schema: str) -> sql.Composed:
    names = map(sql.Identifier, (grantee, database, schema))
    return sql.SQL("alter role {} in database {} set search_path = {}").format(*names)


_SCHEMAS = """
select nspname from pg_namespace
where not has_schema_privilege(%s, oid, 'usage')
and (oid in (select relnamespace from pg_class where oid = to_regclass('embedding'))
or oid in (select extnamespace from pg_extension where extname = 'vector'))
"""


def _closed_schemas(connection: psycopg.Connection) -> list[str]:
    """List the schemas of our tables and of pgvector that the role may not use.

    A schema that the search path does not name may have the store of somebody else.
    """
    rows = connection.execute(
        "select nspname from pg_namespace where not has_schema_privilege(oid, 'usage')"
        " and (oid in (select extnamespace from pg_extension where extname = 'vector')"
        "  or oid in (select relnamespace from pg_class where relname = 'baseline_embedding')"
        "   and quote_ident(nspname) = any (string_to_array(replace("
        "    current_setting('search_path'), '\"$user\"', quote_ident(current_user)), ', ')))"
        " order by nspname"
    )
    return [name for (name,) in rows]


def _on_schema(schema: str, grantee: str) -> sql.Composed:
    names = map(sql.Identifier, (schema, grantee))
    return sql.SQL("grant usage on schema {} to {}").format(*names)


def _on_table(table: str, privileges: Iterable[str], grantee: str) -> sql.Composed:
    listed = sql.SQL(", ").join(sql.SQL(each) for each in sorted(privileges))
    names = map(sql.Identifier, (table, grantee))
    return sql.SQL("grant {} on {} to {}").format(listed, *names)


def _missing(connection: psycopg.Connection, needed: Rights) -> dict[str, list[str]]:
    pairs = [(table, each) for table, privileges in needed.items() for each in sorted(privileges)]
    # Only in the first schema, which has the store: a table that it lacks may be in another's.
    rows = connection.execute(
        "select name, privilege, relation is not null"
        " from unnest(%s::text[], %s::text[]) as needed (name, privilege),"
        " to_regclass(quote_ident(current_schema()) || '.' || name) as relation"
        " where has_table_privilege(relation, privilege) is not true",
        [list(column) for column in zip(*pairs, strict=True)],
    ).fetchall()
    if not all(exists for _, _, exists in rows):
        raise StoreUnavailable(NO_SCHEMA + elsewhere(connection))
    missing: dict[str, list[str]] = {}
    for table, privilege, _ in rows:
        missing.setdefault(table, []).append(privilege)
    return missing
