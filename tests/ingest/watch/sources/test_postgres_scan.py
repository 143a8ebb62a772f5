"""A table without an order is read in a fixed part, whatever the type of its key."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from exporter.explain.metadata import pairs
from exporter.explain.observations import Observations
from ingest.runtime.errors import SourceUnavailable
from ingest.store.connection import connect
from ingest.watch.sources import postgres_scan
from ingest.watch.sources.postgres_catalogue import describe
from ingest.watch.sources.postgres_scan import PostgresScan
from ingest.watch.sources.source import Location, Row
from tests.postgresql import Application

LANGCHAIN = """
create table langchain_pg_embedding (
    id varchar primary key, collection_id uuid, embedding vector, document varchar, cmetadata jsonb
);
grant select on langchain_pg_embedding to public;
insert into langchain_pg_embedding
select 'doc-' || n, gen_random_uuid(), array[n, 2]::vector, 'text ' || n,
  '{"source": "s", "a": {"50%": 1}}'
from generate_series(1, 400) as n
"""


@pytest.fixture
def scan(application: Application) -> PostgresScan:
    application.connection.execute(LANGCHAIN)
    metadata = ("cmetadata.source", "cmetadata.a.50%", "cmetadata")
    location = Location("langchain_pg_embedding", None, None, None, metadata, 100, "document")
    with connect(application.reader) as connection:
        return PostgresScan(application.reader, describe(connection, location), 100)


def read(scan: PostgresScan, *levels: int) -> list[list[Row]]:
    async def main() -> list[list[Row]]:
        async with scan.connected():
            return [[row async for rows in scan.rows(level) for row in rows] for level in levels]

    return asyncio.run(main())


def count(scan: PostgresScan) -> int:
    async def main() -> int:
        async with scan.connected():
            return await scan.count()

    return asyncio.run(main())


def test_a_level_is_a_part_of_the_level_before_in_the_same_order(scan: PostgresScan) -> None:
    [everything, half, quarter] = [[row.key for row in rows] for rows in read(scan, 0, 1, 2)]
    assert len(everything) == 400
    assert 150 < len(half) < 250
    assert 60 < len(quarter) < 140
    assert [key for key in everything if key in half] == half
    assert [key for key in half if key in quarter] == quarter
    # Rows come in the order of a hash, so that those read first are like the others.
    assert everything != sorted(everything, key=lambda key: int(key[4:]))


def test_a_row_of_langchain_has_its_text_and_metadata(scan: PostgresScan) -> None:
    [rows] = read(scan, 0)
    [row] = [row for row in rows if row.key == "doc-7"]
    assert row.metadata is not None
    metadata = json.loads(row.metadata)
    assert metadata == {
        "cmetadata.source": "s",
        "cmetadata.a.50%": 1,
        "cmetadata": {"a": {"50%": 1}, "source": "s"},
        "text": "text 7",
    }
    # What explanations read.
    assert Observations(np.zeros((1, 2), np.float32), [metadata]).texts == ["text 7"]
    assert {("cmetadata.source", "s"), ("cmetadata.a.50%", "1")} <= pairs(metadata)
    assert not isinstance(row.vector, str)
    assert row.vector.tolist() == [7, 2]


def test_rows_are_counted(scan: PostgresScan) -> None:
    assert count(scan) == 400


def test_rows_whose_vector_is_written_as_none_are_neither_counted_nor_read(
    application: Application,
) -> None:
    application.connection.execute(
        "alter table docs alter embedding type text;"
        "insert into docs (embedding) values ('[1, 2]'), ('null'), (''), ('[]')"
    )
    with connect(application.reader) as connection:
        table = describe(connection, Location("docs", sample=100))
    assert count(PostgresScan(application.reader, table, 100)) == 1
    [[row]] = read(PostgresScan(application.reader, table, 100), 0)
    assert row.key == "1"


def test_a_scanned_table_may_have_names_with_a_percent_sign(application: Application) -> None:
    application.connection.execute(
        'alter table docs rename to "t5%"; alter table "t5%" rename embedding to "vector%"'
    )
    application.connection.execute("""insert into "t5%" ("vector%") values ('[1, 2]')""")
    with connect(application.reader) as connection:
        table = describe(connection, Location('"t5%"', "vector%", sample=100))
    assert count(PostgresScan(application.reader, table, 100)) == 1
    [[row]] = read(PostgresScan(application.reader, table, 100), 0)
    assert row.key == "1"


def test_a_scan_that_takes_too_long_is_named_with_its_own_limit(
    scan: PostgresScan, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_scan, "_SCAN_SECONDS", 0.5)
    with application.connection.transaction():
        application.connection.execute("lock langchain_pg_embedding in access exclusive mode")
        with pytest.raises(SourceUnavailable, match=r"^no answer within 0\.5 s$"):
            read(scan, 0)
