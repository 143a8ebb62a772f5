"""Ways to put vectors into a store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psycopg
import pytest

from ingest.store.batch import Batch
from ingest.store.vectors import insert

InsertAll = Callable[..., list[object]]


@pytest.fixture
def insert_all(store: str) -> InsertAll:
    """Store batches in one transaction and give their outcomes."""

    def insert_all(*batches: Batch, max_models: int = 10) -> list[object]:
        async def run() -> list[object]:
            async with await psycopg.AsyncConnection.connect(store, autocommit=True) as connection:
                return list(await insert(connection, batches, max_models))

        return asyncio.run(run())

    return insert_all
