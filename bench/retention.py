"""``python -m bench.retention``: how long writers wait while expired vectors are dropped.

The comparison drops the day and deletes its ids in one transaction.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psycopg

from bench.results import report
from ingest.store import embedded, partitions
from ingest.store.batch import Batch
from ingest.store.connection import OPTIONS, AsyncConnection, connect
from ingest.store.migrate import migrate
from ingest.store.vectors import insert

IDS = 2_000_000
QUICK_IDS = 40_000
RETENTION_DAYS = 2
EXPIRED_DAYS = 5
"""Age of the day that is dropped."""


def fill(connection: psycopg.Connection, ids: int) -> str:
    """Make a day that has expired, with so many ids, and return the name of its partition."""
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start -= timedelta(days=EXPIRED_DAYS)
    name = f"embedding_p{start:%Y%m%d}"
    connection.execute(
        f"create table {name} (like embedding including all);"
        f"alter table embedding attach partition {name}"
        f" for values from ('{start}') to ('{start + timedelta(days=1)}');"
        f"insert into upkeep select ('{start:%Y-%m-%d}'::date + n)"
        f" from generate_series(0, {EXPIRED_DAYS - 1}) as n on conflict do nothing;"
        "insert into embedding_id select 'm', 'document-' || n, n,"
        f" timestamptz '{start}' + n * interval '1 day' / {ids} from generate_series(1, {ids}) as n"
        " on conflict do nothing".encode()
    )
    psycopg.Cursor(connection).execute("vacuum analyze embedding_id")
    connection.execute("checkpoint")
    return name


def in_one_transaction(connection: psycopg.Connection, name: str) -> None:
    """Drop the day and delete its ids together."""
    end = datetime.now(UTC) - timedelta(days=RETENTION_DAYS)
    with connection.transaction():
        connection.execute(f"drop table {name}".encode())
        connection.execute("delete from embedding_id where received_at < %s", [end])


def longest_commit(string: str, work: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds of the longest commit of a vector while this works, and of the work."""

    async def run() -> tuple[float, float]:
        longest = 0.0
        async with await AsyncConnection.connect(string, **OPTIONS) as connection:
            worker = threading.Thread(target=work)
            start = time.perf_counter()
            worker.start()
            while worker.is_alive():
                before = time.perf_counter()
                await store(connection)
                longest = max(longest, time.perf_counter() - before)
                await asyncio.sleep(0.01)
        return longest, time.perf_counter() - start

    async def store(connection: AsyncConnection) -> None:
        while True:  # insert gives up after some seconds of waiting
            try:
                await insert(connection, [Batch("m", np.ones((1, 8), np.float32))], 1)
            except psycopg.errors.LockNotAvailable:
                await connection.rollback()
            else:
                return

    return asyncio.run(run())


def main(quick: bool) -> None:
    """Measure both ways."""
    ids = QUICK_IDS if quick else IDS
    measured = []
    with (
        tempfile.TemporaryDirectory(prefix="embedding-drift-") as folder,
        embedded.running(Path(folder)) as string,
        connect(string) as connection,
    ):
        migrate(connection)
        for way in ("one transaction", "ours"):
            name = fill(connection, ids)

            def work(way: str = way, name: str = name) -> None:
                with connect(string) as own:
                    if way == "ours":
                        partitions.drop_expired(own, RETENTION_DAYS)
                    else:
                        in_one_transaction(own, name)

            measured.append(longest_commit(string, work))
    (before, before_total), (after, after_total) = measured
    report(
        "retention",
        "drop",
        "A day is dropped: the longest commit meanwhile, and the whole",
        ["ids", "longest commit, s", "in one transaction, s", "ratio", "whole, s", "in one, s"],
        [
            [
                ids,
                round(after, 3),
                round(before, 3),
                round(after / before, 4),
                round(after_total, 1),
                round(before_total, 1),
            ]
        ],
        quick,
    )


if __name__ == "__main__":
    main("--quick" in sys.argv)
