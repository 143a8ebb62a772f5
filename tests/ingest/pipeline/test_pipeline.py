"""The pipeline: vectors are stored and counted without HTTP."""

from __future__ import annotations

import asyncio

import numpy as np
import psycopg
from prometheus_client import CollectorRegistry

from ingest.pipeline.pipeline import Pipeline
from ingest.runtime.settings.settings import IngestSettings, Settings
from ingest.store.batch import Batch
from ingest.store.vectors import Stored


def run(store: str, *batches: Batch, settings: Settings) -> tuple[list[Stored], CollectorRegistry]:
    registry = CollectorRegistry()

    async def main() -> list[Stored]:
        pipeline = Pipeline(store, settings, registry)
        async with pipeline.running():
            return [await pipeline.store(batch) for batch in batches]

    return asyncio.run(main()), registry


def counted(registry: CollectorRegistry, what: str) -> float | None:
    name = f"embedding_drift_ingest_{what}_total"
    return registry.get_sample_value(name, {"model_name": "m"})


def test_a_batch_is_committed_and_counted(store: str, connection: psycopg.Connection) -> None:
    batch = Batch("m", np.ones((3, 2), np.float32), ids=["a", "b", "c"])
    stored, registry = run(store, batch, batch, settings=Settings())
    assert stored == [Stored(3, 0), Stored(0, 3)]
    assert connection.execute("select count(*) from embedding").fetchall() == [(3,)]
    assert (counted(registry, "vectors"), counted(registry, "duplicates")) == (3, 3)


def test_vectors_left_out_by_sampling_are_counted_but_not_again_for_a_retry(store: str) -> None:
    settings = Settings(ingest=IngestSettings(sample_ratio=0.5))
    ids: list[str | None] = [f"id-{number}" for number in range(100)]
    vectors = np.ones((100, 2), np.float32)
    batch = Batch("m", vectors, ids=ids, idempotency_key="k", fingerprint=b"x")
    (first, again), registry = run(store, batch, batch, settings=settings)
    assert 0 < first.stored < 100
    assert again == Stored(first.stored, 0, replayed=True)
    assert counted(registry, "sampled_out") == 100 - first.stored
