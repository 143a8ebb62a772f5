"""Read changes: every vector exactly once, whatever the order of commits."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest

from ingest.store import changes
from ingest.store.batch import Batch
from ingest.store.changes import ModelRow
from ingest.store.connection import AsyncConnection, connect
from ingest.store.shard import Shard
from ingest.store.vectors import insert

InsertAll = Callable[..., list[object]]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_row_describes_the_model(insert_all: InsertAll, connection: psycopg.Connection) -> None:
    insert_all(Batch("m", np.ones((3, 2), np.float32)))
    [row] = changes.models(connection)
    assert (row.model_name, row.dimension, row.last_seq) == ("m", 2, 3)
    assert (row.baseline_version, row.mismatch) == (None, None)
    assert row.last_received_at is not None
    assert row.last_received_at <= row.now


def test_a_row_tells_the_dimension_that_was_last_refused(
    insert_all: InsertAll, connection: psycopg.Connection
) -> None:
    insert_all(Batch("m", np.ones((3, 2), np.float32)))
    insert_all(Batch("m", np.ones((1, 5), np.float32)))
    [row] = changes.models(connection)
    assert row.mismatch is not None
    dimension, moment = row.mismatch
    assert dimension == 5
    assert row.last_received_at is not None
    assert row.last_received_at < moment <= row.now


def test_a_baseline_that_was_chosen_later_resolves_a_refused_dimension() -> None:
    given = ModelRow("m", 2, 3, NOW, NOW, 1, NOW, mismatched_dimension=5)
    for used, expected in (
        (NOW - timedelta(seconds=1), (5, NOW)),
        (NOW + timedelta(seconds=1), None),
    ):
        assert replace(given, baseline_used_at=used).mismatch == expected


def test_only_vectors_after_the_number_are_read_in_order(
    insert_all: InsertAll, connection: psycopg.Connection
) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    insert_all(Batch("m", vectors[:2]), Batch("other", np.ones((9, 7), np.float32)))
    insert_all(Batch("m", vectors[2:]))
    row = changes.models(connection)[0]
    rows = changes.vectors(connection, row, after=1, since=None)
    assert rows["seq"].tolist() == [2, 3, 4, 5]
    assert rows["embedding"].tobytes() == vectors[1:].tobytes()
    assert row.last_received_at is not None
    assert rows["received_at"][-1] == pytest.approx(row.last_received_at.timestamp(), abs=1e-5)


def test_without_new_vectors_the_result_is_empty(
    insert_all: InsertAll, connection: psycopg.Connection
) -> None:
    insert_all(Batch("m", np.ones((1, 2), np.float32)))
    [row] = changes.models(connection)
    assert len(changes.vectors(connection, row, after=1, since=None)) == 0
    assert len(changes.vectors(connection, row, after=0, since=row.now)) == 0


def test_the_first_vector_of_another_dimension_is_named(
    insert_all: InsertAll, connection: psycopg.Connection
) -> None:
    insert_all(Batch("m", np.ones((9, 2), np.float32)), Batch("n", np.ones((9, 1), np.float32)))
    connection.execute("update embedding set embedding = '[1,2,3]' where seq in (2, 5, 7)")
    [row, _] = changes.models(connection)
    with pytest.raises(ValueError, match=r"seq 5 has a vector of dimension 3; the model's is 2"):
        changes.vectors(connection, row, after=2, since=None)


@pytest.mark.parametrize("level", [1, 2, 5, 9])
def test_a_sample_is_the_same_to_the_server_and_to_numpy(
    insert_all: InsertAll, connection: psycopg.Connection, level: int
) -> None:
    vectors = np.arange(600, dtype=np.float32)[:, None]
    insert_all(Batch("m", vectors), Batch("other", vectors))
    row = changes.models(connection)[0]
    rows = changes.vectors(connection, row, after=50, since=None, level=level)
    numbers = np.arange(51, 601)
    expected = numbers[changes.is_sampled(numbers, level)]
    assert rows["seq"].tolist() == expected.tolist()
    assert rows["embedding"][:, 0].tolist() == (expected - 1).tolist()
    assert len(expected) == pytest.approx(550 * changes.sampled_ratio(level), abs=35)


# Those of Fibonacci's series are in step with the golden ratio.
@pytest.mark.parametrize("period", [2, 7, 10, 24, 100, 128, 89, 144, 233, 377, 610])
@pytest.mark.parametrize("level", [4, 8, 12])
def test_a_sample_is_in_step_with_no_period_of_the_traffic(period: int, level: int) -> None:
    numbers = np.arange(1, 100 * period + 1)
    found = np.bincount(numbers[changes.is_sampled(numbers, level)] % period, minlength=period)
    # Of 100 vectors a class, as many as of 100 coins that each fall by themselves.
    p = changes.sampled_ratio(level)
    assert np.abs(found - 100 * p).max() < 5.5 * np.sqrt(100 * p * (1 - p))
    assert found.var() < 2.5 * 100 * p * (1 - p)


def test_the_sample_of_consecutive_numbers_is_as_random_as_coins() -> None:
    numbers = np.arange(1, 1_000_001)
    chosen = changes.is_sampled(numbers, 8).reshape(-1, 1_000).sum(axis=1)
    assert chosen.mean() == pytest.approx(250, rel=0.01)
    assert chosen.std() == pytest.approx(np.sqrt(250 * 0.75), rel=0.2)


def test_of_a_large_part_only_the_vectors_of_the_sample_are_read(
    insert_all: InsertAll, connection: psycopg.Connection
) -> None:
    insert_all(Batch("m", np.ones((40_000, 100), np.float32)))
    connection.execute("create table past partition of embedding default")
    connection.execute(
        "update embedding set received_at = received_at - interval '2 days' where seq < 20000"
    )
    psycopg.Cursor(connection).execute("vacuum analyze embedding")
    [row] = changes.models(connection)
    since = row.now - timedelta(hours=1)

    def read() -> int:
        connection.execute("select pg_stat_force_next_flush()")
        connection.execute("select pg_stat_clear_snapshot()")
        [(blocks,)] = connection.execute(
            "select sum(heap_blks_read + heap_blks_hit) from pg_statio_user_tables"
        ).fetchall()
        return int(blocks)

    before = read()
    found = changes.vectors(connection, row, after=0, since=since, level=28)
    assert 100 < len(found) < 210
    # The whole day has 1,200 blocks.
    assert read() - before < 2 * len(found)


def test_numbers_beyond_any_store_are_sampled_too(connection: psycopg.Connection) -> None:
    numbers = 2**62 + np.arange(1_000)
    sampled = changes.is_sampled(numbers, 8)
    assert sampled.sum() == pytest.approx(250, abs=50)


def test_the_first_vector_since_a_time_is_found_by_its_number(
    insert_all: InsertAll, connection: psycopg.Connection
) -> None:
    insert_all(Batch("m", np.ones((4, 2), np.float32)))
    [row] = changes.models(connection)
    connection.execute(
        "update embedding set received_at = received_at - interval '1 minute' where seq < 3"
    )
    assert row.last_received_at is not None
    assert changes.first_seq(connection, row, row.last_received_at) == 3
    assert changes.first_seq(connection, row, row.last_received_at - timedelta(hours=1)) == 1
    assert changes.first_seq(connection, row, row.now + timedelta(hours=1)) == 5


SLOW_COMMITS = """
    create function hold() returns trigger language plpgsql as $$ begin
        perform pg_sleep(random() / 100);
        if random() < 0.2 then raise 'no commit'; end if;
        return null;
    end $$;
    create constraint trigger hold after update on model deferrable initially deferred
        for each row execute function hold()
"""


@pytest.mark.usefixtures("patient_writers")
def test_no_vector_is_missed_or_read_twice_while_slow_commits_overlap(store: str) -> None:
    """Eight writers, whose commits take random times and sometimes fail, while a reader polls."""
    writers, rounds = 8, 12
    done = threading.Event()

    failed = 0

    async def write(number: int, chance: random.Random) -> None:
        nonlocal failed
        async with await AsyncConnection.connect(store, autocommit=True) as connection:
            for _ in range(rounds):
                batch = Batch("m", np.full((chance.randint(1, 4), 2), number, np.float32))
                try:
                    await insert(connection, [batch], 10)
                except psycopg.errors.RaiseException:
                    await connection.rollback()
                    failed += 1
                await asyncio.sleep(chance.random() / 100)

    async def write_all() -> None:
        await asyncio.gather(*(write(n, random.Random(n)) for n in range(writers)))
        done.set()

    seen: list[int] = []

    def read() -> None:
        with connect(store) as connection:
            last = False
            while not last:
                last = done.is_set()
                for row in changes.models(connection):
                    after = seen[-1] if seen else 0
                    seen.extend(changes.vectors(connection, row, after, None)["seq"].tolist())

    with connect(store) as connection:
        connection.execute(SLOW_COMMITS)
    reader = threading.Thread(target=read)
    reader.start()
    asyncio.run(write_all())
    reader.join()
    with connect(store) as connection:
        stored = [n for (n,) in connection.execute("select seq from embedding order by seq")]
    assert 0 < failed < writers * rounds / 2
    assert seen == stored == list(range(1, len(stored) + 1))


def test_a_shard_has_the_models_that_the_hash_gives_it(
    insert_all: InsertAll, connection: psycopg.Connection
) -> None:
    names = [f"m{n}" for n in range(8)]
    insert_all(*(Batch(name, np.ones((1, 2), np.float32)) for name in names))
    shards = [
        [row.model_name for row in changes.models(connection, Shard(ordinal, 3))]
        for ordinal in range(3)
    ]
    assert all(shards)
    assert sorted(name for shard in shards for name in shard) == names
    for ordinal, shard in enumerate(shards):
        hashed = connection.execute(
            "select distinct shard_of(name, 3) from unnest(%s::text[]) as each (name)", [shard]
        )
        assert hashed.fetchall() == [(ordinal,)]
