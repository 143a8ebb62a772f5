"""Find a table of PostgreSQL: every reason why it cannot be watched is reported."""

from __future__ import annotations

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ingest.runtime.errors import SettingsError, SourceUnavailable
from ingest.store.connection import connect
from ingest.watch.sources import postgres_catalogue
from ingest.watch.sources.postgres import Table
from ingest.watch.sources.source import Location
from tests.postgresql import Application

SCHEMA = """
alter table docs add column name text, add column made date, add column ms bigint;
insert into docs (embedding, ms) values ('[1,2,3]', 1700000000000);
create table closed (id bigint, embedding vector);
create schema private;
create table private.docs (id bigint, embedding vector);
create view seen as select id, embedding, updated_at from docs;
"""


@pytest.fixture
def described(application: Application) -> Application:
    application.connection.execute(SCHEMA)
    return application


def describe(
    application: Application,
    table: str = "docs",
    vector: str = "embedding",
    id_: str = "id",
    time: str | None = "updated_at",
) -> Table:
    with connect(application.reader) as connection:
        return postgres_catalogue.describe(connection, Location(table, vector, id_, time))


def test_a_table_is_found_as_its_role_does_in_a_database_that_has_a_store(store: str) -> None:
    """Not that of the same name in the schema of the store."""
    with connect(store) as owner:
        owner.execute("create schema app")
        for schema in ("app", "public"):
            owner.execute(
                f"create table {schema}.docs (id bigint primary key, embedding vector(3))".encode()
            )
    named = make_conninfo(store, options="-c search_path=app,public")
    with connect(named) as connection:
        found = postgres_catalogue.describe(connection, Location("docs", "embedding", "id"))
    assert found.schema == "app"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"table": "none"}, "--table none: database test_.* has no such table"),
        ({"table": "private.none"}, "--table private.none: "),
        ({"table": "a b"}, "--table a b: "),
        ({"table": "Docs.x.y.z"}, "--table Docs.x.y.z: improper"),
        ({"vector": "none"}, "--column: there is no column 'none'; the columns are id, emb"),
        ({"vector": "made"}, "--column: column 'made' is of type date; allowed are vector, half"),
        ({"id_": "none"}, "--id: there is no column 'none'"),
        ({"id_": "name", "time": None}, "--id: column 'name' is of type text; without --time"),
        ({"time": "none"}, "--time: there is no column 'none'"),
        ({"time": "made"}, "--time: column 'made' is of type date; allowed are timestamptz, time"),
        ({"time": "ms"}, "--time ms: 1700000000000.0 .* looks like milliseconds"),
        ({"table": "closed", "time": None}, "--column: the role may not read column 'embedding'"),
    ],
)
def test_a_wrong_table_or_column_is_named(
    described: Application, wanted: dict[str, str | None], message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        describe(described, **wanted)  # type: ignore[arg-type]
    assert caught.match(message)


@pytest.mark.parametrize(
    ("metadata", "text", "message"),
    [
        ("none.a", None, "--metadata: there is no column 'none.a'; the columns are id, emb"),
        ("name.a", None, "--metadata: column 'name' is of type text, and only json and jsonb have"),
        ("text", "none", "--text-column: there is no column 'none'"),
        ("text", "name.a", "--text-column: column 'name' is of type text, and only json and"),
    ],
)
def test_a_wrong_column_of_metadata_or_texts_is_named(
    described: Application, metadata: str, text: str | None, message: str
) -> None:
    location = Location("docs", time="updated_at", metadata=(metadata,), text=text)
    with connect(described.reader) as connection, pytest.raises(SettingsError) as caught:
        postgres_catalogue.describe(connection, location)
    assert caught.match(message)


def test_a_key_within_objects_that_no_row_has_is_told(application: Application) -> None:
    names = ("about.x.50%", "about.n", "about.x.y", "about.z", "a.b")
    location = Location("closed", metadata=names)
    role = conninfo_to_dict(application.reader)["user"]
    application.connection.execute(
        'create table closed (id bigint, embedding vector, about jsonb, "a.b" text, secret text);'
        f'grant select (id, embedding, about, "a.b") on closed to {role}'.encode()
    )

    def told() -> list[str]:
        with connect(application.reader) as connection:
            table = postgres_catalogue.describe(connection, location)
            return list(postgres_catalogue.absent(connection, table))

    assert told() == []
    application.connection.execute(
        "insert into closed (id, embedding, about) values"
        """ (1, '[1]', '{"x": {"50%": 1}, "n": null}'), (2, '[2]', null),"""
        """ (3, null, '{"z": 1}')"""
    )
    assert told() == [f"metadata: none of 2 rows has about.{key}" for key in ("x.y", "z")]


def test_a_connection_string_that_cannot_be_read_is_not_quoted() -> None:
    with pytest.raises(SettingsError, match="--source is not a connection string") as caught:
        postgres_catalogue.find("postgresql://u:%zzhunter2@h/db", Location("t"))
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_every_wrong_column_is_named_at_once(described: Application) -> None:
    with pytest.raises(SettingsError) as caught:
        describe(described, vector="made", id_="none", time="made")
    assert [problem.pointer for problem in caught.value.problems] == ["--column", "--id", "--time"]


def test_a_right_to_read_the_columns_is_enough(described: Application) -> None:
    role = conninfo_to_dict(described.reader)["user"]
    described.connection.execute(f"grant select (id, embedding) on closed to {role}".encode())
    assert describe(described, "closed", time=None).name == "closed"


def test_a_view_can_be_watched_without_advice(described: Application) -> None:
    role = conninfo_to_dict(described.reader)["user"]
    described.connection.execute(f"grant select on seen to {role}".encode())
    table = describe(described, "seen")
    assert list(postgres_catalogue.advice(described.connection, table, is_scanned=False)) == []


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ("select", []),
        ("drop index docs_updated_at_idx", ["no index begins with updated_at"]),
        ("alter table docs drop constraint docs_pkey", ["no unique index on id, updated_at"]),
        (
            "alter table docs drop constraint docs_pkey, add primary key (updated_at, id)",
            [],
        ),
        (
            "alter table docs drop constraint docs_pkey; create unique index on docs (id, abs(id))",
            ["no unique index on id, updated_at"],
        ),
        (
            "drop index docs_updated_at_idx; create index on docs (updated_at) where id > 5",
            ["no index begins with updated_at"],
        ),
    ],
)
def test_missing_indexes_are_reported(
    application: Application, change: str, advice: list[str]
) -> None:
    application.connection.execute(change.encode())
    table = describe(application)
    found = list(postgres_catalogue.advice(application.connection, table, is_scanned=False))
    assert [line[: len(start)] for line, start in zip(found, advice, strict=True)] == advice


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ("drop index docs_updated_at_idx", []),
        ("alter table docs drop constraint docs_pkey", ["no unique index on id: rows with equal"]),
    ],
)
def test_a_scanned_table_needs_only_a_unique_id(
    application: Application, monkeypatch: pytest.MonkeyPatch, change: str, advice: list[str]
) -> None:
    application.connection.execute(change.encode())
    monkeypatch.setenv("PGPASSWORD", "secret")
    parts = conninfo_to_dict(application.reader)
    string = make_conninfo("", **{key: parts[key] for key in parts if key != "password"})
    scan = postgres_catalogue.find(string, Location("docs", sample=100))
    assert scan.advice[0].startswith("every poll looks through the whole table")
    found = scan.advice[1:]
    assert [line[: len(start)] for line, start in zip(found, advice, strict=True)] == advice


def test_an_unreachable_server_is_reported_without_its_connection_string() -> None:
    with pytest.raises(SourceUnavailable, match="the server with table docs") as caught:
        postgres_catalogue.find("host=127.0.0.1 port=1 user=someone", Location("docs"))
    assert "someone" not in str(caught.value)


def test_only_relations_with_files_have_an_identity(described: Application) -> None:
    role = conninfo_to_dict(described.reader)["user"]
    described.connection.execute(
        b"create table parts (like docs) partition by range (id);"
        b"create materialized view kept as select * from docs;"
        + f"grant select on seen, parts, kept to {role}".encode()
    )
    found = {name: describe(described, name).has_identity for name in ("docs", "parts", "kept")}
    assert found == {"docs": True, "parts": True, "kept": True}
    assert not describe(described, "seen").has_identity
