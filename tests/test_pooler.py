"""The service behind a connection pooler in transaction mode."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg.conninfo import conninfo_to_dict

from demo.stack import free_port
from demo.tools import ToolMissing
from ingest.store.connection import connect, take_turns
from tests.service import command, drift, post, serving, wait_for, window

POOLER = """
[databases]
store = {target}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
"""

CONFIG = """
database: {{connection_string: "postgresql://any@127.0.0.1:{port}/store"}}
monitoring: {{poll_interval: 0.1, check_interval: 1, baseline: {{vectors: 500}}}}
server: {{port: 0}}
"""


@pytest.fixture
def pooler(folder: Path, empty_database: str) -> Iterator[int]:
    """The port of a PgBouncer in front of an empty database."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        raise ToolMissing("pgbouncer is not installed; on Debian: apt-get install pgbouncer")
    folder.chmod(0o755)
    port = free_port()
    given = conninfo_to_dict(empty_database)
    target = {key: value for key, value in given.items() if value and key != "options"}
    config = folder / "pgbouncer.ini"
    joined = " ".join(f"{key}='{value}'" for key, value in target.items())
    config.write_text(POOLER.format(target=joined, port=port))
    # PgBouncer refuses to run as root, and only the embedded server's user may enter its folder.
    socket_folder = Path(str(target.get("host") or "/"))
    user = socket_folder.owner() if socket_folder.is_dir() else "nobody"
    as_user = ["-u", user] if os.geteuid() == 0 and user != "root" else []
    process = subprocess.Popen([program, *as_user, config], stderr=subprocess.PIPE, text=True)

    def listens() -> bool:
        assert process.poll() is None, process.communicate()[1]
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(listens, "PgBouncer")
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=240)


def test_each_transaction_through_a_pooler_has_our_settings(
    pooler: int, empty_database: str
) -> None:
    with connect(empty_database) as connection:
        database = connection.info.dbname
        for setting in ("synchronous_commit = off", "statement_timeout = 77"):
            connection.execute(f"alter database {database} set {setting}".encode())
        connection.execute("create schema extensions; create extension vector schema extensions")
    through = f"postgresql://any@127.0.0.1:{pooler}/store"
    settings = "synchronous_commit", "statement_timeout", "search_path"
    with connect(through) as connection:
        with connection.transaction():
            shown = [connection.execute(f"show {each}".encode()).fetchone() for each in settings]
        assert shown == [("on",), ("0",), ('"$user", public, extensions',)]
        # Also those of a single statement.
        assert connection.execute("show synchronous_commit").fetchone() == ("on",)
    # Nothing is left in a session that the pooler gives to somebody else.
    with psycopg.connect(through, autocommit=True) as other:
        assert other.execute("show synchronous_commit").fetchone() == ("off",)


def test_limits_for_a_machine_that_is_gone_stay_in_their_transaction(
    pooler: int, empty_database: str
) -> None:
    through = f"postgresql://any@127.0.0.1:{pooler}/store"
    changed = "select name from pg_settings where name ~ '^tcp_|^idle_' and source = 'session'"
    with connect(through) as connection, connection.transaction():
        take_turns(connection, 1)
        assert len(connection.execute(changed).fetchall()) == 5
    with psycopg.connect(through, autocommit=True) as other:
        assert other.execute(changed).fetchall() == []


def run(config: Path, *arguments: str) -> str:
    return subprocess.run(
        command(config, *arguments), capture_output=True, text=True, timeout=240, check=True
    ).stdout


def test_the_service_works_through_a_pooler_and_its_times_are_utc(
    folder: Path, pooler: int, empty_database: str, sentences: NDArray[np.float32]
) -> None:
    with connect(empty_database) as connection:
        database = connection.info.dbname
        for setting in ("timezone = 'Asia/Tokyo'", "datestyle = 'German'"):
            connection.execute(f"alter database {database} set {setting}".encode())
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(port=pooler))

    with serving(config) as service:
        for at in range(0, 700, 100):
            assert post(service.url, sentences[at : at + 100]).status_code == 201
        wait_for(lambda: window(service.url).get("state") == "ok", "a verdict")
        wait_for(lambda: "quality" in window(service.url), "the first check")
        found = httpx2.post(
            f"{service.url}/search",
            json={"model_name": "m", "embedding": sentences[650].tolist(), "k": 1, "scope": "fast"},
            timeout=60,
        ).json()
        assert found["matches"][0]["similarity"] == pytest.approx(1, abs=1e-5)
        report = drift(service.url)
        log = service.log.read_text()
        listed = run(config, "model", "list"), run(config, "baseline", "list", "m")
    times = [
        found["matches"][0]["received_at"],
        report["last_vector_at"],
        report["baseline"]["pinned_at"],
    ]
    assert [time for time in times if not time.endswith("Z")] == []
    assert all(re.search(r" \d\d:\d\d:\d\d(\+0000| UTC)\b", lines) for lines in listed), listed
    assert "Traceback" not in log
    assert "level=error" not in log
