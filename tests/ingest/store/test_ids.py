"""Ids of stored vectors are chosen at random, each equally likely."""

from __future__ import annotations

import asyncio
from collections import Counter

import psycopg

from ingest.store import ids


def add(connection: psycopg.Connection, model_name: str, names: list[str]) -> None:
    connection.execute(
        "insert into embedding_id select %s, id, 1, now() from unnest(%s::text[]) as new (id)",
        [model_name, names],
    )


def choose(store: str, model_name: str, count: int) -> list[str]:
    async def main() -> list[str]:
        async with await psycopg.AsyncConnection.connect(store, autocommit=True) as connection:
            return await ids.choose(connection, model_name, count)

    return asyncio.run(main())


def test_a_model_without_ids_gives_none(store: str, connection: psycopg.Connection) -> None:
    add(connection, "other", ["a"])
    assert choose(store, "m", 3) == []


def test_no_id_is_chosen_twice_and_none_of_another_model(
    store: str, connection: psycopg.Connection
) -> None:
    names = [str(n) for n in range(50)]
    add(connection, "m", names)
    add(connection, "other", ["x", "y"])
    assert len(set(choose(store, "m", 20))) == 20
    assert sorted(choose(store, "m", 100)) == sorted(names)


def test_each_id_is_equally_likely(store: str, connection: psycopg.Connection) -> None:
    """The largest of 10 counts of 300 draws exceeds 60 with a probability below 1e-6."""
    add(connection, "m", [str(n) for n in range(10)])
    counts = Counter(id_ for _ in range(100) for id_ in choose(store, "m", 3))
    assert len(counts) == 10
    assert max(counts.values()) < 60
