"""Processes that hang, or whose machine is gone, keep no locks for long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from demo.stack import free_port
from ingest.preparation import Preparation
from ingest.runtime.errors import StoreUnavailable
from ingest.store import canaries, partitions, vectors
from ingest.store import connection as connections
from ingest.store import migrate as migrations
from ingest.store.batch import Batch
from ingest.store.connection import AsyncConnection, connect, unavailable
from ingest.store.migrate import migrate
from ingest.store.pool import async_pool
from ingest.store.registration import keep_dimension
from tests.replication import Node
from tests.service import wait_for, waits_for_a_lock

LIMITS = (
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_keepalives_count",
    "tcp_user_timeout",
)


@pytest.fixture
def over_tcp(folder: Path) -> Iterator[str]:
    """Connection string of a server that is reached by TCP. The others have sockets in a folder."""
    node = Node(folder, free_port())
    node.initialise()
    options = f"-p {node.port} -k {folder} -c listen_addresses=127.0.0.1"
    log = f"--log={folder / 'log'}"
    try:
        node.run("pg_ctl", "start", f"--pgdata={node.data}", "--wait", log, f"--options={options}")
        yield make_conninfo(node.string, host="127.0.0.1")
    finally:
        node.kill()


def limits(connection: psycopg.Connection) -> list[int]:
    rows = [
        connection.execute("select setting from pg_settings where name = %s", [name]).fetchone()
        for name in LIMITS
    ]
    return [int(row[0]) for row in rows if row is not None]


def test_the_server_notices_within_half_a_minute_that_our_machine_is_gone(over_tcp: str) -> None:
    """A test cannot make a machine unreachable; it reads what the socket of the server has."""
    with connect(over_tcp) as connection, connection.transaction():
        idle, interval, count, unanswered = limits(connection)
    assert 0 < idle + interval * count <= 30
    assert 0 < unanswered <= 30_000


def test_a_socket_in_a_folder_needs_no_such_limits(store: str) -> None:
    notices: list[str | None] = []
    with connect(store) as connection:
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        with connection.transaction():
            assert limits(connection) == [0, 0, 0, 0]
    assert notices == []


def other_writer(store: str) -> None:
    """Wait for the lock of the model that one writer has, as another one does."""
    with connect(store) as other, other.transaction():
        other.execute("set local lock_timeout = '60s'")
        other.execute("select from model where model_name = 'm' for update")


def test_a_writer_that_hangs_loses_its_locks(
    store: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = Batch("m", np.ones((1, 3), np.float32))
    recall = vectors._recall

    async def hang(*arguments: object) -> None:
        await asyncio.to_thread(other_writer, store)
        await recall(*arguments)  # type: ignore[arg-type]

    async def write() -> None:
        async with async_pool(store, 1) as pool:
            async with pool.connection() as own:
                await vectors.insert(own, [batch], 10)
            monkeypatch.setattr(vectors, "_LIMITS", vectors._LIMITS.replace("60s", "200ms"))
            monkeypatch.setattr(vectors, "_recall", hang)
            with pytest.raises(StoreUnavailable, match="idle-in-transaction"), unavailable():
                async with pool.connection() as own:
                    await vectors.insert(own, [batch], 10)
            monkeypatch.setattr(vectors, "_recall", recall)
            async with pool.connection() as own:
                await vectors.insert(own, [batch], 10)

    asyncio.run(write())
    assert connection.execute("select count(*) from embedding").fetchone() == (2,)


def test_a_writer_of_canaries_that_hangs_loses_its_locks(
    store: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = canaries.CanarySet("m", "texts", ["a"], np.ones((1, 3), np.float32), None, b"")
    rows = canaries._rows

    async def hang(own: AsyncConnection, name: str) -> list[canaries._Row]:
        await asyncio.to_thread(other_writer, store)
        return await rows(own, name)

    async def write() -> None:
        async with await AsyncConnection.connect(store, autocommit=True) as own:
            await canaries.insert(own, given, 10)
            limit = connections.IDLE_LIMIT.replace("60s", "200ms")
            monkeypatch.setattr(canaries, "IDLE_LIMIT", limit)
            monkeypatch.setattr(canaries, "_rows", hang)
            with pytest.raises(StoreUnavailable, match="idle-in-transaction"), unavailable():
                await canaries.insert(own, given, 10)

    asyncio.run(write())
    assert connection.execute("select count(*) from canary").fetchone() == (1,)


def test_who_keeps_a_dimension_and_hangs_loses_its_locks(
    store: str, connection: psycopg.Connection
) -> None:
    with connection.transaction():
        keep_dimension(connection, "m", 3)
        limit = connection.execute("show idle_in_transaction_session_timeout").fetchone()
    assert limit == ("1min",)


def test_an_upkeep_that_hangs_loses_its_locks(
    store: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang() -> None:
        with connect(store) as hung, hung.transaction():
            with monkeypatch.context() as patch:
                limit = connections.IDLE_LIMIT.replace("60s", "200ms")
                patch.setattr(connections, "IDLE_LIMIT", limit)
                partitions._begin(hung)
            partitions.ensure(connection)
            hung.execute("select 1")

    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        hang()


@pytest.mark.parametrize("lock", [partitions._ADVISORY_LOCK, migrations._ADVISORY_LOCK])
def test_a_start_does_not_wait_for_long_until_another_process_is_done(
    lock: int,
    empty_database: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(connections, "_TURN_LIMIT", "200ms")
    with psycopg.connect(empty_database) as other:
        other.execute("select pg_advisory_xact_lock(%s)", [lock])
        preparation = Preparation((empty_database, migrate))
        preparation.attempt()
        assert "another process has been migrating the store" in str(preparation.not_ready())
        assert "the store cannot be used yet; waiting for it" in caplog.text
        other.rollback()
        preparation.attempt()
        assert preparation.not_ready() is None


def test_upkeep_waits_long_for_readers_once_it_is_its_turn(
    connection: psycopg.Connection,
) -> None:
    with connection.transaction():
        partitions._begin(connection)
        assert connection.execute("show lock_timeout").fetchone() == ("0",)


def test_a_turn_comes_when_the_one_before_is_done(
    store: str, connection: psycopg.Connection
) -> None:
    def ensure() -> None:
        with connect(store) as own:
            partitions.ensure(own)

    with ThreadPoolExecutor(1) as thread, connect(store) as other:
        with other.transaction():
            partitions._begin(other)
            running = thread.submit(ensure)
            wait_for(lambda: waits_for_a_lock(connection), "the second one")
        running.result(240)
