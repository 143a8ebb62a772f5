"""Distribute the tables over the nodes of a Citus cluster, by model."""

from __future__ import annotations

import psycopg

from ingest.runtime.errors import SettingsError

TABLES = (
    "model",
    "embedding",
    "embedding_id",
    "idempotency_key",
    "baseline",
    "baseline_embedding",
    "drift_history",
    "slice_history",
    "watch",
    "watch_sample",
    "canary",
    "report",
    "explanation",
)
"""Tables with a column ``model_name``, colocated with the first.

So all rows of one model are on one node.
"""


def distribute(connection: psycopg.Connection) -> list[str]:
    """Distribute the tables that are not distributed yet. Citus moves their rows.

    Safe to run again after an interruption.

    Parameters
    ----------
    connection : psycopg.Connection
        To the coordinator, in autocommit mode. The schema must be up to date.

    Returns
    -------
    list of str
        Names of the tables that this call distributed.

    Raises
    ------
    SettingsError
        If the database has no citus extension.
    """
    if not connection.execute("select 1 from pg_extension where extname = 'citus'").fetchone():
        raise SettingsError(
            "the database has no citus extension; on every node: create extension citus"
        )
    done = {
        name
        for (name,) in connection.execute(
            "select logicalrel::oid::regclass::text from pg_dist_partition"
        )
    }
    missing = [table for table in TABLES if table not in done]
    for table in missing:
        first = "default" if table == TABLES[0] else TABLES[0]
        with connection.transaction():
            connection.execute(
                "select create_distributed_table(%s, 'model_name', colocate_with => %s)",
                (table, first),
            )
    return missing
