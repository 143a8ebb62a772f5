"""Small real detectors and vectors, and a store to send them to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
from distributed import Client, LocalCluster
from numpy.typing import NDArray

from exporter.score import Detector
from ingest.store.batch import Batch
from ingest.store.pool import Pool, open_sync
from ingest.store.vectors import insert
from tests.exporter.lake import Floats, made, write

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
def pool(store: str) -> Iterator[Pool]:
    with open_sync(store, 2) as pool:
        yield pool


@pytest.fixture(scope="module")
def stream(vectors: Vectors) -> tuple[Vectors, Floats]:
    """Vectors that drift at the end, with repeats, in the order of their times."""
    moved = vectors.copy()
    moved[2_500:] += np.float32(1)
    moved[1_800:1_850] = moved[1_700]
    return moved, made()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A cluster of two threads in this process."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
        ) as local,
        Client(local) as client,
    ):
        yield client


@pytest.fixture
def lake(tmp_path: Path, stream: tuple[Vectors, Floats]) -> str:
    return write(tmp_path / "lake", *stream)
