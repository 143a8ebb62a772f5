"""Sockets of connections: a caller that waits for the server can be interrupted."""

from __future__ import annotations

import gc
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from ingest.store.connection import connect
from ingest.store.sockets import Sockets
from tests.descriptors import count_descriptors, name_of_socket
from tests.service import wait_for


def test_a_query_that_waits_for_the_server_fails_at_once(
    store: str, connection: psycopg.Connection
) -> None:
    def is_asleep() -> bool:
        asleep = "select from pg_stat_activity where wait_event = 'PgSleep' and pid = %s"
        return connection.execute(asleep, [waiting.info.backend_pid]).fetchone() is not None

    sockets = Sockets()
    with connect(store) as waiting, ThreadPoolExecutor(1) as threads:
        sockets.add(waiting)
        query = threads.submit(waiting.execute, "select pg_sleep(60)")
        wait_for(is_asleep, "the query")
        start = time.monotonic()
        sockets.cut()
        with pytest.raises(psycopg.OperationalError):
            query.result(30)
        assert time.monotonic() - start < 30
        sockets.cut()  # nothing is left to be cut


def test_a_connection_that_was_not_added_is_not_cut(
    store: str, connection: psycopg.Connection
) -> None:
    sockets = Sockets()
    with connect(store) as other:
        sockets.add(other)
        sockets.cut()
        with pytest.raises(psycopg.OperationalError):
            other.execute("select 1")
    assert connection.execute("select 1").fetchone() == (1,)


def test_the_duplicate_of_a_closed_connection_is_closed_with_the_next_one(store: str) -> None:
    sockets = Sockets()
    closed = connect(store)
    name = name_of_socket(closed)
    sockets.add(closed)
    assert count_descriptors(name) == 2
    closed.close()
    assert count_descriptors(name) == 1
    with connect(store) as second:
        sockets.add(second)
        assert count_descriptors(name) == 0
        sockets.cut()  # the duplicate that is closed already is no error
        assert closed.closed


def test_the_duplicate_of_a_collected_connection_is_closed(store: str) -> None:
    sockets = Sockets()
    connection = connect(store)
    name = name_of_socket(connection)
    sockets.add(connection)
    connection.close()
    del connection
    gc.collect()
    assert count_descriptors(name) == 0
