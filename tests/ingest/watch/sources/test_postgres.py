"""Read a table of PostgreSQL: only read, and as of one moment."""

from __future__ import annotations

import asyncio

import pytest

from ingest.runtime.errors import SourceUnavailable
from ingest.store.connection import connect
from ingest.watch.sources.postgres import PostgresSource
from ingest.watch.sources.postgres_catalogue import describe
from ingest.watch.sources.source import Location
from tests.postgresql import Application


def source(application: Application, string: str) -> PostgresSource:
    with connect(application.string) as connection:
        return PostgresSource(string, describe(connection, Location("docs", time="updated_at")))


def test_nothing_is_written_even_with_a_role_that_may(application: Application) -> None:
    async def write() -> None:
        docs = source(application, application.string)
        async with docs.connected(), docs.snapshot() as snapshot:
            await snapshot.connection.execute("insert into docs (embedding) values ('[1]')")

    with pytest.raises(SourceUnavailable, match="read-only transaction"):
        asyncio.run(write())


def test_a_row_added_during_a_snapshot_is_not_in_it(application: Application) -> None:
    insert = "insert into docs (embedding) values ('[1, 2]')"

    async def read() -> list[str]:
        docs = source(application, application.reader)
        async with docs.connected(), docs.snapshot() as snapshot:
            await snapshot.newest()
            application.connection.execute(insert)
            return [row.key async for block in snapshot.rows((), []) for row in block]

    application.connection.execute(insert)
    [key] = asyncio.run(read())
    assert key.startswith("1@")


@pytest.mark.parametrize(("time", "order"), [("updated_at", "updated_at, id"), (None, "id")])
def test_the_identity_names_the_table_its_vectors_and_their_order(
    application: Application, time: str | None, order: str
) -> None:
    with connect(application.reader) as connection:
        table = describe(connection, Location("docs", time=time))
        database = connection.info.dbname
    assert str(PostgresSource("", table)) == f"{database}.public.docs.embedding by {order}"
