"""Migrations are complete, repeatable and safe from several processes at once."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib import resources
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from ingest.runtime.errors import SettingsError, StoreUnavailable
from ingest.store import baselines, changes
from ingest.store import migrate as migrations
from ingest.store.connection import connect
from ingest.store.migrate import migrate
from ingest.store.rights import owns


def every_migration() -> list[str]:
    folder = resources.files("ingest.store") / "migrations"
    return sorted(f.name.removesuffix(".sql") for f in folder.iterdir() if f.name.endswith(".sql"))


def applied(connection: psycopg.Connection) -> list[str]:
    return [n for (n,) in connection.execute("select name from migration order by name")]


def test_an_empty_database_gets_every_migration_in_order(empty_database: str) -> None:
    with connect(empty_database) as connection:
        assert migrate(connection) == every_migration()
        assert applied(connection) == every_migration()


def test_a_second_run_changes_nothing(empty_database: str) -> None:
    with connect(empty_database) as connection:
        migrate(connection)
        assert migrate(connection) == []


def test_processes_that_migrate_at_once_take_turns(empty_database: str) -> None:
    def run(_: int) -> list[str]:
        with connect(empty_database) as connection:
            return migrate(connection)

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(run, range(4)))
    assert sorted(name for names in results for name in names) == every_migration()


@pytest.mark.parametrize("release", every_migration())
def test_a_store_of_every_schema_keeps_its_data(
    release: str, empty_database: str, released: Callable[[str], None]
) -> None:
    released(release)
    with connect(empty_database) as connection:
        before = contents(connection)
        assert all(before.values()), "every table needs a row: add those of a new migration to ROWS"
        assert migrate(connection) == [name for name in every_migration() if name > release]
        assert_kept(before, connection)
        [model] = changes.models(connection)
        assert changes.vectors(connection, model, 0, None)["embedding"].tolist() == [[1, 2, 3]]
        assert baselines.vectors(connection, "m", 1, 3).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("name", every_migration())
def test_an_interrupted_migration_changes_nothing_and_can_be_repeated(
    name: str,
    empty_database: str,
    released: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = migrations._migrations()
    later = [other for other, _ in every if other >= name]
    released(max((other for other, _ in every if other < name), default=""))
    with connect(empty_database) as connection:
        before = contents(connection)
    died = [
        (other, f"{statements}; select pg_terminate_backend(pg_backend_pid())" * (other == name))
        for other, statements in every
    ]
    monkeypatch.setattr(migrations, "_migrations", lambda: died)
    with pytest.raises(StoreUnavailable), connect(empty_database) as connection:
        migrate(connection)
    monkeypatch.setattr(migrations, "_migrations", lambda: every)
    with connect(empty_database) as connection:
        assert contents(connection) == before
        assert migrate(connection) == later
        assert_kept(before, connection)


def test_a_migration_that_needs_a_table_of_a_dump_gives_way_to_writers_and_can_be_repeated(
    empty_database: str, released: Callable[[str], None]
) -> None:
    """Writers wait behind it until it gives up."""
    released("0005_watch_identity")

    def run() -> list[str]:
        with connect(empty_database) as connection:
            return migrate(connection)

    with connect(empty_database) as dump, ThreadPoolExecutor(1) as thread:
        with dump.transaction():
            dump.execute("lock table embedding in access share mode")
            with pytest.raises(StoreUnavailable, match="uses it, such as a dump"):
                thread.submit(run).result(240)
        assert run() == [name for name in every_migration() if name > "0005_watch_identity"]


ROWS = {
    "0001_initial": """
        insert into model (model_name, dimension, last_seq, last_received_at)
            values ('m', 3, 1, clock_timestamp());
        insert into embedding values
            ('m', 1, clock_timestamp(), '2026-01-01', 'a', '{"text": "one"}', '[1,2,3]');
        insert into embedding_id select model_name, id, seq, received_at from embedding;
        insert into idempotency_key values ('m', 'key', '\\x01', 1, 0, clock_timestamp());
        insert into baseline values ('m', 1, '2026-01-01', 1, 1, 'first 1', '{}', '\\x02');
        insert into baseline_embedding select model_name, 1, seq, received_at, embedded_at, id,
            metadata, embedding from embedding;
        insert into drift_history values
            ('m', 'fast', '2026-01-01', 'ok', 100, 1.5, 0.1, 0.9, '{"mean": 1.5}');
    """,
    "0002_history_of_a_baseline": """
        insert into drift_history (model_name, window_name, state, vectors, baseline_version, norm)
            values ('m', 'slow', 'ok', 100, 1, 1.0);
    """,
    "0004_watch": "insert into watch values ('m', 'docs', '{1}');",
    "0010_upkeep": "insert into upkeep values ('2026-01-01');",
    "0005_watch_identity": "insert into watch values ('m', 'new', '{1}', '{2,3}', '{4}', 'a');",
    "0011_canaries": """
        insert into canary values
            ('m', '2026-01-01', 'set', '{a}', '\\x01', true, 0, 0, null, 'key', '\\x02');
    """,
    "0012_report": "insert into report values ('m', '2026-01-01', 300, '{}', '{}');",
    "0013_explanations": """
        insert into explanation values
            ('m', 'fast', '', now(), 0, now(), now(), 1, 'what changed', '{}');
    """,
    "0014_watch_sample": "insert into watch_sample values ('m', 'docs', 0, '\\x01');",
    "0016_history_of_slices": """
        insert into slice_history values
            ('m', '2026-01-01', 'tenant=a', 'fast', 'ok', 100, 1, 1.5, 0.1, 0.0, 0.2);
    """,
}
"""Rows of a store of each schema: at least one in each table that the migration adds."""


@pytest.fixture
def released(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Bring the database to the schema of a release, with a row in every table."""

    def released(release: str) -> None:
        every = migrations._migrations()
        with monkeypatch.context() as patch, connect(empty_database) as connection:
            known = [(name, statements) for name, statements in every if name <= release]
            patch.setattr(migrations, "_migrations", lambda: known)
            if known:
                migrate(connection)
            for name, _ in known:
                connection.execute(ROWS.get(name, "").encode())

    return released


def contents(connection: psycopg.Connection) -> dict[str, list[dict[str, Any]]]:
    """The rows of every table except ``migration``. Rows of partitions count for their table."""
    tables = connection.execute(
        "select relname from pg_class where relkind in ('r', 'p') and not relispartition"
        " and relnamespace = 'public'::regnamespace and relname <> 'migration'"
    ).fetchall()
    return {
        table: [
            row
            for (row,) in connection.execute(
                f"select to_jsonb(t) from {table} as t order by t".encode()
            )
        ]
        for (table,) in tables
    }


def assert_kept(before: dict[str, list[dict[str, Any]]], connection: psycopg.Connection) -> None:
    """Check that every row has its old values. It may have new columns."""
    after = contents(connection)
    for table, rows in before.items():
        assert len(after[table]) == len(rows)
        for was, row in zip(rows, after[table], strict=True):
            assert row == row | was


def read_only(string: str) -> str:
    return make_conninfo(string, options="-c default_transaction_read_only=on")


def test_a_read_only_server_is_enough_for_a_schema_that_is_up_to_date(store: str) -> None:
    with connect(read_only(store)) as connection:
        assert migrate(connection) == []


def test_a_read_only_server_without_the_schema_is_unavailable(empty_database: str) -> None:
    with (
        connect(read_only(empty_database)) as connection,
        pytest.raises(StoreUnavailable, match="read-only transaction"),
    ):
        migrate(connection)


@pytest.fixture
def reader(empty_database: str) -> Iterator[str]:
    """Connection string of a role that may read the owner's tables and create nothing."""
    role = f"reader_{uuid.uuid4().hex}"
    with connect(empty_database) as connection:
        connection.execute(f"create role {role} login password 'secret'".encode())
        connection.execute(f"alter default privileges grant select on tables to {role}".encode())
        yield make_conninfo(empty_database, user=role, password="secret")
        connection.execute(f"drop owned by {role}".encode())
        connection.execute(f"drop role {role}".encode())


def test_a_role_that_may_only_read_is_enough_for_a_schema_that_is_up_to_date(
    empty_database: str, reader: str
) -> None:
    with connect(empty_database) as connection:
        migrate(connection)
    with connect(reader) as connection:
        assert migrate(connection) == []


def test_a_role_without_privileges_gets_a_clear_error(reader: str) -> None:
    with (
        connect(reader) as connection,
        pytest.raises(SettingsError, match=r"may not bring the schema up to date: permission"),
    ):
        migrate(connection)


def test_the_store_that_exists_is_upgraded_also_if_the_role_gets_a_schema_of_its_name(
    empty_database: str, released: Callable[[str], None]
) -> None:
    released("0015_maps")
    with connect(empty_database) as connection:
        before = contents(connection)
        connection.execute(f'create schema "{connection.info.user}"')
    for expected in (["0016_history_of_slices"], []):
        with connect(empty_database) as connection:
            assert migrate(connection) == expected
            assert_kept(before, connection)


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("create table migration (id integer)", "migration"),
        ("create view migration as select 'x' as name", "migration"),
        ("create table model (id integer)", "model"),
        ("create table report (id integer)", "report"),
    ],
)
def test_a_schema_with_a_table_of_another_program_is_refused_and_left_as_it_is(
    statement: str, name: str, empty_database: str
) -> None:
    with connect(empty_database) as connection:
        connection.execute(statement.encode())
        with pytest.raises(SettingsError, match=rf"not of this program \({name}\); give"):
            migrate(connection)
        assert tables(connection, "public") == [name]


def test_a_table_of_another_program_that_an_upgrade_meets_is_named(
    empty_database: str, released: Callable[[str], None]
) -> None:
    released("0011_canaries")
    with connect(empty_database) as connection:
        connection.execute("create table report (id integer)")
        with pytest.raises(SettingsError, match=r'not of this program \(relation "report" already'):
            migrate(connection)


def test_tables_of_another_program_further_on_in_the_search_path_are_not_touched(
    empty_database: str,
) -> None:
    with connect(empty_database) as connection:
        connection.execute("create schema drift; create table migration (id integer)")
        connection.execute("create table model (id integer)")
    store = make_conninfo(empty_database, options="-c search_path=drift,public")
    with connect(store) as connection:
        assert migrate(connection) == every_migration()
    with connect(store) as connection:
        assert migrate(connection) == []
        assert connection.execute("select from public.migration").fetchall() == []
        assert tables(connection, "public") == ["migration", "model"]


def test_a_schema_of_its_own_gets_a_store_of_its_own(store: str) -> None:
    """Although pgvector, which both need, is in the schema of the other one."""
    with connect(store) as connection:
        connection.execute("create schema staging")
    with connect(make_conninfo(store, options="-c search_path=staging")) as connection:
        assert not owns(connection)
        assert migrate(connection) == every_migration()
        assert migrate(connection) == []
        assert tables(connection, "staging") == tables(connection, "public")


def test_a_store_is_not_made_where_the_search_path_has_no_schema(store: str) -> None:
    """Nor is that of others used, which has pgvector in its schema."""
    with connect(make_conninfo(store, options="-c search_path=missing")) as connection:
        with pytest.raises(SettingsError, match="names no schema that exists"):
            migrate(connection)
        assert connection.execute("select to_regclass('embedding')").fetchone() == (None,)


def test_a_partition_that_was_detached_is_not_taken_for_a_table_of_another_program(
    store: str,
) -> None:
    with connect(store) as connection:
        [(name,)] = connection.execute(
            "select inhrelid::regclass::text from pg_inherits"
            " where inhparent = 'embedding'::regclass order by inhrelid limit 1"
        )
        connection.execute(f"alter table embedding detach partition {name}".encode())
        with pytest.raises(psycopg.errors.DuplicateTable, match=name):
            migrate(connection)


def tables(connection: psycopg.Connection, schema: str) -> list[str]:
    rows = connection.execute(
        "select relname from pg_class where relnamespace = %s::regnamespace"
        " and relkind in ('r', 'p', 'v') order by relname",
        [schema],
    )
    return [name for (name,) in rows]


def test_a_newer_schema_is_used_as_it_is_with_a_warning(
    store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As when a pod of the previous release restarts during a rolling upgrade."""
    older = migrations._migrations()[:-1]
    monkeypatch.setattr(migrations, "_migrations", lambda: older)
    with connect(store) as connection:
        assert migrate(connection) == []
    [record] = caplog.records
    assert "the schema is newer than this program" in record.message
    assert record.__dict__["unknown_migrations"] == every_migration()[-1]


def test_migrations_only_add_so_that_the_previous_release_still_works() -> None:
    for name, statements in migrations._migrations():
        code = re.sub(r"--.*", "", statements)
        assert not re.search(r"\b(drop|rename|truncate|delete|set not null|type)\b", code), name


def test_migration_numbers_are_consecutive() -> None:
    numbers = [int(name[:4]) for name in every_migration()]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    "query",
    [
        # The distribution column leads every primary key and unique constraint.
        "select conname from pg_constraint join pg_class on pg_class.oid = conrelid"
        " join pg_attribute on attrelid = conrelid and attnum = conkey[1]"
        " where contype in ('p', 'u') and relkind in ('r', 'p') and relnamespace ="
        " 'public'::regnamespace and relname not in ('migration', 'upkeep')"
        " and attname <> 'model_name'",
        # No foreign key crosses tables.
        "select conname from pg_constraint where contype = 'f'",
    ],
)
def test_the_schema_can_be_distributed_by_model(connection: psycopg.Connection, query: str) -> None:
    assert connection.execute(query.encode()).fetchall() == []


def test_vectors_are_never_compressed_and_stay_in_their_row(connection: psycopg.Connection) -> None:
    storage = connection.execute(
        "select distinct attstorage, reloptions from pg_attribute join pg_class on oid = attrelid"
        " where attname = 'embedding' and relkind = 'r'"
    ).fetchall()
    assert storage == [("e", ["toast_tuple_target=8160"])]


def test_a_baseline_that_the_release_before_pins_after_the_migration_can_be_read(
    released: Callable[[str], None], empty_database: str
) -> None:
    released("0007_changed_ratio")
    with connect(empty_database) as connection:
        migrate(connection)
        connection.execute(
            "insert into baseline (model_name, version, vectors, last_seq, source, quality,"
            " detector) values ('m', 2, 1, 1, 'first 1', '{}', '')"
        )
        found = baselines.load(connection, "m", 2)
        assert found.first_at <= found.last_at
        assert found.pinned_at - found.first_at < timedelta(seconds=1)
        assert not found.matures
        assert len(baselines.versions(connection, "m")) == 2
