"""The writer: one commit for many clients, and errors when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import psycopg
import pytest
from prometheus_client import CollectorRegistry

from ingest.pipeline import writer as writers
from ingest.pipeline.maintenance import Maintenance
from ingest.pipeline.metrics import IngestMetrics
from ingest.pipeline.writer import Writer
from ingest.runtime.errors import DimensionMismatch, PayloadError, StoreUnavailable
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch
from ingest.store.pool import async_pool
from ingest.store.vectors import Stored

Body = Callable[[Writer], Awaitable[None]]


def batch(model_name: str = "m", count: int = 1, **fields: object) -> Batch:
    return Batch(model_name, np.ones((count, 3), np.float32), **fields)  # type: ignore[arg-type]


@asynccontextmanager
async def running(
    store: str, settings: IngestSettings, registry: CollectorRegistry
) -> AsyncIterator[Writer]:
    async with async_pool(store, 2) as pool:
        metrics = IngestMetrics(registry)
        writer = Writer(pool, settings, metrics, Maintenance(store, 30).make_partitions)
        async with writer.running():
            yield writer


def run(
    store: str,
    body: Body,
    settings: IngestSettings | None = None,
    registry: CollectorRegistry | None = None,
) -> None:
    async def main() -> None:
        chosen = settings or IngestSettings()
        async with running(store, chosen, registry or CollectorRegistry()) as writer:
            await body(writer)

    asyncio.run(main())


def count(connection: psycopg.Connection) -> int:
    row = connection.execute("select count(*) from embedding").fetchone()
    assert row is not None
    return int(row[0])


def test_many_clients_share_a_commit(store: str, connection: psycopg.Connection) -> None:
    async def body(writer: Writer) -> None:
        outcomes = await asyncio.gather(*(writer.write(batch()) for _ in range(100)))
        assert outcomes == [Stored(1, 0)] * 100

    registry = CollectorRegistry()
    run(store, body, registry=registry)
    assert count(connection) == 100
    commits = registry.get_sample_value("embedding_drift_ingest_commit_duration_seconds_count")
    assert commits is not None
    assert commits < 10


def test_each_client_gets_the_outcome_of_its_own_batch(store: str) -> None:
    async def body(writer: Writer) -> None:
        await writer.write(batch())
        wrong = Batch("m", np.ones((1, 5), np.float32))
        results = await asyncio.gather(
            writer.write(batch(count=2)), writer.write(wrong), return_exceptions=True
        )
        assert results[0] == Stored(2, 0)
        assert isinstance(results[1], DimensionMismatch)

    run(store, body)


def test_a_value_that_psycopg_refuses_is_named(store: str) -> None:
    async def body(writer: Writer) -> None:
        with pytest.raises(PayloadError, match="cannot contain NUL"):
            await writer.write(batch(ids=["a\0"]))

    run(store, body)


def test_a_batch_postgresql_refuses_fails_alone(store: str, connection: psycopg.Connection) -> None:
    async def body(writer: Writer) -> None:
        poison = batch(metadata=[b'{"n": 1e200000}'])
        results = await asyncio.gather(
            writer.write(batch()),
            writer.write(poison),
            writer.write(batch()),
            return_exceptions=True,
        )
        assert [type(r) for r in results] == [Stored, PayloadError, Stored]

    run(store, body)
    assert count(connection) == 2


def test_a_lost_store_fails_the_other_batches_of_a_group_at_once(
    store: str, connection: psycopg.Connection
) -> None:
    """The store is back after the first failure, so a batch that waited for it would be stored."""

    number = 200  # more than can be stored, one by one, before the table is locked

    async def body(writer: Writer) -> None:
        await writer.write(batch())
        batches = [batch(metadata=[b'{"n": 1e200000}']), *[batch() for _ in range(number)]]
        async with await psycopg.AsyncConnection.connect(store) as somebody:
            refused, *others = [asyncio.create_task(writer.write(one)) for one in batches]
            with pytest.raises(PayloadError):
                await refused
            await somebody.execute("lock table model in access exclusive mode")
            await asyncio.wait(others, return_when=asyncio.FIRST_EXCEPTION)
            await somebody.rollback()
        outcomes = await asyncio.gather(*others, return_exceptions=True)
        kinds = [type(outcome) for outcome in outcomes]
        stored = kinds.count(Stored)
        assert kinds == [Stored] * stored + [StoreUnavailable] * (number - stored)
        assert stored < number - 1
        assert count(connection) == 1 + stored
        assert await writer.write(batch()) == Stored(1, 0)

    run(store, body)


def test_leaving_commits_waiting_batches(
    store: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.pipeline.writer._LAST_COMMIT_SECONDS", 240.0)

    async def main() -> None:
        async with running(store, IngestSettings(), CollectorRegistry()) as writer:
            waiting = [asyncio.create_task(writer.write(batch())) for _ in range(20)]
            await asyncio.sleep(0)
        assert all(task.result() == Stored(1, 0) for task in waiting)

    asyncio.run(main())
    assert count(connection) == 20


def test_a_client_that_hangs_up_does_not_affect_others(store: str) -> None:
    async def body(writer: Writer) -> None:
        leaving = asyncio.create_task(writer.write(batch()))
        staying = asyncio.create_task(writer.write(batch()))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying == Stored(1, 0)

    run(store, body)


def test_terminated_connections_fail_no_request(store: str, connection: psycopg.Connection) -> None:
    async def body(writer: Writer) -> None:
        await writer.write(batch())
        connection.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        assert await writer.write(batch()) == Stored(1, 0)

    run(store, body)
    assert count(connection) == 2


def test_a_read_only_server_is_unavailable_until_it_accepts_writes(
    store: str, connection: psycopg.Connection
) -> None:
    def read_only(value: str) -> None:
        name = connection.info.dbname
        connection.execute(
            f"alter database {name} set default_transaction_read_only = {value}".encode()
        )
        connection.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )

    async def body(writer: Writer) -> None:
        await writer.write(batch())
        read_only("on")
        with pytest.raises(StoreUnavailable):
            await writer.write(batch())
        connection.execute("set default_transaction_read_only = off")
        read_only("off")
        assert await writer.write(batch()) == Stored(1, 0)

    run(store, body)
    assert count(connection) == 2


def test_a_missing_partition_is_made_and_the_vectors_stored(
    store: str, connection: psycopg.Connection
) -> None:
    partitions = connection.execute(
        "select inhrelid::regclass::text from pg_inherits where inhparent = 'embedding'::regclass"
    ).fetchall()
    for (name,) in partitions:
        connection.execute(f"drop table {name}".encode())

    async def body(writer: Writer) -> None:
        assert await writer.write(batch()) == Stored(1, 0)

    run(store, body)
    assert count(connection) == 1


@pytest.mark.parametrize("locked", [["b"], ["b", "d"]])
def test_only_the_batches_of_locked_models_fail(
    store: str, connection: psycopg.Connection, locked: list[str]
) -> None:
    async def body(writer: Writer) -> None:
        for name in "abd":
            await writer.write(batch(name))
        names = list("abbcdda")
        async with await psycopg.AsyncConnection.connect(store) as somebody:
            await somebody.execute(
                "select from model where model_name = any(%s) for update", [locked]
            )
            outcomes = await asyncio.gather(
                *(writer.write(batch(name)) for name in names), return_exceptions=True
            )
        assert [type(outcome) for outcome in outcomes] == [
            StoreUnavailable if name in locked else Stored for name in names
        ]
        assert {str(each) for each in outcomes if isinstance(each, StoreUnavailable)} == {
            "PostgreSQL is not available: canceling statement due to lock timeout"
        }

    run(store, body)
    assert count(connection) == 3 + len([name for name in "abbcdda" if name not in locked])


def test_a_lock_of_the_table_fails_the_batches_of_all_models(
    store: str, connection: psycopg.Connection
) -> None:
    async def body(writer: Writer) -> None:
        async with await psycopg.AsyncConnection.connect(store) as somebody:
            await somebody.execute("lock table model in access exclusive mode")
            outcomes = await asyncio.gather(
                *(writer.write(batch(name)) for name in "ab"), return_exceptions=True
            )
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 2
        assert await writer.write(batch("a")) == Stored(1, 0)

    run(store, body)
    assert count(connection) == 1


def test_metadata_counts_in_the_size_of_a_group(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "_GROUP_BYTES", 1_000)
    registry = CollectorRegistry()

    async def body(writer: Writer) -> None:
        text = b'{"text": "%s"}' % (b"x" * 600)
        await asyncio.gather(*(writer.write(batch(metadata=[text])) for _ in range(3)))

    run(store, body, registry=registry)
    commits = registry.get_sample_value("embedding_drift_ingest_commit_duration_seconds_count")
    assert commits == 3
