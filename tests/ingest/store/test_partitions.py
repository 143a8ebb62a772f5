"""Daily partitions: created in advance, dropped when they expire."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import psycopg
import pytest

from ingest.runtime.errors import StoreUnavailable
from ingest.store import explanations, partitions, slice_history
from ingest.store import migrate as migrations
from ingest.store.batch import Batch
from ingest.store.connection import changing_tables, connect
from ingest.store.explanations import ExplanationRow
from ingest.store.history import HistoryRow
from ingest.store.migrate import migrate
from ingest.store.vectors import Stored
from tests.service import wait_for, waits_for_a_lock

InsertAll = Callable[..., list[object]]


def names(connection: psycopg.Connection) -> list[str]:
    rows = connection.execute(
        "select inhrelid::regclass::text from pg_inherits"
        " where inhparent = 'embedding'::regclass order by 1"
    )
    return [name for (name,) in rows]


def day(offset: int) -> str:
    return f"embedding_p{datetime.now(UTC) + timedelta(days=offset):%Y%m%d}"


def coming_days() -> list[str]:
    return [day(n) for n in range(4)]


def test_today_and_the_next_three_days_have_partitions(empty_database: str) -> None:
    with connect(empty_database) as connection:
        before = coming_days()
        migrate(connection)
        # It may have been midnight.
        assert names(connection) in (before, coming_days())


def test_several_processes_can_create_partitions_at_once(
    store: str, connection: psycopg.Connection
) -> None:
    for name in names(connection):
        connection.execute(f"drop table {name}".encode())
    before = coming_days()

    def ensure(_: int) -> None:
        with connect(store) as own:
            partitions.ensure(own)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ensure, range(4)))
    assert names(connection) in (before, coming_days())


def attach(connection: psycopg.Connection, name: str, first: date, days: int = 1) -> None:
    """Attach a partition that holds a vector of its first day."""
    start = datetime.combine(first, time(), UTC)
    connection.execute(
        f"create table {name} (like embedding including all);"
        f"alter table embedding attach partition {name}"
        f" for values from ('{start}') to ('{start + timedelta(days=days)}');".encode()
    )
    place(connection, start)


def place(connection: psycopg.Connection, moment: datetime) -> None:
    connection.execute(
        "insert into embedding (model_name, seq, received_at, id, embedding)"
        " values ('m', 0, %s, 'a', '[1,1]')",
        [moment],
    )


def live(connection: psycopg.Connection, first: int, last: int) -> None:
    """Note that upkeep ran on the days from one to another, counted from today."""
    connection.execute(
        "insert into upkeep select (clock_timestamp() at time zone 'UTC')::date + n"
        " from generate_series(%s::integer, %s::integer) as n on conflict do nothing",
        [first, last],
    )


def today() -> date:
    return datetime.now(UTC).date()


def vectors(connection: psycopg.Connection) -> int:
    row = connection.execute("select count(*) from embedding").fetchone()
    assert row is not None
    return int(row[0])


def test_an_expired_day_is_dropped_with_its_ids_and_keys(
    connection: psycopg.Connection, insert_all: InsertAll
) -> None:
    sent = Batch("m", np.ones((1, 2), np.float32), ids=["a"], idempotency_key="k", fingerprint=b"f")
    insert_all(sent)
    for table in ("embedding_id", "idempotency_key"):
        connection.execute(
            f"update {table} set received_at = received_at - interval '9 days'".encode()
        )
    kept = names(connection)
    before = today() - timedelta(days=9)
    attach(connection, day(-9), before)
    live(connection, -9, 0)
    assert partitions.drop_expired(connection, retention_days=8) == [before]
    assert names(connection) == kept
    assert vectors(connection) == 1
    for table in ("embedding_id", "idempotency_key"):
        assert connection.execute(f"select count(*) from {table}".encode()).fetchone() == (0,)


def test_the_partitions_of_another_store_in_the_database_are_never_dropped(
    connection: psycopg.Connection, staging: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process drops the same day of the same store first."""
    name, first = day(-9), today() - timedelta(days=9)
    attach(connection, name, first)

    def overtaken(own: psycopg.Connection) -> AbstractContextManager[None]:
        connection.execute(f"drop table staging.{name}".encode())
        return changing_tables(own)

    with connect(staging) as own:
        attach(own, name, first)
        live(own, -9, 0)
        monkeypatch.setattr(partitions, "changing_tables", overtaken)
        partitions.drop_expired(own, retention_days=8)
        assert vectors(own) == 0
    assert vectors(connection) == 1


def test_explanations_are_kept_as_long_as_the_history(
    connection: psycopg.Connection, insert_all: InsertAll
) -> None:
    insert_all(Batch("m", np.ones((1, 2), np.float32)))
    days = partitions.history_days(8)
    now = datetime.now(UTC).timestamp()
    for age in (days - 1, days + 1):
        at = now - 86_400 * age
        row = ExplanationRow("m", "fast", "", at, 0, at, at, 1, "what changed", {})
        explanations.keep(connection, row, 900)
    live(connection, -days, 0)
    partitions.drop_expired(connection, 8)
    [left] = explanations.between(connection, "m", 0, now)
    assert left.began_at > now - 86_400 * days


def test_the_history_of_slices_is_kept_as_long_as_that_of_models(
    connection: psycopg.Connection, insert_all: InsertAll
) -> None:
    insert_all(Batch("m", np.ones((1, 2), np.float32)))
    days = partitions.history_days(8)
    for age in (days - 1, days + 1):
        slice_history.append(connection, [(f"{age} days old", HistoryRow("m", "fast", "ok", 1))])
        connection.execute(
            "update slice_history set computed_at = computed_at - %s where slice = %s",
            [timedelta(days=age), f"{age} days old"],
        )
    live(connection, -days, 0)
    partitions.drop_expired(connection, 8)
    left = connection.execute("select slice from slice_history").fetchall()
    assert left == [(f"{days - 1} days old",)]


def test_nothing_within_the_retention_is_dropped(
    connection: psycopg.Connection, insert_all: InsertAll
) -> None:
    live(connection, -9, 0)
    attach(connection, day(-8), today() - timedelta(days=8))
    insert_all(Batch("m", np.ones((1, 2), np.float32)))
    assert partitions.drop_expired(connection, retention_days=8) == []
    assert vectors(connection) == 2


def test_a_clock_that_jumps_makes_nothing_old(connection: psycopg.Connection) -> None:
    """The service ran for 30 days; then the clocks of all machines went 400 days ahead."""
    live(connection, -430, -401)
    for n in (-430, -415, -401):
        attach(connection, day(n), today() + timedelta(days=n))
    for _ in range(2):
        assert partitions.drop_expired(connection, retention_days=30) == []
    assert vectors(connection) == 3
    # If it was no jump, or stays, the days are counted from then on.
    live(connection, -16, 0)
    dropped = partitions.drop_expired(connection, retention_days=30)
    assert dropped == [today() - timedelta(days=430), today() - timedelta(days=415)]


def test_days_before_the_table_of_upkeep_count_by_their_partitions(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = migrations._migrations()
    with connect(empty_database) as connection:
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "_migrations", lambda: every[:8])
            migrate(connection)
        for n in range(-9, 0):
            attach(connection, day(n), today() + timedelta(days=n))
        migrate(connection)
        assert partitions.drop_expired(connection, 8) == [today() - timedelta(days=9)]


def test_partitions_of_somebody_else_are_left_alone_with_one_warning(
    connection: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    old = today() - timedelta(days=99)
    attach(connection, "by_hand", old, days=7)
    attach(connection, f"embedding_p{old:%Y}wk1", old - timedelta(days=40))
    attach(connection, f"embedding_p{old:%Y}9999", old - timedelta(days=41))
    attach(connection, day(-90), today() - timedelta(days=90), days=2)
    connection.execute("create table rest partition of embedding default")
    place(connection, datetime.now(UTC) - timedelta(days=300))
    live(connection, -20, 0)
    migrate(connection)
    assert partitions.drop_expired(connection, retention_days=8) == []
    assert vectors(connection) == 5
    [record] = caplog.records
    assert "never expire" in record.message
    others = ["by_hand", f"embedding_p{old:%Y}9999", f"embedding_p{old:%Y}wk1", day(-90), "rest"]
    assert record.__dict__["partitions"].split(",") == sorted(others)


def test_days_that_somebody_elses_partition_covers_get_none(
    connection: psycopg.Connection, insert_all: InsertAll
) -> None:
    for name in names(connection):
        connection.execute(f"drop table {name}".encode())
    attach(connection, "month", today(), days=2)
    connection.execute("create table rest partition of embedding default")
    place(connection, datetime.combine(today() + timedelta(days=2), time(), UTC))
    partitions.ensure(connection)
    assert names(connection) == [day(3), "month", "rest"]
    assert insert_all(Batch("m", np.ones((1, 2), np.float32))) == [Stored(1, 0)]


@pytest.mark.parametrize("work", [partitions.ensure, lambda own: partitions.drop_expired(own, 8)])
def test_a_partition_whose_table_somebody_uses_is_left_for_the_next_time(
    work: Callable[[psycopg.Connection], object], store: str, connection: psycopg.Connection
) -> None:
    attach(connection, day(-9), today() - timedelta(days=9))
    live(connection, -9, 0)
    connection.execute(f"drop table {names(connection)[-1]}".encode())
    before = names(connection)

    def run() -> None:
        with connect(store) as own:
            work(own)

    with connect(store) as other, ThreadPoolExecutor(1) as thread:
        with other.transaction():
            other.execute("lock table embedding in share update exclusive mode")
            with pytest.raises(StoreUnavailable, match="uses it, such as a dump"):
                thread.submit(run).result(240)
        assert names(connection) == before
        run()
        assert names(connection) != before


def test_writers_and_readers_do_not_wait_while_ids_are_deleted(
    store: str, connection: psycopg.Connection, insert_all: InsertAll
) -> None:
    """Half of the ids are deleted when a lock of one stops the rest."""
    attach(connection, day(-9), today() - timedelta(days=9))
    live(connection, -9, 0)
    connection.execute(
        "insert into embedding_id select 'm', n::text, n,"
        " clock_timestamp() - interval '20 days' + make_interval(secs => n)"
        " from generate_series(1, 30000) as n"
    )

    def upkeep() -> None:
        with connect(store) as own:
            partitions.drop_expired(own, 8)

    with ThreadPoolExecutor(1) as threads, connect(store) as holder:
        with holder.transaction():
            holder.execute("select from embedding_id where id = '25000' for update")
            running = threads.submit(upkeep)
            wait_for(lambda: waits_for_a_lock(connection), "the deletion of that id")
            assert insert_all(Batch("m", np.ones((1, 2), np.float32))) == [Stored(1, 0)]
            assert vectors(connection) == 2
            left = connection.execute("select count(*) from embedding_id").fetchone()
            assert left is not None
            assert left[0] < 20_000
        running.result(30)
    assert connection.execute("select count(*) from embedding_id").fetchone() == (0,)
    assert vectors(connection) == 1
