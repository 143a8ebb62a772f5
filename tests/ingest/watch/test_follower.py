"""Follow a table: no row is missed, no row is stored twice, nothing is written to the table."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import psycopg
import pytest

from ingest.runtime.errors import SourceUnavailable, StoreUnavailable
from ingest.store.connection import connect
from ingest.store.positions import Position
from ingest.watch.sources.postgres import PostgresSource
from ingest.watch.sources.postgres_catalogue import describe
from ingest.watch.sources.source import Location, Row, Snapshot
from tests.postgresql import Application
from tests.watching import Sent, Watching

Poll = Callable[[], Awaitable[None]]


@dataclass
class Bench(Watching):
    """A store, a table, and ways to follow the one into the other."""

    application: Application = field(kw_only=True)

    @asynccontextmanager
    async def polling(
        self,
        time: str | None = "updated_at",
        *,
        table: str = "docs",
        baseline_vectors: int = 1_000,
        overlap: float = 300.0,
        rechecks: float = 0.0,
    ) -> AsyncIterator[Poll]:
        reader = self.application.reader
        # Not `find`: it refuses a connection string with a password.
        with connect(reader) as connection:
            source = PostgresSource(reader, describe(connection, Location(table, time=time)))
        async with self.following(
            source, baseline_vectors=baseline_vectors, overlap=overlap, rechecks=rechecks
        ) as follower:
            yield follower.poll

    def stored(self) -> list[str]:
        """Ids in the order in which they were stored."""
        with connect(self.store) as connection:
            rows = connection.execute("select id from embedding order by model_name, seq")
            return [id_ for (id_,) in rows]

    def rows(self) -> list[int]:
        """The table's ids of the stored rows, in the same order."""
        return [int(id_.partition("@")[0]) for id_ in self.stored()]


@pytest.fixture
def bench(application: Application, store: str) -> Bench:
    return Bench(store, application=application)


def add(connection: psycopg.Connection, count: int = 1) -> None:
    connection.execute(
        "insert into docs (embedding) select array[n, 2, 3]::vector from generate_series(1, %s) n",
        [count],
    )


BY = pytest.mark.parametrize("time", ["updated_at", None], ids=["by time", "by id"])


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
    assert row[:3] == ("m", "7@2023-11-14 22:13:20.25+00", moment)
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


def test_a_row_with_a_new_vector_and_time_counts_again(bench: Bench) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling("updated_at") as poll:
            add(connection)
            await poll()
            connection.execute("update docs set embedding = '[9, 9, 9]', updated_at = now()")
            await poll()

    asyncio.run(main())
    first, second = bench.stored()
    assert first != second
    assert bench.rows() == [1, 1]


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
    connection.execute("alter table docs drop column updated_at")
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


def test_a_long_id_is_stored_as_its_digest(bench: Bench) -> None:
    connection = bench.application.connection
    connection.execute("alter table docs alter column id type text")
    connection.execute("insert into docs values (repeat('x', 3000) || 'é', '[1,2,3]', now())")

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


def refill(connection: psycopg.Connection, count: int, first: int = 101) -> None:
    """Replace the rows by ``count`` others, in one transaction. Their ids start again from 1."""
    with connection.transaction():
        connection.execute("truncate docs restart identity")
        connection.execute(
            "insert into docs (embedding)"
            " select array[n, 2, 3]::vector from generate_series(%s::int, %s::int) as n",
            [first, first + count - 1],
        )


def firsts(sent: Sequence[Sent]) -> list[float]:
    """The first component of each vector."""
    return [vector[0] for _, vector in sent]


@BY
@pytest.mark.parametrize("count", [3, 5, 9], ids=["fewer rows", "as many rows", "more rows"])
@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
def test_a_table_that_was_emptied_and_refilled_is_read_anew(
    bench: Bench, time: str | None, count: int, restarts: bool
) -> None:
    async def main() -> None:
        async with bench.polling(time) as poll:
            add(bench.application.connection, 5)
            await poll()
            assert (bench.resets(), len(bench.sent)) == (0, 5)
            if not restarts:
                refill(bench.application.connection, count)
                await poll()
                await poll()
        if restarts:
            refill(bench.application.connection, count)
            async with bench.polling(time) as poll:
                await poll()
                await poll()

    asyncio.run(main())
    assert firsts(bench.sent[5:]) == list(range(101, 101 + count))
    assert [id_ and id_.partition("@")[0] for id_, _ in bench.sent[5:]] == [
        str(n) for n in range(1, count + 1)
    ]
    # With new times, the keys are new too. It is still noticed, by the files of the table.
    assert bench.resets() == 1


def test_a_table_set_back_after_the_overlap_is_read_anew(bench: Bench) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling(None, overlap=10) as poll:
            for _ in range(3):
                add(connection, 5)
                await poll()
                bench.clock.now += 20
            refill(connection, 9)
            for _ in range(3):
                await poll()
                bench.clock.now += 20
            add(connection)
            await poll()

    asyncio.run(main())
    assert firsts(bench.sent[15:]) == [*range(101, 110), 1]
    assert bench.resets() == 1


def test_following_begins_anew_with_as_many_rows_as_a_baseline(bench: Bench) -> None:
    async def main() -> None:
        async with bench.polling(None, baseline_vectors=4) as poll:
            add(bench.application.connection, 50)
            await poll()
            refill(bench.application.connection, 20)
            await poll()

    asyncio.run(main())
    assert [id_ for id_, _ in bench.sent] == ["47", "48", "49", "50", "17", "18", "19", "20"]
    assert bench.resets() == 1


def test_rows_deleted_and_inserted_again_with_smaller_ids_are_read_anew(bench: Bench) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling(None) as poll:
            add(connection, 12)  # compared as text, "9" would be after "12"
            await poll()
            connection.execute("delete from docs")
            connection.execute(
                "insert into docs (id, embedding)"
                " select n, array[100 + n, 2, 3]::vector from generate_series(1, 9) as n"
            )
            await poll()

    asyncio.run(main())
    assert firsts(bench.sent[12:]) == list(range(101, 110))
    assert bench.resets() == 1


@BY
@pytest.mark.parametrize("how", ["truncate docs", "delete from docs"])
def test_a_table_seen_empty_counts_once_and_every_later_row_is_read(
    bench: Bench, time: str | None, how: str
) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling(time, baseline_vectors=3) as poll:
            add(connection, 3)
            await poll()
            connection.execute(how.encode())
            await poll()
            await poll()
            connection.execute("alter sequence docs_id_seq restart")
            add(connection, 8)
            await poll()
            await poll()

    asyncio.run(main())
    assert firsts(bench.sent) == [1, 2, 3, *range(1, 9)]
    assert bench.resets() == 1


@BY
def test_a_table_that_was_empty_cannot_be_set_back(bench: Bench, time: str | None) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling(time) as poll:
            await poll()
            refill(connection, 4)
            await poll()

    asyncio.run(main())
    assert firsts(bench.sent) == [101, 102, 103, 104]
    assert bench.resets() == 0


@BY
@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("how", ["vacuum full docs", "cluster docs using docs_pkey"])
def test_maintenance_that_writes_the_rows_anew_is_not_a_reset(
    bench: Bench, time: str | None, how: str, restarts: bool
) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling(time) as poll:
            add(connection, 5)
            await poll()
            before = files(connection)
            connection.execute(how.encode())
            assert files(connection) != before
            if not restarts:
                add(connection, 2)
                await poll()
        if restarts:
            bench.sent.clear()
            async with bench.polling(time) as poll:
                await poll()

    asyncio.run(main())
    assert bench.resets() == 0
    # A restart reads the rows of the last overlap again.
    assert firsts(bench.sent) == ([1, 2, 3, 4, 5] if restarts else [1, 2, 3, 4, 5, 1, 2])


def files(connection: psycopg.Connection) -> int:
    [(number,)] = connection.execute("select pg_relation_filenode('docs')").fetchall()
    return int(number)


def test_a_table_truncated_after_maintenance_is_noticed(bench: Bench) -> None:
    """The identity of the rewritten table is kept, and compared with later."""
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling(None) as poll:
            add(connection, 5)
            await poll()
            connection.execute("vacuum full docs")
            await poll()
            assert bench.resets() == 0
            refill(connection, 9)
            await poll()

    asyncio.run(main())
    assert bench.resets() == 1
    assert firsts(bench.sent[5:]) == list(range(101, 110))


def test_another_table_of_the_same_name_is_read_anew(bench: Bench) -> None:
    """Even if its newest row is the same, as in a copy with some vectors replaced."""
    connection = bench.application.connection
    connection.execute("create table fresh (like docs including all)")
    connection.execute("grant select on fresh to public")

    async def main() -> None:
        async with bench.polling(None) as poll:
            add(connection, 5)
            await poll()
            with connection.transaction():
                connection.execute("insert into fresh select * from docs")
                connection.execute("update fresh set embedding = '[9, 9, 9]' where id = 2")
                connection.execute("alter table docs rename to old")
                connection.execute("alter table fresh rename to docs")
            await poll()
            await poll()

    asyncio.run(main())
    assert sorted(firsts(bench.sent[5:])) == [1, 3, 4, 5, 9]
    assert bench.resets() == 1


def test_a_table_dropped_and_created_again_is_read_anew(bench: Bench) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling(None) as poll:
            add(connection, 2)
            await poll()
            with connection.transaction():
                connection.execute("drop table docs")
                connection.execute("create table docs (id bigserial primary key, embedding vector)")
                connection.execute("grant select on docs to public")
                add(connection, 4)
            await poll()

    asyncio.run(main())
    assert firsts(bench.sent[2:]) == [1, 2, 3, 4]
    assert bench.resets() == 1


@BY
def test_changed_and_deleted_older_rows_are_not_a_reset(bench: Bench, time: str | None) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling(time) as poll:
            add(connection, 5)
            await poll()
            connection.execute("delete from docs where id <= 2")
            connection.execute("update docs set embedding = '[9, 9, 9]' where id = 5")
            connection.execute("update docs set embedding = null where id = 3")
            await poll()
            add(connection)
            await poll()

    asyncio.run(main())
    assert bench.resets() == 0
    assert len(bench.sent) == 6


@BY
def test_a_deleted_newest_row_counts_as_a_reset_and_nothing_is_stored_twice(
    bench: Bench, time: str | None
) -> None:
    """It cannot be told from a table that was refilled with fewer rows."""
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling(time) as poll:
            for _ in range(3):
                add(connection)
                await poll()
            connection.execute("delete from docs where id = 3")
            await poll()
            await poll()

    asyncio.run(main())
    assert bench.rows() == [1, 2, 3]
    assert bench.resets() == 1


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
def test_behind_a_view_the_position_tells_that_the_table_was_emptied(
    bench: Bench, restarts: bool
) -> None:
    connection = bench.application.connection
    connection.execute("create view seen as select * from docs")
    connection.execute("grant select on seen to public")

    async def main() -> None:
        async with bench.polling(None, table="seen") as poll:
            add(connection, 5)
            await poll()
            connection.execute("vacuum full docs")
            await poll()
            assert bench.resets() == 0
            refill(connection, 3)
            if not restarts:
                await poll()
        if restarts:
            async with bench.polling(None, table="seen") as poll:
                await poll()

    asyncio.run(main())
    assert firsts(bench.sent[5:]) == [101, 102, 103]
    assert bench.resets() == 1


def test_partitions_may_come_and_go_but_not_be_emptied(bench: Bench) -> None:
    connection = bench.application.connection
    connection.execute(
        "drop table docs; create table docs (id bigserial primary key, embedding vector)"
        " partition by range (id);"
        "create table docs_1 partition of docs for values from (1) to (4);"
        "create table docs_2 partition of docs for values from (4) to (100);"
        "grant select on docs to public"
    )

    async def main() -> None:
        async with bench.polling(None) as poll:
            add(connection, 5)
            await poll()
            connection.execute(
                "create table docs_3 partition of docs for values from (100) to (200)"
            )
            await poll()
            connection.execute("drop table docs_1")
            await poll()
            assert bench.resets() == 0
            connection.execute("create table docs_1 partition of docs for values from (1) to (4)")
            refill(connection, 9)
            await poll()

    asyncio.run(main())
    assert firsts(bench.sent[5:]) == list(range(101, 110))
    assert bench.resets() == 1


def test_a_reset_is_logged_once_with_what_was_seen(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling(None) as poll:
            add(connection, 5)
            await poll()
            refill(connection, 3)
            await poll()
            await poll()

    asyncio.run(main())
    [record] = [r for r in caplog.records if "emptied or re-made" in r.getMessage()]
    given = vars(record)
    assert record.levelname == "WARNING"
    assert given["reason"] == "the newest row is older than before"
    assert (given["newest_before"], given["newest_now"]) == (("5",), ("3",))
    table, storage = given["identity_before"]
    assert given["identity_now"] == (table, str(files(connection)))
    assert storage != str(files(connection))


def test_a_reset_is_not_lost_while_the_store_is_unavailable(bench: Bench) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling(None) as poll:
            add(connection, 5)
            await poll()
            refill(connection, 3)
            with connect(bench.store) as store:
                store.execute("alter table watch rename to away")
                with pytest.raises(StoreUnavailable):
                    await poll()
                store.execute("alter table away rename to watch")
            await poll()

    asyncio.run(main())
    assert firsts(bench.sent[5:]) == [101, 102, 103]
    assert bench.resets() == 1


@pytest.mark.parametrize(("count", "resets"), [(3, 1), (5, 0)])
def test_after_an_upgrade_only_the_position_is_compared(
    bench: Bench, count: int, resets: int
) -> None:
    """The previous release saved neither the identity nor the newest row."""
    connection = bench.application.connection

    async def once() -> None:
        async with bench.polling(None, overlap=0) as poll:
            await poll()
            await poll()

    add(connection, 5)
    asyncio.run(once())
    with connect(bench.store) as store:
        store.execute("update watch set identity = null, newest = null, digest = null")
    refill(connection, count)
    asyncio.run(once())
    assert bench.resets() == resets
    refill(connection, 9, first=201)
    asyncio.run(once())
    assert bench.resets() == resets + 1


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
