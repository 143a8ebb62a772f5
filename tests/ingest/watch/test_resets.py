"""A table that was emptied, re-made or set back is read anew; maintenance of it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import psycopg
import pytest

from ingest.runtime.errors import StoreUnavailable
from ingest.store.connection import connect
from tests.ingest.watch.bench import BY, Bench, add
from tests.watching import Sent


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


@BY
def test_maintenance_after_the_newest_vector_changed_in_place_is_not_a_reset(
    bench: Bench, time: str | None
) -> None:
    """The polls before the maintenance saw the change."""
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling(time) as poll:
            add(connection, 5)
            await poll()
            connection.execute("update docs set embedding = '[9, 9, 9]' where id = 5")
            await poll()
            connection.execute("vacuum full docs")
            await poll()

    asyncio.run(main())
    assert bench.resets() == 0


def test_a_table_set_back_to_before_the_newest_vector_changed_in_place_is_read_anew(
    bench: Bench,
) -> None:
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling(None) as poll:
            refill(connection, 5)
            await poll()
            connection.execute("update docs set embedding = '[9, 9, 9]' where id = 5")
            await poll()
            refill(connection, 5)
            await poll()

    asyncio.run(main())
    assert bench.resets() == 1


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
@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
def test_a_deleted_newest_row_is_not_a_reset(
    bench: Bench, time: str | None, restarts: bool
) -> None:
    """Rows that expired in the store would count as new if they were read again."""
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling(time, overlap=0) as poll:
            for _ in range(5):
                add(connection)
                await poll()
            with connect(bench.store) as store:
                for table in ("embedding", "embedding_id"):
                    store.execute(f"delete from {table} where id like '1%'".encode())
            if not restarts:
                connection.execute("delete from docs where id > 3")
                await poll()
                await poll()
        if restarts:
            connection.execute("delete from docs where id > 3")
        async with bench.polling(time, overlap=0) as poll:
            await poll()
            add(connection)
            await poll()

    asyncio.run(main())
    assert bench.rows() == [2, 3, 4, 5, 6]
    assert bench.resets() == 0


def test_a_deleted_newest_row_is_not_a_reset_after_an_upgrade(bench: Bench) -> None:
    """Earlier releases stored the time of a row in its id."""
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling("updated_at", overlap=0) as poll:
            add(connection, 5)
            await poll()
        keys = connection.execute("select id::text, id || '@' || updated_at::text from docs")
        with connect(bench.store) as store:
            for id_, key in keys.fetchall():
                for table in ("embedding", "embedding_id"):
                    assert store.execute(
                        f"update {table} set id = %s where id = %s".encode(), [key, id_]
                    ).rowcount
        connection.execute("delete from docs where id > 3")
        async with bench.polling("updated_at", overlap=0) as poll:
            await poll()

    asyncio.run(main())
    assert bench.resets() == 0


@BY
def test_deleted_newest_rows_whose_older_ones_are_not_stored_are_a_reset(
    bench: Bench, time: str | None
) -> None:
    """They cannot be told from a table that was filled again with fewer rows."""
    connection = bench.application.connection

    async def main() -> None:
        async with bench.polling(time, baseline_vectors=2) as poll:
            add(connection, 5)
            await poll()
            connection.execute("delete from docs where id > 3")
            await poll()
            await poll()

    asyncio.run(main())
    assert sorted(bench.rows()) == [2, 3, 4, 5]
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
