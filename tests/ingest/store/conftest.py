"""Fixtures that store vectors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray
from psycopg.conninfo import make_conninfo

from ingest.store.batch import Batch
from ingest.store.connection import OPTIONS, AsyncConnection, connect
from ingest.store.migrate import migrate
from ingest.store.vectors import insert

InsertAll = Callable[..., list[object]]


@pytest.fixture
def insert_all(store: str) -> InsertAll:
    """A function that stores batches in one transaction and returns their outcomes."""

    def insert_all(*batches: Batch, max_models: int = 10, revise: bool = True) -> list[object]:
        async def run() -> list[object]:
            async with await AsyncConnection.connect(store, **OPTIONS) as connection:
                return list(await insert(connection, batches, max_models, revise=revise))

        return asyncio.run(run())

    return insert_all


@pytest.fixture
def staging(store: str) -> str:
    """A second store, in a schema of its own: the search path has the first one behind it."""
    with connect(store) as connection:
        connection.execute("create schema staging")
    with connect(make_conninfo(store, options="-c search_path=staging")) as connection:
        migrate(connection)
    return make_conninfo(store, options="-c search_path=staging,public")


@pytest.fixture
def filled(insert_all: InsertAll) -> NDArray[np.float32]:
    """Twenty vectors of model m, with client timestamps on 20 days of January 2026."""
    vectors = np.random.default_rng(3).normal(size=(20, 4)).astype(np.float32)
    days = [datetime(2026, 1, 1 + n, tzinfo=UTC).timestamp() for n in range(20)]
    metadata: list[bytes | None] = [f'{{"n": {n}}}'.encode() for n in range(20)]
    insert_all(Batch("m", vectors, timestamps=list(days), metadata=metadata))
    insert_all(Batch("other", np.ones((3, 4), np.float32)))
    return vectors
