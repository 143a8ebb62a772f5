"""Removals: the series of removed models go from the page of ingest."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import numpy as np
import psycopg
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from ingest.http.losses import Losses
from ingest.pipeline import metrics, removals
from ingest.pipeline.pipeline import Pipeline
from ingest.runtime.settings.settings import IngestSettings, Settings
from ingest.store import models
from ingest.store.batch import Batch

MODELS = 500
SETTINGS = Settings(ingest=IngestSettings(sample_ratio=0.5))


def named(registry: CollectorRegistry) -> set[tuple[str, str]]:
    """Each counter with the models that it has."""
    page = generate_latest(registry).decode()
    return set(re.findall(r'^(\w+)_total{.*model_name="([^"]+)"', page, re.MULTILINE))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(240):
        while not condition():
            await asyncio.sleep(0.02)


def test_no_series_of_a_removed_model_is_left(
    store: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removals, "_PERIOD_SECONDS", 0.1)
    names = [f"model-{n}" for n in range(MODELS)]
    registry = CollectorRegistry()
    pipeline = Pipeline(store, SETTINGS, registry)

    async def send(name: str) -> None:
        await pipeline.store(Batch(name, np.ones((8, 2), np.float32)))
        Losses(1, 0).add_to(pipeline.metrics, name)

    async def main() -> None:
        async with pipeline.running():
            await asyncio.gather(*map(send, [*names, "kept"]))
            of_models = [f for f in metrics.FAMILIES if "model_name" in f.labels]
            assert {family for family, _ in named(registry)} == {
                family.name.removesuffix("_total") for family in of_models
            }
            connection.execute("delete from model where model_name <> 'kept'")
            await until(lambda: {name for _, name in named(registry)} == {"kept"})
            await send("model-7")
            assert {name for _, name in named(registry)} == {"kept", "model-7"}
            await asyncio.sleep(0.3)
            assert {name for _, name in named(registry)} == {"kept", "model-7"}

    asyncio.run(main())
    assert [found.model_name for found in models.summaries(connection)] == ["kept", "model-7"]


def test_counters_stay_while_the_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removals, "_PERIOD_SECONDS", 0.05)
    registry = CollectorRegistry()
    pipeline = Pipeline("host=127.0.0.1 port=1", Settings(), registry)

    async def main() -> None:
        async with pipeline.running():
            Losses(1, 0).add_to(pipeline.metrics, "m")
            await asyncio.sleep(0.5)

    asyncio.run(main())
    assert {name for _, name in named(registry)} == {"m"}
