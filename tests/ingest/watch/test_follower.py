"""Follow a table: no row is missed, no row is stored twice, nothing is written to the table."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import psycopg
import pytest

from ingest.pipeline.metrics import DUPLICATES, REVISIONS
from ingest.runtime.errors import SourceUnavailable, StoreUnavailable
from ingest.store.connection import connect
from ingest.store.positions import Position
from ingest.watch.follower import TableFollower
from ingest.watch.sources.source import Identity, Row, Snapshot, Terms
from ingest.watch.target import Target
from tests.ingest.watch.bench import BY, Bench, add


@BY
def test_rows_are_stored_once_and_in_order(bench: Bench, time: str | None) -> None:
    async def main() -> None:
        async with bench.polling(time) as poll:
            await poll()
            add(bench.application.connection, 3)
            await poll()
            await poll()
            add(bench.application.connection, 2)
            await poll()

    asyncio.run(main())
    assert bench.rows() == [1, 2, 3, 4, 5]


def test_a_second_source_of_a_model_is_told_when_it_is_first_read(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be another column whose rows have the same ids, or the same table, renamed."""
    bench.application.connection.execute(
        "create view seen as select * from docs; grant select on seen to public"
    )

    async def told(table: str) -> int:
        caplog.clear()
        async with bench.polling(table=table) as poll:
            await poll()
            await poll()
        return sum("under this model's name" in each.getMessage() for each in caplog.records)

    async def main() -> list[int]:
        return [await told(table) for table in ("docs", "docs", "seen", "seen", "docs")]

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(main()) == [0, 0, 1, 0, 0]


def test_a_stored_vector_equals_that_of_the_table(bench: Bench) -> None:
    moment = 1_700_000_000.25
    vector = np.array([0.1, -2.5, 3e-5], np.float32)
    bench.application.connection.execute(
        "insert into docs values (7, %s::real[]::vector, to_timestamp(%s))",
        [vector.tolist(), moment],
    )

    async def main() -> None:
        async with bench.polling() as poll:
            await poll()

    asyncio.run(main())
    with connect(bench.store) as connection:
        row = connection.execute(
            "select model_name, id, extract(epoch from embedded_at)::float8, embedding::real[]"
            " from embedding"
        ).fetchone()
    assert row is not None
    assert row[:3] == ("m", "7", moment)
    np.testing.assert_array_equal(np.array(row[3], np.float32), vector)


@BY
def test_a_row_committed_late_is_not_missed(bench: Bench, time: str | None) -> None:
    early = bench.application.connection

    async def main() -> None:
        async with bench.polling(time) as poll:
            with connect(bench.application.string) as late:
                with late.transaction():
                    add(late)
                    add(early)
                    await poll()
                    assert bench.rows() == [2]
                    bench.clock.now += 299
                    add(early)
                    await poll()
                    assert bench.rows() == [2, 3]
                await poll()

    asyncio.run(main())
    assert bench.rows() == [2, 3, 1]


@BY
def test_a_row_of_a_transaction_longer_than_the_overlap_is_missed(
    bench: Bench, time: str | None
) -> None:
    early = bench.application.connection

    async def main() -> None:
        async with bench.polling(time) as poll:
            with connect(bench.application.string) as late, late.transaction():
                add(late)
                add(early)
                await poll()
                bench.clock.now += 301
                await poll()
            await poll()

    asyncio.run(main())
    assert bench.rows() == [2]


def test_many_writers_at_once_lose_nothing(bench: Bench) -> None:
    writers, rounds = 4, 25

    def advance() -> None:
        bench.clock.now += 1

    # The clock counts rounds, so no transaction is open for longer on a slow machine.
    together = threading.Barrier(writers, advance)

    def write(seed: int) -> None:
        random = np.random.default_rng(seed)
        with connect(bench.application.string) as connection:
            for _ in range(rounds):
                together.wait()
                with connection.transaction():
                    add(connection)
                    time.sleep(random.uniform(0, 0.02))

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(writers)]

    async def main() -> None:
        async with bench.polling(overlap=2) as poll:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                await poll()
            await poll()

    asyncio.run(main())
    assert sorted(bench.rows()) == list(range(1, writers * rounds + 1))


@BY
@pytest.mark.parametrize("before", [0, 3, 50])
def test_rows_inserted_while_nothing_watched_are_read_on_restart(
    bench: Bench, time: str | None, before: int
) -> None:
    connection = bench.application.connection
    add(connection, before)

    async def once() -> None:
        async with bench.polling(time, baseline_vectors=10) as poll:
            await poll()

    asyncio.run(once())
    assert bench.rows() == list(range(max(1, before - 9), before + 1))
    add(connection, 40)
    asyncio.run(once())
    assert bench.rows() == list(range(max(1, before - 9), before + 41))


def test_rows_of_one_time_are_not_all_new_at_the_start(bench: Bench) -> None:
    add(bench.application.connection, 5_000)  # one transaction, so one time

    async def main() -> None:
        async with bench.polling(baseline_vectors=100, overlap=0) as poll:
            for _ in range(3):
                await poll()

    asyncio.run(main())
    assert bench.rows() == list(range(4_901, 5_001))


@pytest.mark.parametrize(("ids", "revisions"), [("revise", 1), ("once", 0)])
def test_a_row_with_a_new_vector_and_time_counts_again(
    bench: Bench, ids: Literal["revise", "once"], revisions: int
) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling("updated_at", ids=ids) as poll:
            add(connection)
            await poll()
            connection.execute("update docs set embedding = '[9, 9, 9]', updated_at = now()")
            await poll()

    asyncio.run(main())
    assert bench.rows() == [1, 1]
    assert bench.total(REVISIONS) == revisions


WATCH = Path(__file__).parents[3] / "docs" / "watch.md"
UNIQUE_WITH_TIME = "alter table docs drop constraint docs_pkey, add primary key (id, updated_at)"
TOUCH = "update docs set updated_at = clock_timestamp()"


def test_rows_with_a_new_time_and_the_same_vector_do_not_count_again(bench: Bench) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling("updated_at", overlap=0) as poll:
            add(connection, 3)
            await poll()
            connection.execute(TOUCH)
            await poll()
        async with bench.polling("updated_at") as poll:
            connection.execute(TOUCH)
            await poll()

    asyncio.run(main())
    assert bench.stored() == ["1", "2", "3"]
    assert bench.total(DUPLICATES) == 6


@pytest.mark.parametrize(
    ("change", "table", "ids"),
    [
        (UNIQUE_WITH_TIME, "docs", "revise"),
        ("create view v as select * from docs; grant select on v to public", "v", "revise"),
        ("select", "docs", "once"),
    ],
    ids=["unique with the time", "a view", "an id that counts once"],
)
def test_rows_with_a_new_time_count_again_where_the_id_alone_does_not_tell_them(
    bench: Bench, change: str, table: str, ids: Literal["revise", "once"]
) -> None:
    connection = bench.application.connection
    connection.execute(change.encode())

    async def main() -> None:
        async with bench.polling("updated_at", table=table, ids=ids) as poll:
            add(connection, 3)
            await poll()
            connection.execute(TOUCH)
            await poll()

    asyncio.run(main())
    assert bench.rows() == [1, 2, 3, 1, 2, 3]


def test_the_trigger_of_the_documentation_lets_only_another_vector_count_again(
    bench: Bench,
) -> None:
    connection = bench.application.connection
    connection.execute(
        "create table langchain_pg_embedding"
        " (id varchar primary key, embedding vector, tenant text);"
        "insert into langchain_pg_embedding select n, array[n, 2]::vector"
        " from generate_series(1, 9) as n;"
        "grant select on langchain_pg_embedding to public"
    )
    [statements] = re.findall(r"```sql\n(alter table .*?)```", WATCH.read_text(), re.DOTALL)
    connection.execute(statements.encode())

    async def main() -> None:
        async with bench.polling(
            "updated_at", table="langchain_pg_embedding", baseline_vectors=5
        ) as poll:
            await poll()
            connection.execute("update langchain_pg_embedding set tenant = 'a'")
            await poll()
            assert len(bench.stored()) == len(bench.sent) == 5
            connection.execute(
                "update langchain_pg_embedding set embedding = '[0, 1]' where id = '3';"
                "insert into langchain_pg_embedding values ('10', '[10, 2]')"
            )
            await poll()

    asyncio.run(main())
    assert sorted(bench.stored()[5:]) == ["10", "3"]


def test_vectors_of_one_id_at_different_times_are_all_stored(bench: Bench) -> None:
    connection = bench.application.connection
    connection.execute(
        f"{UNIQUE_WITH_TIME};"
        "insert into docs select 7, array[n, 2]::vector, now() - n * interval '1 hour'"
        " from generate_series(1, 3) as n".encode()
    )

    async def main() -> None:
        async with bench.polling("updated_at") as poll:
            await poll()

    asyncio.run(main())
    assert bench.rows() == [7, 7, 7]


def test_a_row_counts_when_it_gets_its_vector(bench: Bench) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling() as poll:
            connection.execute("insert into docs (embedding) values (null)")
            await poll()
            connection.execute("update docs set embedding = '[1, 2, 3]', updated_at = now()")
            await poll()

    asyncio.run(main())
    assert bench.rows() == [1]


def test_a_time_in_the_future_does_not_hide_later_rows(bench: Bench) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling(overlap=0) as poll:
            for moment in ("2099-01-01", "infinity"):
                connection.execute(
                    "insert into docs (embedding, updated_at) values ('[1,2,3]', %s)", [moment]
                )
            await poll()
            await poll()
            add(connection)
            await poll()

    asyncio.run(main())
    assert bench.rows() == [1, 2, 3]


@pytest.mark.parametrize(
    ("declared", "value", "id_"),
    [
        ("timestamp", "now() at time zone 'UTC' - interval '1 minute'", None),
        ("bigint", "1700000000", "1@1700000000"),
        ("integer", "1700000000", "1@1700000000"),
        ("numeric(20, 3)", "1700000000.125", "1@1700000000.125"),
        ("double precision", "1700000000.1", "1@1700000000.1"),
    ],
)
def test_a_time_may_be_of_any_of_these_types(
    bench: Bench, declared: str, value: str, id_: str | None
) -> None:
    connection = bench.application.connection
    connection.execute("alter table docs drop column updated_at, drop constraint docs_pkey")
    connection.execute(f"alter table docs add column updated_at {declared}".encode())

    async def main() -> None:
        async with bench.polling(overlap=0) as poll:
            for _ in range(2):
                connection.execute(
                    f"insert into docs (embedding, updated_at) values ('[1,2,3]', {value})".encode()
                )
                await poll()
                await poll()

    asyncio.run(main())
    assert bench.rows() == [1, 2]
    assert id_ is None or bench.stored()[0] == id_


@pytest.mark.parametrize("declared", ["uuid", "text", "character(40)", "varchar"])
def test_with_a_time_an_id_may_be_of_any_type(bench: Bench, declared: str) -> None:
    connection = bench.application.connection
    connection.execute("alter table docs drop column id")
    connection.execute(f"alter table docs add column id {declared} primary key".encode())

    async def main() -> None:
        async with bench.polling(overlap=0) as poll:
            for _ in range(3):
                connection.execute(
                    "insert into docs (embedding, id)"
                    f" select '[1,2,3]', gen_random_uuid()::{declared}"
                    " from generate_series(1, 5)".encode()
                )
                await poll()
                await poll()

    asyncio.run(main())
    in_table = {str(id_) for (id_,) in connection.execute("select id::text from docs")}
    assert {id_.partition("@")[0] for id_ in bench.stored()} == in_table
    assert len(bench.stored()) == 15


@pytest.mark.parametrize("id_", ["repeat('x', 3000) || 'é'", "'canary:own:a'"])
def test_an_id_that_no_vector_may_have_is_stored_as_its_digest(bench: Bench, id_: str) -> None:
    connection = bench.application.connection
    connection.execute("alter table docs alter column id type text")
    connection.execute(f"insert into docs values ({id_}, '[1,2,3]', now())".encode())

    async def main() -> None:
        for _ in range(2):
            async with bench.polling() as poll:
                await poll()

    asyncio.run(main())
    [id_] = bench.stored()
    assert len(id_) == 64


def test_half_precision_and_quoted_names_are_read(bench: Bench) -> None:
    connection = bench.application.connection
    connection.execute('create schema "My app"')
    connection.execute(
        'create table "My app"."Docs" ("id" serial primary key, embedding halfvec(3))'
    )
    connection.execute('insert into "My app"."Docs" (embedding) values (\'[1,2,0.5]\')')
    role = psycopg.conninfo.conninfo_to_dict(bench.application.reader)["user"]
    connection.execute(f'grant usage on schema "My app" to {role}'.encode())
    connection.execute(f'grant select on "My app"."Docs" to {role}'.encode())

    async def main() -> None:
        async with bench.polling(None, table='"My app"."Docs"') as poll:
            await poll()

    asyncio.run(main())
    with connect(bench.store) as store:
        assert store.execute("select embedding::real[] from embedding").fetchall() == [
            ([1.0, 2.0, 0.5],)
        ]


def test_rows_of_another_dimension_are_skipped_and_recorded(bench: Bench) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling() as poll:
            add(connection)
            await poll()
            connection.execute("insert into docs (embedding) values ('[1,2]')")
            add(connection)
            await poll()
            await poll()

    asyncio.run(main())
    assert bench.rows() == [1, 3]
    with connect(bench.store) as store:
        assert store.execute("select mismatched_dimension from model").fetchall() == [(2,)]


def test_following_continues_after_the_source_was_unavailable(bench: Bench) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling() as poll:
            add(connection)
            await poll()
            connection.execute("alter table docs rename to gone")
            with pytest.raises(SourceUnavailable, match=r'"public\.docs" does not exist'):
                await poll()
            connection.execute("alter table gone rename to docs")
            connection.execute(
                "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
            add(connection)
            await poll()

    asyncio.run(main())
    assert bench.rows() == [1, 2]


def test_no_row_is_lost_while_the_store_is_unavailable(bench: Bench) -> None:
    def allow(value: str) -> None:
        with connect(bench.store) as store:
            name = store.info.dbname
            store.execute("set default_transaction_read_only = off")
            store.execute(
                f"alter database {name} set default_transaction_read_only = {value}".encode()
            )
            store.execute(
                "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )

    async def main() -> None:
        async with bench.polling(overlap=0) as poll:
            add(bench.application.connection)
            await poll()
            allow("on")
            add(bench.application.connection)
            with pytest.raises(StoreUnavailable):
                await poll()
            allow("off")
            await poll()

    asyncio.run(main())
    assert bench.rows() == [1, 2]


def test_an_error_of_the_store_is_not_reported_as_one_of_the_table(bench: Bench) -> None:
    with connect(bench.store) as connection:
        connection.execute("alter table watch add check (false)")

    async def follow() -> None:
        async with bench.polling() as poll:
            await poll()

    with pytest.raises(psycopg.errors.CheckViolation):
        asyncio.run(follow())


def test_rows_with_equal_id_and_time_count_once(bench: Bench) -> None:
    """A view may join its rows to others."""
    bench.application.connection.execute(
        "create view twice as select docs.* from docs cross join generate_series(1, 2)"
    )
    bench.application.connection.execute("grant select on twice to public")
    add(bench.application.connection, 3)

    async def follow() -> None:
        async with bench.polling(table="twice") as poll:
            await poll()

    asyncio.run(follow())
    assert sorted(bench.rows()) == [1, 2, 3]


@dataclass
class ListSource:
    """A source without a database: rows in a list. A position is how many rows precede it."""

    content: list[Row]
    name = "list"
    advice = ()
    finds_changes = False
    has_identity = False

    def __str__(self) -> str:
        return "list"

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        yield

    def follower(self, target: Target, terms: Terms) -> TableFollower:
        return TableFollower(self, target, terms)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        yield ListSource(list(self.content))

    async def newest(self, skip: int = 0) -> Position:
        count = len(self.content) - skip
        return (str(count),) if count > 0 else ()

    async def rows(self, after: Position, known: Sequence[str]) -> AsyncGenerator[list[Row], None]:
        first = int(after[0]) if after else 0
        if block := [row for row in self.content[first:] if row.key not in known]:
            yield block

    async def identity(self) -> None:
        return None

    async def reaches(self, position: Position) -> bool:
        return not position or int(position[0]) <= len(self.content)

    async def at(self, positions: Sequence[Position]) -> list[Row]:
        return [row for row in self.content if (row.key,) in positions]


def test_a_source_need_not_be_a_database(bench: Bench) -> None:
    rows = [Row(str(n), None, np.array([n, 1], np.float32)) for n in range(6)]

    async def main() -> None:
        for count in (3, 4, 6):
            source = ListSource(rows[:count])
            async with bench.following(source, baseline_vectors=2) as follower:
                await follower.poll()

    asyncio.run(main())
    assert bench.rows() == [1, 2, 3, 4, 5]


@dataclass
class CancelledSource(ListSource):
    """A source whose transactions may read three rows: then its server ends them."""

    made: int = 1

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        yield CancelledSource(list(self.content), self.made)

    async def identity(self) -> Identity | None:  # type: ignore[override]
        return Identity("list", str(self.made))

    async def rows(self, after: Position, known: Sequence[str]) -> AsyncGenerator[list[Row], None]:
        async for block in super().rows(after, known):
            for row in block[:3]:
                yield [row]
            if len(block) > 3:
                raise SourceUnavailable("conflict with recovery")


def test_polls_that_fail_halfway_come_to_the_end_and_read_no_row_twice(bench: Bench) -> None:
    source = CancelledSource([Row(str(n), None, np.array([n, 1], np.float32)) for n in range(8)])

    async def main() -> None:
        async with bench.following(source) as follower:
            for _ in range(2):
                with pytest.raises(SourceUnavailable):
                    await follower.poll()
            await follower.poll()
            # Within the overlap, the rows of the polls that failed are still known.
            source.content.append(Row("8", None, np.array([8, 1], np.float32)))
            await follower.poll()

    asyncio.run(main())
    assert [sent.id for sent in bench.sent] == [str(n) for n in range(9)]
    assert bench.rows() == list(range(9))


def test_a_poll_that_failed_does_not_advance_the_position(bench: Bench) -> None:
    rows = [Row(str(n), None, np.array([n, 1], np.float32)) for n in range(5)]

    async def main() -> None:
        async with bench.following(CancelledSource(rows)) as follower:
            with pytest.raises(SourceUnavailable):
                await follower.poll()
        # After a restart the keys are forgotten: rows are read twice rather than missed.
        async with bench.following(ListSource(rows)) as follower:
            await follower.poll()

    asyncio.run(main())
    assert bench.rows() == list(range(5))


@pytest.mark.parametrize("first", [0, 3], ids=["empty at the start", "with rows at the start"])
@pytest.mark.parametrize(("made", "count"), [(1, 2), (2, 8)], ids=["fewer rows", "made anew"])
def test_rows_of_a_table_that_is_emptied_after_a_poll_that_failed_are_read(
    bench: Bench, first: int, made: int, count: int
) -> None:
    def rows(count: int, y: float) -> list[Row]:
        return [Row(str(n), None, np.array([n, y], np.float32)) for n in range(count)]

    source = CancelledSource(rows(first, 1))

    async def main() -> None:
        async with bench.following(source) as follower:
            await follower.poll()
            source.content = rows(8, 1)
            with pytest.raises(SourceUnavailable):
                await follower.poll()
            source.content, source.made = rows(count, 2), made
            for _ in range(3):
                with suppress(SourceUnavailable):
                    await follower.poll()

    asyncio.run(main())
    assert [int(sent.id or "") for sent in bench.sent if sent.vector[1] == 2] == list(range(count))
