"""Pools: every new connection is made with what the connection string is then."""

from __future__ import annotations

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from ingest.store.pool import open_sync


def test_a_string_that_becomes_unreadable_is_told_of_without_its_password(
    store: str, caplog: pytest.LogCaptureFixture
) -> None:
    strings = [store]
    with open_sync(lambda: strings[-1], 1) as pool:
        with pool.connection() as connection:
            strings.append("postgresql://user:hunter2@[host/db")
        connection.close()
        with pytest.raises(PoolTimeout), pool.connection(timeout=1):
            pass
        assert "database.replica_connection_string cannot be read" in caplog.text
        assert "hunter2" not in caplog.text
        strings.append(store)
        with pool.connection(timeout=30) as connection:
            assert connection.info.status == psycopg.pq.ConnStatus.OK
