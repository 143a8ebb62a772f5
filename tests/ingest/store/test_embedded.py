"""The embedded server: one owner, restarted when it dies, stopped within a deadline."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import psutil
import pytest

from ingest.runtime.errors import StoreUnavailable
from ingest.store import embedded
from ingest.store.connection import connect
from ingest.store.pool import open_async
from tests.service import postmaster_of, wait_for

SERVICE = "[other]\nhost=192.0.2.1\nport=1\nuser=other\ndbname=other\n"


def test_variables_of_libpq_do_not_redirect_connections(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "services"
    file.write_text(SERVICE)
    with embedded.running(folder / "data") as string:
        for name, value in {
            "PGSERVICEFILE": str(file),
            "PGSERVICE": "other",
            "PGHOSTADDR": "192.0.2.1",
            "PGPORT": "1",
        }.items():
            monkeypatch.setenv(name, value)
        with connect(string) as connection:
            assert connection.info.user == "postgres"

        async def main() -> None:
            async with open_async(string, 1) as pool, pool.connection() as connection:
                assert connection.info.user == "postgres"

        asyncio.run(main())


def test_a_killed_server_is_restarted(folder: Path) -> None:
    with embedded.running(folder / "data") as string:
        with connect(string) as connection:
            connection.execute("create table kept as select 1")
        for _ in range(2):
            kill(folder / "data")
            wait_for(lambda: is_answering(string), "the server")
        with connect(string) as connection:
            assert connection.execute("select * from kept").fetchall() == [(1,)]
    assert not is_answering(string)


def test_a_hanging_session_does_not_prevent_the_stop(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with embedded.running(folder / "data") as string, connect(string) as connection:
        postmaster = psutil.Process(postmaster_of(folder / "data"))
        processes = [postmaster, *postmaster.children()]
        os.kill(connection.info.backend_pid, signal.SIGSTOP)
    assert not any(process.is_running() for process in processes)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [vars(record)["mode"] for record in warnings] == ["fast"]


def kill(data: Path) -> None:
    pid = postmaster_of(data)
    os.kill(pid, signal.SIGKILL)
    # Until the process has ended, its sockets still accept connections.
    wait_for(lambda: not psutil.pid_exists(pid), "the end of the server")


def is_answering(string: str) -> bool:
    try:
        connect(string).close()
    except StoreUnavailable:
        return False
    return True
