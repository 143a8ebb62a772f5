"""Positions of watched tables are saved for each model and source."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from ingest.store import positions
from ingest.store.positions import Position


def test_a_source_that_was_never_watched_has_no_position(store: str) -> None:
    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(store, autocommit=True) as connection:
            assert await positions.load(connection, "m", "docs") is None

    asyncio.run(main())


@pytest.mark.parametrize(
    "position",
    [(), ("7",), ("2026-01-01 00:00:00+00", "é, \"quoted\" {and} 'more'"), ("", "NULL")],
    ids=repr,
)
def test_a_saved_position_is_loaded_unchanged(store: str, position: Position) -> None:
    async def main() -> Position | None:
        async with await psycopg.AsyncConnection.connect(store, autocommit=True) as connection:
            await positions.save(connection, "m", "docs", position)
            return await positions.load(connection, "m", "docs")

    assert asyncio.run(main()) == position


def test_the_last_position_of_each_model_and_source_counts(store: str) -> None:
    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(store, autocommit=True) as connection:
            for model, source, value in [
                ("m", "docs", "1"),
                ("m", "other", "2"),
                ("n", "docs", "3"),
                ("m", "docs", "4"),
            ]:
                await positions.save(connection, model, source, (value,))
            assert await positions.load(connection, "m", "docs") == ("4",)
            assert await positions.load(connection, "m", "other") == ("2",)
            assert await positions.load(connection, "n", "docs") == ("3",)

    asyncio.run(main())
