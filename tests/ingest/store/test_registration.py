from __future__ import annotations

import asyncio

import psycopg

from ingest.store.connection import AsyncConnection
from ingest.store.registration import register


def add(store: str, dimensions: dict[str, int], max_models: int) -> None:
    async def run() -> None:
        async with await AsyncConnection.connect(store, autocommit=True) as connection:
            await register(connection, dimensions, max_models)

    asyncio.run(run())


def dimensions(connection: psycopg.Connection) -> dict[str, int]:
    return dict(connection.execute("select model_name, dimension from model").fetchall())


def test_models_are_added_up_to_the_maximum(store: str, connection: psycopg.Connection) -> None:
    add(store, {"a": 3}, 2)
    add(store, {"b": 4, "c": 5}, 2)
    assert dimensions(connection) in ({"a": 3, "b": 4}, {"a": 3, "c": 5})


def test_only_a_model_without_vectors_gets_another_dimension(
    store: str, connection: psycopg.Connection
) -> None:
    add(store, {"empty": 3, "filled": 3}, 2)
    connection.execute("update model set last_seq = 1 where model_name = 'filled'")
    add(store, {"empty": 4, "filled": 4}, 2)
    assert dimensions(connection) == {"empty": 4, "filled": 3}
