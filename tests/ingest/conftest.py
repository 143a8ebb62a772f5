"""A table that an application fills, and a role that may only read it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from ingest.store.pool import connect


@dataclass(frozen=True)
class Application:
    """``connection`` is the application's own; ``reader`` is all that the watch is given."""

    connection: psycopg.Connection
    string: str
    reader: str


@pytest.fixture
def application(empty_database: str) -> Iterator[Application]:
    role = f"reader_{uuid.uuid4().hex}"
    reader = make_conninfo(empty_database, user=role, password="secret")
    with connect(empty_database) as connection:
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
