"""Read a table of PostgreSQL: only read, and as of one moment."""

from __future__ import annotations

import asyncio
import json

import pytest
from psycopg.conninfo import conninfo_to_dict

from ingest.runtime.errors import SourceUnavailable
from ingest.store.connection import connect
from ingest.store.positions import Position
from ingest.watch.sources.postgres import PostgresSource
from ingest.watch.sources.postgres_catalogue import absent, describe
from ingest.watch.sources.source import Identity, Location, Row
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


@pytest.mark.parametrize(
    ("declared", "last", "reached"),
    [
        ("timestamptz", "2026-01-01 10:00:00+00", True),
        ("timestamptz", "2026-01-01 10:00:01+00", False),
        ("timestamptz", "2026-01-01 09:30:00-01", False),
        ("bigint", "9", True),
        ("bigint", "100", False),
        ("numeric(20, 3)", "11.000", True),
        ("double precision", "1e2", False),
    ],
)
def test_positions_compare_in_the_order_of_their_type(
    application: Application, declared: str, last: str, reached: bool
) -> None:
    value = "'2026-01-01 10:00:00+00'" if declared == "timestamptz" else "11"
    application.connection.execute(
        "alter table docs drop column updated_at;"
        f"alter table docs add column updated_at {declared};"
        f"insert into docs (embedding, updated_at) values ('[1]', {value})".encode()
    )

    async def reaches() -> bool:
        docs = source(application, application.reader)
        async with docs.connected(), docs.snapshot() as snapshot:
            return await snapshot.reaches((last, "1"))

    assert asyncio.run(reaches()) == reached


def test_a_right_to_read_the_columns_is_enough_for_the_identity(application: Application) -> None:
    role = conninfo_to_dict(application.reader)["user"]
    application.connection.execute(
        f"revoke select on docs from {role};"
        f"grant select (id, embedding, updated_at) on docs to {role}".encode()
    )

    async def identity() -> Identity | None:
        docs = source(application, application.reader)
        async with docs.connected(), docs.snapshot() as snapshot:
            await snapshot.newest()
            return await snapshot.identity()

    [(oid, file)] = application.connection.execute(
        "select oid::text, relfilenode::text from pg_class where relname = 'docs'"
    ).fetchall()
    assert asyncio.run(identity()) == (oid, file)


def test_an_identity_is_short_however_many_partitions_there_are(application: Application) -> None:
    application.connection.execute(
        "drop table docs; create table docs (id bigint, embedding vector, updated_at timestamptz)"
        " partition by list (id)"
    )
    for number in range(30):
        application.connection.execute(
            f"create table part_{number} partition of docs for values in ({number})".encode()
        )
    application.connection.execute("grant select on docs to public")

    async def identity() -> Identity | None:
        docs = source(application, application.reader)
        async with docs.connected(), docs.snapshot() as snapshot:
            return await snapshot.identity()

    first = asyncio.run(identity())
    application.connection.execute("truncate part_7")
    second = asyncio.run(identity())
    assert first is not None
    assert second is not None
    assert len(first.storage) == 64
    assert first.table == second.table
    assert first.storage != second.storage


@pytest.mark.parametrize(
    ("declared", "value", "vector"),
    [
        ("vector(2)", "[1,2]", [1, 2]),
        ("halfvec(2)", "[1,2]", [1, 2]),
        ("real[]", "{1,2}", [1, 2]),
        ("double precision[]", "{1,2}", [1, 2]),
        ("numeric[]", "{1.5,2}", [1.5, 2]),
        ("text", "[1, 2]", [1, 2]),
        ("varchar(20)", "{1,2}", [1, 2]),
        ("json", "[1, 2]", [1, 2]),
        ("jsonb", "[1, 2]", [1, 2]),
        ("text", "[1, two]", "has '[1, two]' where a vector is needed"),
        ("text", "nullable", "has 'nullable' where a vector is needed"),
        ("jsonb", '{"a": 1}', "where a vector is needed"),
        ("double precision[]", "{1,NULL}", "has a vector whose component 1 is null"),
    ],
)
def test_vectors_are_read_from_columns_of_many_types(
    application: Application, declared: str, value: str, vector: list[float] | str
) -> None:
    application.connection.execute(
        f"create table typed (id bigint primary key, embedding {declared}, tenant text, n bigint);"
        "grant select on typed to public".encode()
    )
    application.connection.execute(
        f"insert into typed values (1, %s::{declared}, 'é\"', 9007199254740993)".encode(), [value]
    )
    location = Location("typed", metadata=("tenant", "n"))

    async def main() -> Row:
        with connect(application.reader) as connection:
            source = PostgresSource(application.reader, describe(connection, location))
        async with source.connected(), source.snapshot() as snapshot:
            [row] = [row async for block in snapshot.rows((), []) for row in block]
            return row

    row = asyncio.run(main())
    assert row.metadata == '{"tenant" : "é\\"", "n" : 9007199254740993}'.encode()
    if isinstance(row.vector, str):
        assert isinstance(vector, str)
        assert vector in row.vector
    else:
        assert row.vector.tolist() == vector


@pytest.mark.parametrize("time", ["time", None])
@pytest.mark.parametrize(
    ("declared", "blanks"),
    [
        ("text", ["", " \n\t", "null", "NULL", "[]", "{}", "[ ]"]),
        ("varchar", [""]),
        ("json", ["null", " null ", '""', "[\n]", "{}"]),
        ("jsonb", ["null", '""', "[]", "{}"]),
        ("real[]", ["{}"]),
        ("double precision[]", ["{}"]),
        ("numeric[]", ["{}"]),
    ],
)
def test_rows_whose_vector_is_written_as_none_are_left_out(
    application: Application, declared: str, blanks: list[str], time: str | None
) -> None:
    connection = application.connection
    connection.execute(
        f"create table typed (id bigint primary key, embedding {declared}, time bigint);"
        "grant select on typed to public".encode()
    )
    full = ["[1]", "[" + ",".join(["0.125"] * 2_000) + "]"]
    if declared.endswith("[]"):
        full = [text.translate(str.maketrans("[]", "{}")) for text in full]
    for id_, value in enumerate([*full, *blanks]):
        insert = f"insert into typed values (%s, %s::{declared}, %s)"
        connection.execute(insert.encode(), [id_, value, id_])

    def place(id_: int) -> Position:
        return (str(id_),) if time is None else (str(id_), str(id_))

    async def main() -> tuple[list[Row], list[Row]]:
        with connect(application.reader) as reading:
            source = PostgresSource(
                application.reader, describe(reading, Location("typed", time=time))
            )
        async with source.connected(), source.snapshot() as snapshot:
            assert await snapshot.newest() == place(1)
            assert not await snapshot.reaches(place(2))
            at = await snapshot.at([place(id_) for id_ in range(len(full) + len(blanks))])
            return at, [row async for block in snapshot.rows((), []) for row in block]

    at, rows = asyncio.run(main())
    assert sorted(len(row.vector) for row in at) == [1, 2_000]
    assert [len(row.vector) for row in rows] == [1, 2_000]
    assert not any(isinstance(row.vector, str) for row in rows)


PERCENT = """
alter extension vector set schema "v%";
create type "s%"."e%" as enum ('a%', 'b%');
create table "s%"."t%" (
  "id%" "s%"."e%" primary key, "time%s" bigint, "vector%" "v%".vector, "discount%" text, "o%%" jsonb
);
insert into "s%"."t%" values
  ('a%', 1700000000, '[1,2]', '5%', '{"k%": "%s"}'), ('b%', 1700000001, '[3,4]', '%', '{}');
grant usage on schema "s%", "v%" to public;
grant select on "s%"."t%" to public;
"""


def test_every_name_may_have_a_percent_sign(application: Application) -> None:
    application.connection.execute('create schema "s%"; create schema "v%"')
    application.connection.execute(PERCENT)
    location = Location('"s%"."t%"', "vector%", "id%", "time%s", ("discount%", "o%%.k%"))
    with connect(application.reader) as connection:
        table = describe(connection, location)
        assert list(absent(connection, table)) == []
    first, second = ("1700000000", "a%"), ("1700000001", "b%")

    async def main() -> list[Row]:
        source = PostgresSource(application.reader, table)
        async with source.connected(), source.snapshot() as snapshot:
            assert await snapshot.identity() is not None
            assert await snapshot.newest() == second
            assert await snapshot.reaches(second)
            [row] = await snapshot.at([first])
            [rest] = [row async for block in snapshot.rows(first, []) for row in block]
            return [row, rest]

    rows = asyncio.run(main())
    assert [row.key for row in rows] == ["a%@1700000000", "b%@1700000001"]
    assert [json.loads(row.metadata or b"") for row in rows] == [
        {"discount%": "5%", "o%%.k%": "%s"},
        {"discount%": "%", "o%%.k%": None},
    ]


def test_a_table_may_give_more_fields_than_a_function_takes_arguments(
    application: Application,
) -> None:
    names = [f"c{number}" for number in range(120)]
    columns = ", ".join(f"add {name} text default '}}{name}{{'" for name in names)
    application.connection.execute(f"alter table docs add body json, {columns}".encode())
    text = r'{"a": "}\\u0000{"}'
    application.connection.execute("insert into docs (embedding, body) values ('[1]', %s)", [text])

    async def main(*metadata: str) -> bytes:
        with connect(application.reader) as connection:
            table = describe(connection, Location("docs", metadata=metadata))
        source = PostgresSource(application.reader, table)
        async with source.connected(), source.snapshot() as snapshot:
            [row] = [row async for block in snapshot.rows((), []) for row in block]
        assert row.metadata is not None
        return row.metadata

    for count in (1, 50, 51, 100, 101, 120):
        found = json.loads(asyncio.run(main("body", *names[: count - 1])))
        values = {name: f"}}{name}{{" for name in names[: count - 1]}
        assert found == {"body": json.loads(text)} | values
