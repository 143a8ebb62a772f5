"""Pools of connections: they use the current connection string and leak no sockets."""

from __future__ import annotations

import asyncio
import logging
import socket

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from ingest.runtime.errors import StoreUnavailable
from ingest.store.pool import Pool, async_pool, sync_pool
from tests.descriptors import count_descriptors, name_of_socket
from tests.service import wait_for


def test_a_string_that_becomes_unreadable_is_reported_without_its_password(
    store: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A service in the same process throttles these messages.
    monkeypatch.setattr(logging.getLogger("psycopg.pool"), "filters", [])
    strings = [store]
    with sync_pool(lambda: strings[-1], 1) as pool:
        with pool.connection() as connection:
            strings.append("postgresql://user:hunter2@[host/db")
        connection.close()
        with pytest.raises(PoolTimeout), pool.connection(timeout=1):
            pass
        wait_for(
            lambda: "database.replica_connection_string cannot be read" in caplog.text,
            "the reason in the log",
        )
        assert "hunter2" not in caplog.text
        strings.append(store)
        with pool.connection(timeout=30) as connection:
            assert connection.info.status == psycopg.pq.ConnStatus.OK


def test_a_connection_that_is_borrowed_asks_no_longer_than_it_may(store: str) -> None:
    with sync_pool(store, 1) as pool:
        with pytest.raises(StoreUnavailable), pool.borrow(0.05) as borrowed:
            borrowed.execute("select pg_sleep(5)")
        with pool.borrow(5) as borrowed:
            assert borrowed.execute("select 1").fetchone() == (1,)
        with pool.borrow() as borrowed:
            assert borrowed.execute("show statement_timeout").fetchone() == ("0",)


class Hasty(psycopg.Connection):
    """Closes its socket when its number is asked for; another socket then gets the number."""

    is_watched = False
    other: tuple[socket.socket, socket.socket] | None = None

    def fileno(self) -> int:
        number = super().fileno()
        if self.is_watched:
            self.close()
            self.other = socket.socketpair()
            assert number in [end.fileno() for end in self.other]
        return number


def test_cutting_does_not_touch_another_socket_that_reused_the_number(
    store: str,
) -> None:
    with Pool(store, connection_class=Hasty, min_size=1, open=True) as pool:
        with pool.connection() as connection:
            assert isinstance(connection, Hasty)
            connection.is_watched = True
            pool.cut()
            one, other = connection.other or socket.socketpair()
        with one, other:
            one.sendall(b"still there")
            assert other.recv(20) == b"still there"


def test_closed_pools_leave_no_open_files(store: str) -> None:
    names: list[str] = []

    def use_one() -> None:
        with sync_pool(store, 2) as pool, pool.connection() as first, pool.connection() as second:
            names.extend([name_of_socket(first), name_of_socket(second)])
            assert count_descriptors(*names) == 4  # its own and the duplicate, of each

    async def use_one_async() -> None:
        async with (
            async_pool(store, 2) as pool,
            pool.connection() as first,
            pool.connection() as second,
        ):
            names.extend([name_of_socket(first), name_of_socket(second)])

    use_one()
    asyncio.run(use_one_async())
    assert len(set(names)) == 4
    assert count_descriptors(*names) == 0


def test_a_replaced_connection_leaves_no_open_file_while_it_is_referenced(
    store: str,
) -> None:
    """With an open file, the server would not learn that the connection was closed."""
    with sync_pool(store, 1) as pool:
        with pool.connection() as lost:
            name = name_of_socket(lost)
            lost.close()
        with pool.connection():
            assert count_descriptors(name) == 0
