"""Conservation: a model is ok only while its windows have every vector that was acknowledged.

Random sequences of what happens to a store and to exporters are checked against the sum, on a real
PostgreSQL.
"""

from __future__ import annotations

import psycopg

from ingest.store.pool import Pool
from tests.exporter.monitor import conservation


def test_ok_means_that_the_windows_have_what_was_acknowledged(
    store: str, pool: Pool, connection: psycopg.Connection, long: bool
) -> None:
    conservation.run(store, pool, connection, examples=1_000 if long else 100)
