"""Maintenance: its end does not wait for the server."""

from __future__ import annotations

import asyncio
import threading

import psycopg
import pytest

from ingest.pipeline.maintenance import Maintenance
from ingest.runtime.errors import StoreUnavailable
from ingest.store import partitions
from ingest.store.connection import connect
from tests.service import wait_for, waits_for_a_lock


def test_it_ends_although_the_server_does_not_answer(
    store: str, connection: psycopg.Connection
) -> None:
    async def main() -> None:
        async with Maintenance(store, 30).running():
            await asyncio.to_thread(wait_for, lambda: waits_for_a_lock(connection), "maintenance")

    running = threading.Thread(target=asyncio.run, args=[main()], daemon=True)
    with connect(store) as other, other.transaction():
        partitions.ensure(other)
        running.start()
        running.join(240)
        assert not running.is_alive()


def test_it_drops_the_indexes_that_the_release_before_made(
    store: str, connection: psycopg.Connection
) -> None:
    left_over = f"baseline_{'0a' * 16}_1"
    connection.execute(f"create index {left_over} on baseline_embedding (version)".encode())
    Maintenance(store, 30).maintain()
    assert connection.execute("select to_regclass(%s)", [left_over]).fetchone() == (None,)


def test_it_does_not_connect_after_its_end(store: str) -> None:
    maintenance = Maintenance(store, 30)

    async def main() -> None:
        async with maintenance.running():
            pass

    asyncio.run(main())
    with pytest.raises(StoreUnavailable, match="the service stops"):
        maintenance.make_partitions()
