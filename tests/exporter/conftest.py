"""Small real detectors and vectors, and a store to send them to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg_pool import ConnectionPool

from exporter.score import Detector
from ingest.store.batch import Batch
from ingest.store.pool import open_sync
from ingest.store.vectors import insert

Vectors = NDArray[np.float32]


@pytest.fixture(scope="session")
def vectors() -> Vectors:
    """3,000 vectors of dimension 8 without drift."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(3_000, 8)) @ rng.normal(size=(8, 8)) + 1).astype(np.float32)


@pytest.fixture(scope="session")
def detector(vectors: Vectors) -> Detector:
    """A detector fitted to the first 1,000 of these vectors."""
    return Detector.fit(vectors[:1_000])


@pytest.fixture
def send(store: str) -> Callable[..., None]:
    """Store vectors for the model m."""

    def send(
        vectors: Vectors, model_name: str = "m", timestamps: list[float | None] | None = None
    ) -> None:
        batch = Batch(model_name, np.ascontiguousarray(vectors), timestamps=timestamps)

        async def run() -> None:
            async with await psycopg.AsyncConnection.connect(store, autocommit=True) as connection:
                await insert(connection, [batch], 10)

        asyncio.run(run())

    return send


@pytest.fixture
def pool(store: str) -> Iterator[ConnectionPool]:
    with open_sync(store, 2) as pool:
        yield pool
