"""Pools: connections are made with what the string is then, noticed when lost, and never leaked."""

from __future__ import annotations

import asyncio
import os
import socket
import threading

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from ingest.store.connection import connect
from ingest.store.pool import Pool, open_async, open_sync

AUTHENTICATED_AND_READY = b"R\0\0\0\x08\0\0\0\0" + b"Z\0\0\0\x05I"


def test_a_string_that_becomes_unreadable_is_told_of_without_its_password(
    store: str, caplog: pytest.LogCaptureFixture
) -> None:
    strings = [store]
    with open_sync(lambda: strings[-1], 1) as pool:
        with pool.connection() as connection:
            strings.append("postgresql://user:hunter2@[host/db")
        connection.close()
        with pytest.raises(PoolTimeout), pool.connection(timeout=1):
            pass
        assert "database.replica_connection_string cannot be read" in caplog.text
        assert "hunter2" not in caplog.text
        strings.append(store)
        with pool.connection(timeout=30) as connection:
            assert connection.info.status == psycopg.pq.ConnStatus.OK


def test_a_peer_that_is_gone_without_a_word_is_noticed_within_half_a_minute() -> None:
    """A kernel that no packet reaches cannot be had in a test; what ours was told can be asked."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def welcome() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(1024)
                peer.sendall(AUTHENTICATED_AND_READY)
                peer.recv(1024)

        threading.Thread(target=welcome).start()
        host, port = server.getsockname()
        string = f"host={host} port={port} user=u sslmode=disable gssencmode=disable"
        with connect(string) as connection, socket.socket(fileno=connection.fileno()) as ours:
            idle, interval, count = (
                ours.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            unanswered = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            ours.detach()
    assert idle + interval * count <= 30
    assert 0 < unanswered <= 30_000


class Hasty(psycopg.Connection):
    """Closes its socket just when somebody asks for its number, which another then gets."""

    is_watched = False
    other: tuple[socket.socket, socket.socket] | None = None

    def fileno(self) -> int:
        number = super().fileno()
        if self.is_watched:
            self.close()
            self.other = socket.socketpair()
            assert number in [end.fileno() for end in self.other]
        return number


def test_a_socket_that_is_closed_meanwhile_is_not_taken_for_another_of_its_number(
    store: str,
) -> None:
    with Pool(store, connection_class=Hasty, min_size=1, open=True) as pool:
        with pool.connection() as connection:
            connection.is_watched = True
            pool.cut()
            one, other = connection.other or socket.socketpair()
        with one, other:
            one.sendall(b"still there")
            assert other.recv(20) == b"still there"


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_connections_that_are_gone_leave_no_open_files(store: str) -> None:
    async def some() -> None:
        for _ in range(20):
            async with open_async(store, 2) as pool, pool.connection(), pool.connection():
                pass

    before = open_files()
    for _ in range(20):
        with open_sync(store, 2) as pool, pool.connection(), pool.connection():
            pass
    asyncio.run(some())
    assert open_files() <= before


def test_a_connection_that_was_replaced_leaves_no_open_file_though_somebody_still_has_it(
    store: str,
) -> None:
    """The server would not learn that it was closed, and go on with what it was doing."""
    with open_sync(store, 1) as pool:
        with pool.connection() as lost:
            before = open_files()
            lost.close()
        with pool.connection():
            assert open_files() == before


def test_the_environment_does_not_choose_the_encoding(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with connect(store) as connection:
        assert connection.info.encoding == "utf-8"
