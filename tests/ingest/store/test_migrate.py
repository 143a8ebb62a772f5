"""Migrations: complete, repeatable, and safe from two processes at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib import resources

import psycopg
import pytest

from ingest.store import migrate as migrations
from ingest.store.migrate import migrate
from ingest.store.pool import connect


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


def test_a_store_of_the_first_schema_keeps_its_data(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = migrations._migrations()
    with connect(empty_database) as connection:
        monkeypatch.setattr(migrations, "_migrations", lambda: every[:1])
        migrate(connection)
        connection.execute("insert into model (model_name, dimension) values ('m', 3)")
        connection.execute(
            "insert into drift_history (model_name, window_name, state, vectors, score)"
            " values ('m', 'fast', 'ok', 100, 1.5)"
        )
        monkeypatch.setattr(migrations, "_migrations", lambda: every)
        assert migrate(connection) == every_migration()[1:]
        rows = connection.execute(
            "select m.model_name, dimension, score, norm from model m join drift_history using"
            " (model_name)"
        )
        assert rows.fetchall() == [("m", 3, 1.5, None)]


def test_a_migration_that_was_interrupted_leaves_nothing_and_is_done_again(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = migrations._migrations()
    name, statements = every[1]
    interrupted = (name, f"{statements}; select pg_terminate_backend(pg_backend_pid())")
    monkeypatch.setattr(migrations, "_migrations", lambda: [every[0], interrupted, *every[2:]])
    with pytest.raises(psycopg.OperationalError), connect(empty_database) as connection:
        migrate(connection)
    monkeypatch.setattr(migrations, "_migrations", lambda: every)
    with connect(empty_database) as connection:
        assert migrate(connection) == every_migration()[1:]


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
        " 'public'::regnamespace and relname <> 'migration' and attname <> 'model_name'",
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
