"""Daily partitions: created in advance, dropped when they expire."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg

from ingest.store import partitions
from ingest.store.batch import Batch
from ingest.store.connection import connect

InsertAll = Callable[..., list[object]]


def names(connection: psycopg.Connection) -> list[str]:
    rows = connection.execute(
        "select inhrelid::regclass::text from pg_inherits"
        " where inhparent = 'embedding'::regclass order by 1"
    )
    return [name for (name,) in rows]


def day(offset: int) -> str:
    return f"embedding_p{datetime.now(UTC) + timedelta(days=offset):%Y%m%d}"


def test_today_and_the_next_three_days_have_partitions(connection: psycopg.Connection) -> None:
    assert names(connection) == [day(n) for n in range(4)]


def test_several_processes_can_create_partitions_at_once(
    store: str, connection: psycopg.Connection
) -> None:
    for name in names(connection):
        connection.execute(f"drop table {name}".encode())

    def ensure(_: int) -> None:
        with connect(store) as own:
            partitions.ensure(own)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ensure, range(4)))
    assert names(connection) == [day(n) for n in range(4)]


def test_an_expired_day_is_dropped_with_its_ids_and_keys(
    connection: psycopg.Connection, insert_all: InsertAll
) -> None:
    sent = Batch("m", np.ones((1, 2), np.float32), ids=["a"], idempotency_key="k", fingerprint=b"f")
    insert_all(sent)
    for table in ("embedding_id", "idempotency_key"):
        connection.execute(
            f"update {table} set received_at = received_at - interval '9 days'".encode()
        )
    connection.execute("create table old (like embedding including all)")
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    before = start - timedelta(days=9)
    connection.execute(f"alter table old rename to embedding_p{before:%Y%m%d}".encode())
    connection.execute(
        f"alter table embedding attach partition embedding_p{before:%Y%m%d}"
        f" for values from ('{before.isoformat()}') to"
        f" ('{(before + timedelta(days=1)).isoformat()}')".encode()
    )
    connection.execute(
        "insert into embedding (model_name, seq, received_at, id, embedding)"
        " values ('m', 0, %s, 'a', '[1,1]')",
        [before],
    )
    assert partitions.drop_expired(connection, retention_days=8) == [before.date()]
    assert names(connection) == [day(n) for n in range(4)]
    assert connection.execute("select count(*) from embedding").fetchone() == (1,)
    for table in ("embedding_id", "idempotency_key"):
        assert connection.execute(f"select count(*) from {table}".encode()).fetchone() == (0,)


def test_nothing_within_the_retention_is_dropped(
    connection: psycopg.Connection, insert_all: InsertAll
) -> None:
    insert_all(Batch("m", np.ones((1, 2), np.float32)))
    assert partitions.drop_expired(connection, retention_days=1) == []
    assert connection.execute("select count(*) from embedding").fetchone() == (1,)
