"""The sources of a model are known from what was saved of them."""

from __future__ import annotations

import asyncio

import psycopg

from ingest.store import positions, samples, watched
from ingest.store.positions import Progress
from ingest.store.samples import Sample


def test_the_other_sources_of_a_model_are_those_in_order_and_in_samples(store: str) -> None:
    async def main() -> list[list[str]]:
        async with await psycopg.AsyncConnection.connect(store, autocommit=True) as connection:
            for source in ("docs.a", "docs.b"):
                await positions.save(connection, "m", source, Progress(("7",)))
                await samples.save(connection, "m", f"{source} in samples", Sample(0))
            await positions.save(connection, "n", "docs.c", Progress(("7",)))
            wanted = [("m", "docs.a"), ("m", "docs.z"), ("n", "docs.c")]
            return [await watched.others(connection, *each) for each in wanted]

    beside = ["docs.a in samples", "docs.b", "docs.b in samples"]
    assert asyncio.run(main()) == [beside, ["docs.a", *beside], []]
