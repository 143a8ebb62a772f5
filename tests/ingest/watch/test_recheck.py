"""As many stored ids are chosen as the time allows, and slow callers do not catch up.

The rows of these ids are read again and sent. The store tells which changed.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import psycopg
import pytest

from ingest.runtime.errors import StoreUnavailable
from ingest.store.connection import connect
from ingest.store.pool import async_pool
from ingest.watch.recheck import Recheck
from ingest.watch.sources.postgres import PostgresSource
from ingest.watch.sources.postgres_catalogue import describe
from ingest.watch.sources.source import Location
from tests.ingest.watch.bench import Bench, add
from tests.watching import Clock, Sent


def remember(connection: psycopg.Connection, count: int) -> None:
    connection.execute(
        "insert into embedding_id select 'm', n, 1, now() from generate_series(1, %s) as n",
        [count],
    )


def choose(store: str, per_hour: float, pauses: list[float]) -> list[list[str]]:
    """Choose after each pause, in seconds."""
    clock = Clock()

    async def main() -> list[list[str]]:
        chosen = []
        async with async_pool(store, 1) as pool:
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
    remember(connection, 2_000)
    assert [len(ids) for ids in choose(store, per_hour, pauses)] == counts


def test_a_store_without_ids_gives_none(store: str) -> None:
    assert choose(store, 3_600, [60]) == [[]]


def test_every_id_comes_once_before_one_comes_again(
    store: str, connection: psycopg.Connection
) -> None:
    remember(connection, 20)
    chosen = [id_ for ids in choose(store, 3_600, [10] * 6) for id_ in ids]
    assert set(Counter(chosen).values()) == {3}


def test_the_store_is_asked_once_for_the_ids_of_an_hour(
    store: str, connection: psycopg.Connection
) -> None:
    """To choose, it reads all ids of the model."""
    remember(connection, 20)
    clock = Clock()

    async def main() -> None:
        async with async_pool(store, 1) as pool:
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


def replace_vectors(connection: psycopg.Connection) -> None:
    connection.execute("update docs set embedding = array[id::int + 100, 2, 3]::vector")


def test_without_a_time_stored_rows_are_read_again_and_sent_under_their_ids(bench: Bench) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling(None, rechecks=3_600) as poll:
            add(connection, 40)
            await poll()
            replace_vectors(connection)
            await poll()
            assert len(bench.sent) == 40  # none is due yet
            bench.clock.now += 10
            await poll()
            assert len(bench.sent) == 50
            bench.clock.now += 30
            await poll()

    asyncio.run(main())
    # One draw chooses each row once.
    assert sorted(bench.sent[40:]) == sorted(Sent(str(n), (n + 100.0, 2, 3)) for n in range(1, 41))
    assert bench.resets() == 0


def test_only_rows_that_the_store_knows_are_read_again(bench: Bench) -> None:
    """Older rows would count as new. Deleted rows and ids of other senders have no row."""
    connection = bench.application.connection
    add(connection, 30)

    async def main() -> None:
        async with bench.polling(None, baseline_vectors=10, rechecks=3_600) as poll:
            await poll()
            with connect(bench.store) as store:
                store.execute(
                    "insert into embedding_id select 'm', id, 1, now()"
                    " from unnest(array['x', '', '99999999999999999999', '7 ', '-1']) as new (id)"
                )
            connection.execute("delete from docs where id in (22, 25)")
            bench.clock.now += 30
            await poll()

    asyncio.run(main())
    known = {str(n) for n in range(21, 31)}
    assert {id_ for id_, _ in bench.sent[10:]} == known - {"22", "25"}
    assert len(bench.stored()) == 10


@pytest.mark.parametrize(("time", "rechecks"), [("updated_at", 3_600), (None, 0)])
def test_nothing_is_read_again_with_a_time_or_when_it_is_switched_off(
    bench: Bench, time: str | None, rechecks: float
) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling(time, rechecks=rechecks) as poll:
            add(connection, 10)
            await poll()
            replace_vectors(connection)
            bench.clock.now += 60
            await poll()

    asyncio.run(main())
    assert len(bench.sent) == 10


def test_a_row_read_again_may_have_another_dimension(bench: Bench) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling(None, rechecks=3_600) as poll:
            add(connection, 3)
            await poll()
            connection.execute("update docs set embedding = '[1, 2]' where id = 2")
            bench.clock.now += 10
            await poll()

    asyncio.run(main())
    assert sorted(id_ or "" for id_, _ in bench.sent[3:]) == ["1", "2", "3"]
    with connect(bench.store) as store:
        assert store.execute("select mismatched_dimension from model").fetchall() == [(2,)]


def test_where_an_id_counts_once_no_row_is_read_again(bench: Bench) -> None:
    """A changed row would be a duplicate."""
    reader = bench.application.reader
    with connect(reader) as connection:
        source = PostgresSource(reader, describe(connection, Location("docs")))

    async def main() -> None:
        add(bench.application.connection, 10)
        async with bench.following(source, rechecks=36_000.0, ids="once") as follower:
            assert follower.noticed["changed_rows"] == "never"
            await follower.poll()
            assert len(bench.sent) == 10
            bench.clock.now += 60
            await follower.poll()
            assert len(bench.sent) == 10

    asyncio.run(main())
