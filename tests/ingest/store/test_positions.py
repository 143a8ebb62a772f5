"""Positions of watched tables are saved for each model and source."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from ingest.store import positions
from ingest.store.positions import Position, Progress


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
            await positions.save(connection, "m", "docs", Progress(position))
            loaded = await positions.load(connection, "m", "docs")
            return None if loaded is None else loaded.position

    assert asyncio.run(main()) == position


@pytest.mark.parametrize(
    "progress",
    [
        Progress(("7",)),
        Progress((), None, ("9",), None),
        Progress(("7",), ("16384", "16391,16392"), ("9",), "ab12"),
        Progress((), ("16384", ""), (), None),
    ],
    ids=repr,
)
def test_saved_progress_is_loaded_unchanged(store: str, progress: Progress) -> None:
    async def main() -> Progress | None:
        async with await psycopg.AsyncConnection.connect(store, autocommit=True) as connection:
            await positions.save(connection, "m", "docs", Progress(("1",), ("2",), ("3",), "4"))
            await positions.save(connection, "m", "docs", progress)
            return await positions.load(connection, "m", "docs")

    assert asyncio.run(main()) == progress


def test_a_row_that_the_previous_release_wrote_has_a_position_only(
    store: str, connection: psycopg.Connection
) -> None:
    connection.execute(
        "insert into watch (model_name, source, position) values ('m', 'docs', '{7}')"
    )

    async def main() -> Progress | None:
        async with await psycopg.AsyncConnection.connect(store, autocommit=True) as connection:
            return await positions.load(connection, "m", "docs")

    assert asyncio.run(main()) == Progress(("7",), None, None, None)


def test_the_last_position_of_each_model_and_source_counts(store: str) -> None:
    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(store, autocommit=True) as connection:
            for model, source, value in [
                ("m", "docs", "1"),
                ("m", "other", "2"),
                ("n", "docs", "3"),
                ("m", "docs", "4"),
            ]:
                await positions.save(connection, model, source, Progress((value,)))
            assert await positions.load(connection, "m", "docs") == Progress(("4",))
            assert await positions.load(connection, "m", "other") == Progress(("2",))
            assert await positions.load(connection, "n", "docs") == Progress(("3",))

    asyncio.run(main())
