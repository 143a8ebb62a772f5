"""The index of a baseline: one for each version with many vectors, for searches among them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import psycopg
from psycopg import sql

from ingest.store.neighbours import indexed
from ingest.store.rights import owns

_DROP_MILLISECONDS = 200
"""Longest wait for the lock that dropping an index needs; searches wait meanwhile."""
_ADVISORY_LOCK = 0x456D6242  # "EmbB"
_MOST_INDEX_BYTES = 1 << 30
"""Memory for building an index, at most. A larger one is built on disk, which takes four times as
long."""
_CANDIDATES = 32
"""Neighbours that are considered for each vector of an index. pgvector's 64 takes twice as long and
finds no more."""


def lock(connection: psycopg.Connection) -> None:
    """Keep others from pinning a baseline until the transaction ends."""
    # Not the lock of the model's row: writers of the model would wait while the index is built.
    # One lock for all models: two transactions that have both inserted into a table deadlock when
    # they create indexes on it.
    connection.execute("select pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])


def build(
    connection: psycopg.Connection, model_name: str, version: int, size: int, components: int
) -> None:
    """Index the vectors of a version if they are many and the role owns the table.

    If it does not, upkeep does. In a transaction, to whose end the settings hold.
    """
    stored, operators = indexed("embedding", components, size)
    if operators is None or not owns(connection):
        return
    # A vector and its 16 to 32 links, with what pgvector keeps for each.
    needed = min(size * (4 * components + 1_500), _MOST_INDEX_BYTES)
    connection.execute(
        "select set_config('maintenance_work_mem', greatest(%s,"
        " pg_size_bytes(current_setting('maintenance_work_mem'))) / 1024 || 'kB', true),"
        # Workers would share the memory in /dev/shm, which has 64 MB in a container.
        " set_config('max_parallel_maintenance_workers', '0', true)",
        [needed],
    )
    statement = sql.SQL(
        "create index if not exists {index} on baseline_embedding"
        " using hnsw (({stored}) {operators}) with (ef_construction = {candidates})"
        " where model_name = {name} and version = {version}"
    )
    connection.execute(
        statement.format(
            index=sql.Identifier(_name(model_name, version)),
            stored=stored,
            operators=operators,
            candidates=sql.Literal(_CANDIDATES),
            name=sql.Literal(model_name),
            version=sql.Literal(version),
        )
    )


def drop(connection: psycopg.Connection, model_name: str, versions: Sequence[int]) -> None:
    """Drop the indexes of some versions if the role owns the table; if it does not, upkeep does.

    Searches of all baselines wait for the lock until the transaction ends.
    """
    for version in versions if owns(connection) else ():
        index = sql.Identifier(_name(model_name, version))
        connection.execute(sql.SQL("drop index if exists {}").format(index))


def wait_briefly(connection: psycopg.Connection) -> None:
    """Give up soon, until the transaction ends, if a search holds the lock that a drop needs."""
    connection.execute(sql.SQL("set local lock_timeout = {}").format(_DROP_MILLISECONDS))


def tidy(connection: psycopg.Connection) -> None:
    """Make the indexes that baselines lack, and drop those whose baselines are gone.

    There are some after a role that does not own the tables has pinned or dropped baselines.

    Parameters
    ----------
    connection : psycopg.Connection
        Of the owner of the tables, in autocommit mode.
    """
    with connection.transaction():
        lock(connection)
        found = connection.execute(
            "select model_name, version, vectors, dimension"
            " from baseline join model using (model_name)"
        ).fetchall()
        wanted = {
            _name(name, version): (name, version, size, components)
            for name, version, size, components in found
            if indexed("embedding", components, size)[1] is not None
        }
        present = {
            name
            for (name,) in connection.execute(
                "select relname from pg_index join pg_class on pg_class.oid = indexrelid"
                " where indrelid = 'baseline_embedding'::regclass"
                " and relname ~ '^baseline_[0-9a-f]{32}_[0-9]+$'"
            )
        }
        for name in wanted.keys() - present:
            build(connection, *wanted[name])
    for name in present - wanted.keys():
        with connection.transaction():
            wait_briefly(connection)
            connection.execute(sql.SQL("drop index if exists {}").format(sql.Identifier(name)))


def _name(model_name: str, version: int) -> str:
    # A digest, because names of models may be longer than PostgreSQL allows for an index.
    digest = hashlib.sha256(model_name.encode()).hexdigest()[:32]
    return f"baseline_{digest}_{version}"
