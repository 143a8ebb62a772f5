"""A small data lake, and functions that write and backfill it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
from distributed import Client
from numpy.typing import NDArray
from pyarrow import parquet

from exporter.backfill.backfill import Backfill
from exporter.backfill.dataset import Dataset
from exporter.backfill.plan import Run
from ingest.runtime.settings.settings import (
    BaselineSettings,
    MonitoringSettings,
    Settings,
    WindowSettings,
    WindowsSettings,
)
from ingest.store.history import HistoryRow

Vectors = NDArray[np.float32]
Floats = NDArray[np.float64]

START = 1_700_000_123.0
FITTED = 1_000
SETTINGS = Settings(
    monitoring=MonitoringSettings(
        baseline=BaselineSettings(vectors=FITTED),
        windows=WindowsSettings(
            fast=WindowSettings(seconds=900, min_vectors=20),
            slow=WindowSettings(seconds=7_000, min_vectors=20),
        ),
    )
)
MONITORING = SETTINGS.monitoring


def made(count: int = 3_000) -> Floats:
    """Irregular times of vectors, with a burst at one time and a night without any."""
    pauses = np.random.default_rng(1).exponential(25, 3_000)
    pauses[FITTED + 500 : FITTED + 640] = 0
    pauses[FITTED + 1_100] = 20_000
    # Microseconds, as in the files.
    return np.round(START + np.cumsum(pauses), 6)[:count]


def jumbled(times: Floats) -> NDArray[np.intp]:
    """A random order of vectors, in which vectors of one time keep their order."""
    _, moment = np.unique(times, return_inverse=True)
    shuffled = np.random.default_rng(0).permutation(len(times))
    return np.argsort(shuffled[moment], kind="stable")


def table(vectors: Vectors, times: Floats, **columns: object) -> pa.Table:
    stamps = pa.array(np.rint(times * 1e6).astype(np.int64), pa.timestamp("us", "UTC"))
    lists = pa.array(list(vectors), pa.list_(pa.float32()))
    return pa.table({"embedding": lists, "timestamp": stamps, **columns})


def write(folder: Path, vectors: Vectors, times: Floats, files: int = 3) -> str:
    """Write files of several row groups, and files that are not data beside them."""
    folder.mkdir(exist_ok=True)
    for number, rows in enumerate(np.array_split(np.arange(len(times)), files)):
        path = folder / "day=1" / f"{number:03}.parquet"
        path.parent.mkdir(exist_ok=True)
        parquet.write_table(table(vectors[rows], times[rows]), path, row_group_size=170)
    (folder / "_SUCCESS").touch()
    (folder / "_temporary.parquet").write_text("no Parquet")
    return str(folder)


def backfill(client: Client, url: str, scratch: Path | None = None) -> Backfill:
    dataset = Dataset.open(url, "m")
    return Backfill(client, dataset, None if scratch is None else str(scratch))


def rows(connection: psycopg.Connection) -> dict[tuple[float, str], HistoryRow]:
    """Rows of history by time and window."""
    found = connection.execute(
        "select extract(epoch from computed_at)::float8, model_name, window_name, state, vectors,"
        " baseline_version, score, changed_ratio, changed_ratio_lower, changed_ratio_upper,"
        " cosine_similarity, norm, components"
        " from drift_history order by computed_at, window_name"
    ).fetchall()
    return {(row[0], row[2]): HistoryRow(*row[1:]) for row in found}


def held(run: Run, name: str, at: int) -> tuple[NDArray[np.intp], int]:
    """The vectors of a window, counted among those of the run, and the level of their sample."""
    [(found, level)] = [
        (sample.members[sample.bounds[span.first[i]] : sample.bounds[span.last[i]]], level)
        for level, sample in run.samples.items()
        for named, span in sample.spans.items()
        if named == name
        for i in np.flatnonzero(span.at == at)
    ]
    return found, level
