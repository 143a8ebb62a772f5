"""The embedded server: shared, restarted when it dies, stopped by the last one that leaves."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from ingest.runtime.errors import SettingsError, StoreUnavailable
from ingest.store import embedded, postgresql
from ingest.store.connection import connect
from ingest.store.pool import async_pool
from tests.service import STARTING, command, postmaster_of, wait_for

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
            async with async_pool(string, 1) as pool, pool.connection() as connection:
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
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # PostgreSQL kills the session itself in time, also on a busy machine.
    ways = ("fast", signal.SIGINT, 10.0), ("immediate", signal.SIGQUIT, 120.0)
    monkeypatch.setattr(postgresql, "_WAYS_TO_STOP", ways)
    with embedded.running(folder / "data") as string, connect(string) as connection:
        postmaster = psutil.Process(postmaster_of(folder / "data"))
        processes = [postmaster, *postmaster.children()]
        os.kill(connection.info.backend_pid, signal.SIGSTOP)
    wait_for(lambda: not any(map(psutil.Process.is_running, processes)), "the end of them all")
    records = [record for record in caplog.records if record.name == postgresql.__name__]
    warnings = [record for record in records if record.levelno == logging.WARNING]
    assert [vars(record)["mode"] for record in warnings] == ["fast"]


@contextmanager
def another(data: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run another process that uses the server, until its input ends."""
    command = [sys.executable, "-c", STARTING, str(data)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"starting\n"
        assert process.stdout.readline() == b"started\n"
        yield process


def test_a_second_process_is_told_so_and_survives_the_first(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, embedded.__name__)
    shared = "another process uses the embedded PostgreSQL too; the last one stops it"
    with another(folder / "data") as first, embedded.running(folder / "data") as string:
        assert shared in caplog.messages
        pid = postmaster_of(folder / "data")
        with connect(string) as connection:
            first.communicate(timeout=240)
            assert connection.execute("select 1").fetchone() == (1,)
        assert postmaster_of(folder / "data") == pid
        kill(folder / "data")
        wait_for(lambda: is_answering(string), "the server, started again by the second")
    assert not is_answering(string)


def test_a_start_by_another_process_is_waited_for_and_told(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, embedded.__name__)
    told = "another process starts the embedded PostgreSQL; waiting for it"
    (folder / "data" / "run").mkdir(parents=True, mode=0o700)
    with (folder / "data" / "run" / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def release() -> None:
            wait_for(lambda: told in caplog.messages, "the message")
            fcntl.flock(lock, fcntl.LOCK_UN)

        releasing = threading.Thread(target=release)
        releasing.start()
        with embedded.running(folder / "data") as string:
            assert is_answering(string)
        releasing.join()


def test_the_first_process_survives_the_second(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, embedded.__name__)
    with embedded.running(folder / "data") as string, connect(string) as connection:
        assert caplog.messages == []
        with another(folder / "data") as second:
            second.communicate(timeout=240)
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_server_whose_users_were_all_killed_is_used_and_stopped_by_the_next(
    folder: Path,
) -> None:
    with another(folder / "data") as process:
        process.kill()
        process.wait()
    pid = postmaster_of(folder / "data")
    with embedded.running(folder / "data") as string:
        assert is_answering(string)
        assert postmaster_of(folder / "data") == pid
    assert not is_answering(string)


@pytest.mark.parametrize(
    "arguments",
    [
        ["model", "list"],
        ["model", "remove", "m", "--yes"],
        ["model", "resolve", "m"],
        ["baseline", "list", "m"],
        ["baseline", "use", "m", "1"],
        ["baseline", "pin", "m", "--first", "300", "--dry-run"],
        ["backfill", ".", "--model", "m"],
        ["exporter"],
    ],
)
def test_a_command_that_needs_a_store_does_not_create_one(
    folder: Path, arguments: list[str]
) -> None:
    answer = run(folder, *arguments)
    assert answer.returncode == 1
    assert f"Error: there is no store in {folder / 'data'}" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (folder / "data").exists()


def test_a_command_does_not_mention_the_server_that_it_borrows(folder: Path) -> None:
    assert run(folder, "migrate").stderr == ""
    with embedded.running(folder / "data"):
        answer = run(folder, "model", "list")
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["migrate"], ["serve"], ["model", "list"]])
def test_a_data_folder_that_cannot_be_used_is_one_line(folder: Path, arguments: list[str]) -> None:
    (folder / "data").write_text("a file")
    answer = run(folder, *arguments)
    assert answer.returncode == (1 if arguments == ["model", "list"] else 2)
    [line] = [line for line in answer.stderr.splitlines() if line.startswith("Error: ")]
    assert str(folder / "data") in line
    assert "Traceback" not in answer.stderr


def link(data: Path) -> None:
    data.parent.joinpath("elsewhere").mkdir()
    data.symlink_to("elsewhere")


def belong_to_another(path: Path) -> None:
    os.chown(path, OTHER, OTHER, follow_symlinks=False)


def prepare_for_another(data: Path) -> None:
    data.mkdir()
    belong_to_another(data)


def open_to_all(data: Path) -> None:
    data.mkdir()
    data.chmod(0o777)


def open_to_all_who_keep_theirs(data: Path) -> None:
    data.mkdir()
    data.chmod(0o1777)


def link_of_another(data: Path) -> None:
    link(data)
    belong_to_another(data)


def link_of_another_to_nothing(data: Path) -> None:
    data.symlink_to("elsewhere")
    belong_to_another(data)


def locks_elsewhere(data: Path) -> None:
    data.mkdir()
    link(data / "run")


def locks_open_to_all(data: Path) -> None:
    (data / "run").mkdir(parents=True)


def locks_of_another(data: Path) -> None:
    (data / "run").mkdir(parents=True, mode=0o700)
    belong_to_another(data / "run")


OTHER = 65534
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        pytest.param(prepare_for_another, f"belongs to user number {OTHER}", marks=NEEDS_ROOT),
        pytest.param(link_of_another, f"belongs to user number {OTHER}", marks=NEEDS_ROOT),
        pytest.param(
            link_of_another_to_nothing, f"belongs to user number {OTHER}", marks=NEEDS_ROOT
        ),
        pytest.param(locks_of_another, f"belongs to user number {OTHER}", marks=NEEDS_ROOT),
        (open_to_all, "every user can write to"),
        (open_to_all_who_keep_theirs, "every user can write to"),
        (locks_elsewhere, "is no folder that is closed to other users"),
        (locks_open_to_all, "is no folder that is closed to other users"),
    ],
)
def test_a_folder_that_another_user_could_replace_is_refused_and_left_as_it_is(
    folder: Path, prepare: Callable[[Path], None], reason: str
) -> None:
    data = folder / "data"
    prepare(data)

    def found() -> dict[Path, int]:
        return {each: each.lstat().st_mode for each in folder.rglob("*")}

    before = found()
    with (
        pytest.raises(SettingsError, match=rf"database\.data_directory: .*{reason}"),
        embedded.running(data),
    ):
        pass
    assert found() == before


def test_a_link_of_ones_own_leads_to_the_data(folder: Path) -> None:
    link(folder / "data")
    with embedded.running(folder / "data") as string:
        assert is_answering(string)
    assert (folder / "elsewhere" / "postgresql" / "PG_VERSION").exists()


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the data folder ``data``."""
    config = folder / "config.yaml"
    config.write_text(f"server: {{port: 0}}\ndatabase: {{data_directory: {folder / 'data'}}}\n")
    return subprocess.run(command(config, *arguments), capture_output=True, text=True, timeout=240)


def kill(data: Path) -> None:
    pid = postmaster_of(data)
    process = psutil.Process(pid)
    process.kill()
    # Until the process has ended, its sockets still accept connections.
    wait_for(lambda: has_ended(process), "the end of the server")


def has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def is_answering(string: str) -> bool:
    try:
        connect(string).close()
    except StoreUnavailable:
        return False
    return True
