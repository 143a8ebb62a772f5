"""Scripts: several statements by one message, COPY among them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import psutil
import psycopg
import pytest

from ingest.store.connection import connect
from ingest.store.script import Script

Write = Callable[[Script], None]


@pytest.fixture
def table(store: str) -> str:
    """Give a store with a table of names and numbers."""
    with connect(store) as connection:
        connection.execute("create table pair (name text, number text)")
    return store


def pairs(store: str) -> list[tuple[object, ...]]:
    with connect(store) as connection:
        return connection.execute("select name, number from pair order by 1, 2").fetchall()


def run(store: str, *writes: Write) -> None:
    async def all_() -> None:
        async with await psycopg.AsyncConnection.connect(store, autocommit=True) as connection:
            for write in writes:
                script = Script(connection)
                write(script)
                await script.run()

    asyncio.run(all_())


def row(name: bytes, number: bytes) -> bytes:
    fields = (len(value).to_bytes(4, "big") + value for value in (name, number))
    return (2).to_bytes(2, "big") + b"".join(fields)


def test_statements_and_copies_are_executed_in_their_order(table: str) -> None:
    def write(script: Script) -> None:
        script.add("insert into pair values (%s, %s)", ["it's", "100%"])
        script.add_copy("pair", [row(b"a", b"1"), row(b"b", b"2")])
        script.add("update pair set number = number || '!'")
        script.add_copy("pair", [row(b"c", b"3")])

    run(table, write)
    assert pairs(table) == [("a", "1!"), ("b", "2!"), ("c", "3"), ("it's", "100%!")]


def test_a_copy_may_be_longer_than_what_libpq_takes_at_once(table: str) -> None:
    long = 300_000
    run(table, lambda script: script.add_copy("pair", [row(b"a", b"1" * long)] * 8))
    assert [len(str(number)) for _, number in pairs(table)] == [long] * 8


def test_what_is_behind_a_refused_statement_is_not_executed(table: str) -> None:
    def write(script: Script) -> None:
        script.add("insert into pair values ('before', '')")
        script.add("select 1 / 0")
        script.add_copy("pair", [row(b"behind", b"")])
        script.add("commit")

    with pytest.raises(psycopg.errors.DivisionByZero):
        run(table, lambda script: script.add("begin"), write)
    assert pairs(table) == []


def test_what_is_behind_a_refused_copy_is_not_executed(table: str) -> None:
    def write(script: Script) -> None:
        script.add_copy("pair", [b"\0\2 no tuple"])
        script.add("commit")

    with pytest.raises(psycopg.errors.DataError):
        run(table, lambda script: script.add("begin"), write)
    assert pairs(table) == []


def test_a_connection_serves_on_after_a_refusal(table: str) -> None:
    async def refused_and_good() -> None:
        async with await psycopg.AsyncConnection.connect(table, autocommit=True) as connection:
            refused = Script(connection)
            refused.add_copy("pair", [b"\0\1"])
            with pytest.raises(psycopg.Error):
                await refused.run()
            good = Script(connection)
            good.add_copy("pair", [row(b"a", b"1")])
            await good.run()

    asyncio.run(refused_and_good())
    assert pairs(table) == [("a", "1")]


def test_a_server_that_goes_away_is_an_operational_error(table: str) -> None:
    async def cut() -> None:
        async with await psycopg.AsyncConnection.connect(table, autocommit=True) as connection:
            script = Script(connection)
            script.add("select pg_terminate_backend(pg_backend_pid())")
            script.add_copy("pair", [row(b"a", b"1")])
            with pytest.raises(psycopg.OperationalError):
                await script.run()

    asyncio.run(cut())


def test_a_copy_that_takes_too_long_is_cancelled_and_its_connection_serves_on(table: str) -> None:
    with connect(table) as connection:
        connection.execute(
            "create function nap() returns trigger language plpgsql"
            " as $$begin perform pg_sleep(0.2); return new; end$$"
        )
        connection.execute(
            "create trigger nap before insert on pair for each row execute function nap()"
        )

    async def cut_short() -> None:
        async with await psycopg.AsyncConnection.connect(table, autocommit=True) as connection:
            slow = Script(connection)
            slow.add("begin")
            slow.add_copy("pair", [row(b"a", b"1" * 100_000)] * 200)
            slow.add("commit")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await slow.run()
            await connection.rollback()
            assert await (await connection.execute("select from pair")).fetchall() == []

    asyncio.run(cut_short())


def test_two_scripts_of_one_connection_take_turns(table: str) -> None:
    async def both() -> None:
        async with await psycopg.AsyncConnection.connect(table, autocommit=True) as connection:
            scripts = Script(connection), Script(connection)
            for name, script in zip((b"a", b"b"), scripts, strict=True):
                script.add("select pg_sleep(0.1)")
                script.add_copy("pair", [row(name, b"1")])
            await asyncio.gather(*(script.run() for script in scripts))

    asyncio.run(both())
    assert pairs(table) == [("a", "1"), ("b", "1")]


def test_no_more_is_laid_out_than_the_server_takes(table: str) -> None:
    """Or a group for a server that hangs would be in memory twice."""
    laid_out = 0

    async def stopped_meanwhile() -> None:
        async with await psycopg.AsyncConnection.connect(table, autocommit=True) as connection:
            session = psutil.Process(connection.info.backend_pid)

            def tuples() -> Iterator[bytes]:
                nonlocal laid_out
                session.suspend()
                for _ in range(100):
                    laid_out += 1
                    yield row(b"a", b"1" * 1_000_000)

            script = Script(connection)
            script.add_copy("pair", tuples())
            running = asyncio.create_task(script.run())
            try:
                await asyncio.sleep(1)
                assert 0 < laid_out < 10
            finally:
                session.resume()
            await running

    asyncio.run(stopped_meanwhile())
    assert (laid_out, len(pairs(table))) == (100, 100)
