"""Samples of watched tables are saved for each model and source."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from ingest.store import samples
from ingest.store.samples import Sample


def test_a_table_that_was_never_read_has_no_sample(store: str) -> None:
    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(store, autocommit=True) as connection:
            assert await samples.load(connection, "m", "docs") is None

    asyncio.run(main())


@pytest.mark.parametrize(
    "sample",
    [Sample(0), Sample(3, {b"12345678": b"abcdefgh", bytes(8): b"\xff" * 8})],
    ids=["empty", "of two rows"],
)
def test_a_saved_sample_is_loaded_unchanged(store: str, sample: Sample) -> None:
    async def main() -> Sample | None:
        async with await psycopg.AsyncConnection.connect(store, autocommit=True) as connection:
            await samples.save(connection, "m", "docs", Sample(1, {b"k" * 8: b"v" * 8}))
            await samples.save(connection, "m", "docs", sample)
            await samples.save(connection, "m", "other", Sample(5))
            return await samples.load(connection, "m", "docs")

    assert asyncio.run(main()) == sample
