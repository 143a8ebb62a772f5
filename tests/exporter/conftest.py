"""Small real detectors and vectors, and a store to send them to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.detector import Detector

if TYPE_CHECKING:
    from ingest.store.pool import Pool

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
    # Imported here: the detector's tests run where there is no driver for PostgreSQL.

    from ingest.store.batch import Batch
    from ingest.store.connection import AsyncConnection
    from ingest.store.vectors import insert

    def send(
        vectors: Vectors, model_name: str = "m", timestamps: list[float | None] | None = None
    ) -> None:
        batch = Batch(model_name, np.ascontiguousarray(vectors), timestamps=timestamps)

        async def run() -> None:
            async with await AsyncConnection.connect(store, autocommit=True) as connection:
                await insert(connection, [batch], 10)

        asyncio.run(run())

    return send


@pytest.fixture
def pool(store: str) -> Iterator[Pool]:
    """A pool of connections to the store."""
    from ingest.store.pool import sync_pool

    with sync_pool(store, 2) as pool:
        # Those who borrow a connection wait for five seconds.
        pool.wait(240)
        yield pool
