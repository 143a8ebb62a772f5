"""As many stored ids are chosen as the time allows, and slow callers do not catch up."""

from __future__ import annotations

import asyncio
from collections import Counter

import psycopg
import pytest

from ingest.runtime.errors import StoreUnavailable
from ingest.store.pool import open_async
from ingest.watch.recheck import Recheck
from tests.watching import Clock


def add(connection: psycopg.Connection, count: int) -> None:
    connection.execute(
        "insert into embedding_id select 'm', n, 1, now() from generate_series(1, %s) as n",
        [count],
    )


def choose(store: str, per_hour: float, pauses: list[float]) -> list[list[str]]:
    """Choose after each pause, in seconds."""
    clock = Clock()

    async def main() -> list[list[str]]:
        chosen = []
        async with open_async(store, 1) as pool:
            recheck = Recheck(pool, "m", per_hour, clock)
            for pause in pauses:
                clock.now += pause
                chosen.append(await recheck.choose())
        return chosen

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("per_hour", "pauses", "counts"),
    [
        (300, [0, 6, 6, 6, 6], [0, 0, 1, 0, 1]),
        (300, [12] * 6, [1] * 6),
        (3_600, [0.5, 0.5, 30, 60], [0, 1, 30, 60]),
        (1, [3_599, 2, 3_600], [0, 1, 1]),
        # A pause is not made up for: at most the rows of a minute, and at most 1,000.
        (300, [600], [5]),
        (3_600, [10_000, 1], [60, 1]),
        (1_000_000, [60], [1_000]),
    ],
)
def test_the_time_says_how_many_are_due(
    store: str,
    connection: psycopg.Connection,
    per_hour: float,
    pauses: list[float],
    counts: list[int],
) -> None:
    add(connection, 2_000)
    assert [len(ids) for ids in choose(store, per_hour, pauses)] == counts


def test_a_store_without_ids_gives_none(store: str) -> None:
    assert choose(store, 3_600, [60]) == [[]]


def test_every_id_comes_once_before_one_comes_again(
    store: str, connection: psycopg.Connection
) -> None:
    add(connection, 20)
    chosen = [id_ for ids in choose(store, 3_600, [10] * 6) for id_ in ids]
    assert set(Counter(chosen).values()) == {3}


def test_the_store_is_asked_once_for_the_ids_of_an_hour(
    store: str, connection: psycopg.Connection
) -> None:
    """To choose, it reads all ids of the model."""
    add(connection, 20)
    clock = Clock()

    async def main() -> None:
        async with open_async(store, 1) as pool:
            recheck = Recheck(pool, "m", 3_600, clock)
            clock.now += 5
            assert len(await recheck.choose()) == 5
            connection.execute("update embedding_id set id = 'new ' || id")
            clock.now += 60
            rest = await recheck.choose()
            assert len(rest) == 15
            assert not any(id_.startswith("new") for id_ in rest)
            clock.now += 60
            assert all(id_.startswith("new") for id_ in await recheck.choose())

    asyncio.run(main())


def test_a_store_that_is_away_is_reported(store: str, connection: psycopg.Connection) -> None:
    connection.execute("alter table embedding_id rename to away")
    with pytest.raises(StoreUnavailable):
        choose(store, 3_600, [60])
