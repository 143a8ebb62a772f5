"""Run the embedded PostgreSQL server, for users without a server of their own."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from ingest.runtime.errors import MonitorError, SettingsError, StoreUnavailable
from ingest.runtime.settings.settings import DatabaseSettings
from ingest.store.connection import ConnectionString
from ingest.store.postgresql import Server

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
"""Interval at which each process that uses the server looks whether it still runs."""
_RETRY_SECONDS = 5.0
"""Pause after a failed start."""


@contextmanager
def connection_string(
    settings: DatabaseSettings, *, creates: bool = True
) -> Iterator[ConnectionString]:
    """Yield the connection string of the configured server, or run the embedded one.

    Parameters
    ----------
    settings : DatabaseSettings
    creates : bool
        Whether to create an embedded store that does not exist.

    Raises
    ------
    SettingsError
        If the data folder cannot be used.
    StoreUnavailable
        If the embedded server cannot be started, or does not exist and is not to be created.
    """
    if settings.connection_string is not None:
        yield settings.connection_string.get_secret_value
        return
    with running(Path(settings.data_directory), creates=creates) as string:
        yield string


@contextmanager
def running(data_directory: Path, *, creates: bool = True) -> Iterator[str]:
    """Run the embedded server while entered, and yield its connection string.

    Several processes can use one server. Each of them starts it again if it ends, and the last
    one that leaves stops it.

    Raises
    ------
    SettingsError
        If the data folder cannot be used.
    StoreUnavailable
        If the server cannot be started, or there is no store and ``creates`` is false.
    """
    folder = data_directory.resolve()
    run = folder / "run"
    server = Server(folder / "postgresql", run / "postgresql.log")
    with _usable(folder):
        if data_directory.is_symlink():
            _require_owner(data_directory, 0, os.geteuid())
        if not creates and not server.exists():
            raise StoreUnavailable(
                f"there is no store in {folder} (database.data_directory); embedding-drift serve"
                " and embedding-drift migrate create one"
            )
        _prepare(folder, run)
        users = _open(run / "users.lock")
    try:
        if not _try_lock(users):
            _log.info(
                "another process uses the embedded PostgreSQL too; the last one stops it",
                extra={"directory": str(folder)},
            )
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            with _kept_running(server, run / "start.lock"), server.reachable() as string:
                yield string
        finally:
            if _try_lock(users):
                server.stop()
                _log.info("embedded PostgreSQL stopped", extra={"directory": str(folder)})
    finally:
        os.close(users)


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    try:
        yield
    except StoreUnavailable:
        raise
    except OSError as error:
        raise SettingsError(
            f"database.data_directory: {folder} cannot be used: {error.strerror}: {error.filename}"
        ) from error


def _prepare(folder: Path, run: Path) -> None:
    """Create the data folder, and in it the folder of locks that only this user can open.

    Whoever can open a file can hold a lock of it. Whoever can write to the data folder can replace
    the server.
    """
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o700)
    _require_owner(folder, 0, os.geteuid())
    if folder.stat().st_mode & stat.S_IWOTH:
        raise SettingsError(
            f"database.data_directory: every user can write to {folder}; run chmod o-w on it, or"
            " choose another folder, for example one in it"
        )
    run.mkdir(mode=0o700, exist_ok=True)
    _require_owner(run, os.geteuid())
    mode = run.lstat().st_mode
    # Not ours, then: / has a folder of that name, too.
    if not stat.S_ISDIR(mode) or mode & stat.S_IRWXO:
        raise SettingsError(
            f"database.data_directory: {run} is no folder that is closed to other users; choose"
            " another data folder"
        )
    run.chmod(0o700)


def _require_owner(path: Path, *users: int) -> None:
    """Check whose a file, folder or link is.

    Raises
    ------
    SettingsError
        If it belongs to none of the users, by number.
    """
    owner = path.lstat().st_uid
    if owner not in users:
        raise SettingsError(
            f"database.data_directory: {path} belongs to user number {owner}; run as that user, or"
            " choose another folder"
        )


@contextmanager
def _kept_running(server: Server, start_lock: Path) -> Iterator[None]:
    """Start the server, and start it again when it has ended, while entered.

    A thread of its own starts it: a signal, which interrupts the main thread, does not leave a
    start half done.
    """
    left = threading.Event()
    started: Future[None] = Future()

    def keep() -> None:
        try:
            _start(server, start_lock, left)
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(None)
        while not left.wait(_LOOK_SECONDS):
            if server.process() is None:
                _log.warning("embedded PostgreSQL ended; starting it again")
                while not _started_again(server, start_lock, left):
                    if left.wait(_RETRY_SECONDS):
                        return

    thread = threading.Thread(target=keep, name="postgresql", daemon=True)
    thread.start()
    try:
        started.result()
        yield
    finally:
        left.set()
        thread.join()


def _started_again(server: Server, start_lock: Path, left: threading.Event) -> bool:
    try:
        _start(server, start_lock, left)
    except MonitorError as error:
        _log.error("embedded PostgreSQL cannot start", extra={"error": str(error)})
        return False
    _log.info("embedded PostgreSQL started again")
    return True


def _start(server: Server, start_lock: Path, left: threading.Event) -> None:
    """Start the server if it does not run, and wait until it accepts connections."""
    try:
        lock = _open(start_lock)
        try:
            if not _try_lock(lock):
                _log.info("another process starts the embedded PostgreSQL; waiting for it")
                while not _try_lock(lock):
                    if left.wait(0.05):
                        return
            server.launch()
        finally:
            os.close(lock)
        server.wait(left)
    except MonitorError:
        raise
    except OSError as error:
        raise StoreUnavailable(f"{server} cannot start: {error}") from error


def _open(lock: Path) -> int:
    return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int) -> bool:
    # The kernel releases the lock of a process that ends, even if it is killed.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
