"""Disk space of a vector, memory of a model in the exporter, and duration of a poll.

Measured on the embedded server and in this process. docs/scaling.md is computed from it.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import sys
import tempfile
import time
import tracemalloc
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import exporter  # noqa: F401  (one BLAS thread, before numpy)

# isort: split
import numpy as np
import psutil
import psycopg
from numpy.typing import NDArray

from bench.results import report
from bench.table import median_seconds
from exporter.detector.detector import Detector
from exporter.monitor.baseline import Baseline
from exporter.monitor.model import Model, Models
from exporter.monitor.ring import Arrivals
from exporter.monitor.tail import Tail
from exporter.monitor.windows import ModelWindows
from exporter.stats.quality import assess
from ingest.runtime.settings.settings import (
    MonitoringSettings,
    WindowSettings,
    WindowsSettings,
)
from ingest.store import baselines, changes, embedded, history
from ingest.store.batch import Batch
from ingest.store.changes import ModelRow
from ingest.store.connection import AsyncConnection, connect
from ingest.store.migrate import migrate
from ingest.store.pool import sync_pool
from ingest.store.selection import Selection, select
from ingest.store.shard import Shard
from ingest.store.vectors import insert

DIMENSIONS = (384, 768, 1_024, 1_536, 3_072)
_ROWS = 20_000
_PASSING = 4_096
"""Vectors that pass through the windows, while the time is taken."""


def _resident() -> int:
    """Return the resident bytes of this process, after free memory was returned to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4_096


_IDLE = _resident()


@contextmanager
def store() -> Iterator[str]:
    """Start an embedded server with the schema, and give its connection string."""
    with (
        tempfile.TemporaryDirectory(prefix="embedding-drift-") as folder,
        embedded.running(Path(folder)) as string,
    ):
        with connect(string) as connection:
            migrate(connection)
        yield string


def send(string: str, batches: list[Batch]) -> None:
    """Store each batch in its own commit."""

    async def run() -> None:
        async with await AsyncConnection.connect(string, autocommit=True) as connection:
            for batch in batches:
                await insert(connection, [batch], 100_000)

    asyncio.run(run())


def scalar(connection: psycopg.Connection, statement: str) -> int:
    """Run a query that returns one number."""
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return int(row[0])


def disk(string: str, quick: bool) -> None:
    """Measure bytes per vector, without and with an id and 100 bytes of metadata."""
    random = np.random.default_rng(0)
    rows = []
    with connect(string) as connection:
        for dimension in DIMENSIONS[: 2 if quick else None]:
            vectors = random.normal(size=(_ROWS, dimension)).astype(np.float32)
            metadata: list[bytes | None] = [f'{{"text": "{"x" * 88}"}}'.encode()] * _ROWS
            ids: list[str | None] = [str(uuid.uuid4()) for _ in range(_ROWS)]
            plain = Batch(f"plain-{dimension}", vectors)
            full = Batch(f"full-{dimension}", vectors, ids=ids, metadata=metadata)
            of_both = (*_stored(string, connection, plain), *_stored(string, connection, full))
            rows.append((dimension, *of_both))
    head = ("dimension", "stored", "WAL", "stored with both", "WAL with both")
    title = "Disk: bytes per vector, with indexes; without and with an id and 100 bytes of metadata"
    report("footprint", "disk", title, head, rows, quick)


def pinned(string: str, quick: bool) -> None:
    """Measure a pinned baseline and a row of drift history."""
    random = np.random.default_rng(0)
    rows = []
    with connect(string) as connection:
        for count in (1_000,) if quick else (5_000, 50_000):
            name = f"pinned-{count}"
            mixing = random.normal(size=(64, 768))
            vectors = (random.normal(size=(count, 64)) @ mixing).astype(np.float32)
            send(string, [Batch(name, vectors[at : at + 5_000]) for at in range(0, count, 5_000)])
            size = "select pg_total_relation_size('baseline_embedding')"
            detectors = "select pg_total_relation_size('baseline')"
            was = scalar(connection, size), scalar(connection, detectors)
            chosen = select(connection, name, Selection(first=count))
            detector = Detector.fit(chosen["embedding"], timestamps=chosen["received_at"])
            server = psutil.Process(connection.info.backend_pid)
            before = sum(server.cpu_times()[:2]) + time.process_time()
            baselines.create(connection, name, chosen, detector.to_bytes(), {}, "bench")
            stored = sum(server.cpu_times()[:2]) + time.process_time() - before
            rows.append(
                (
                    count,
                    round(stored, 1),
                    round((scalar(connection, size) - was[0]) / 1e6),
                    round((scalar(connection, detectors) - was[1]) / 1e6),
                )
            )
        components = dict.fromkeys(Detector.COMPONENTS, 0.123456789)
        row = history.HistoryRow(
            name, "fast", "ok", 900, 1, 1.5, 0.1, 0.05, 0.15, 0.98, 1.0, components
        )
        for _ in range(10):
            history.append(connection, [row] * 1_000)
        each = round(scalar(connection, "select pg_total_relation_size('drift_history')") / 10_000)
    head = ("vectors", "CPU seconds to store", "MB on disk", "MB of detector")
    report("footprint", "baselines", "Baselines x 768", head, rows, quick)
    report("footprint", "history", "History", ("bytes a row",), [(each,)], quick)


def _stored(string: str, connection: psycopg.Connection, batch: Batch) -> tuple[int, int]:
    tables = "('embedding_id', 'embedding') or relname ~ '^embedding_p'"
    size = (
        "select sum(pg_total_relation_size(oid)) from pg_class"
        f" where relkind = 'r' and (relname in {tables})"
    )
    position = "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"
    connection.execute("truncate embedding, embedding_id")
    connection.execute("checkpoint")
    # A first batch takes the cost of new pages and of their full images after the checkpoint.
    half = len(batch) // 2
    first, second = _part(batch, 0, half), _part(batch, half, len(batch))
    send(string, [first])
    was, wal = scalar(connection, size), scalar(connection, position)
    send(string, [second])
    return (
        round((scalar(connection, size) - was) / len(second)),
        round((scalar(connection, position) - wal) / len(second)),
    )


def _part(batch: Batch, start: int, stop: int) -> Batch:
    rows = slice(start, stop)
    return Batch(
        batch.model_name,
        batch.vectors[rows],
        ids=None if batch.ids is None else batch.ids[rows],
        metadata=None if batch.metadata is None else batch.metadata[rows],
    )


def model(number: int, vectors: NDArray[np.float32], detector: Detector, window: int) -> Model:
    """Build a model with its own detector and two full windows of this many vectors."""
    now = datetime.now(UTC)
    limits = WindowSettings(seconds=86_400, max_vectors=window)
    settings = MonitoringSettings(windows=WindowsSettings(fast=limits, slow=limits))
    row = ModelRow(f"model-{number}", vectors.shape[1], len(vectors), now, None, 1, now)
    built = Model(row, settings)
    own = Detector.from_bytes(detector.to_bytes())
    windows = ModelWindows(row.dimension, settings, own)
    held = vectors[: windows.capacity]
    windows.append(Arrivals.numbered(held, np.full(len(held), now.timestamp())))
    built.adopt(
        Baseline(1, now, 0, now, now, False, "bench", assess(vectors[:1_000]), own), windows
    )
    return built


def memory(quick: bool) -> None:
    """Measure the resident bytes per model, and those of its raw vectors."""
    random = np.random.default_rng(0)
    rows = []
    for dimension in DIMENSIONS[: 1 if quick else None]:
        sample = random.normal(size=(50_000, dimension)).astype(np.float32)
        for window in (1_000, 10_000):
            reference = sample[: 5 * window]
            detector = Detector.fit(reference)
            model(-1, sample, detector, window)
            before, built = _resident(), []
            for number in range(8):
                built.append(model(number, sample, detector, window))
                built[-1].snapshot(datetime.now(UTC).timestamp())
            taken = (_resident() - before) / len(built)
            raw = 4 * dimension * window
            rows.append(
                (
                    dimension,
                    window,
                    round(taken / 1e6, 1),
                    round(raw / 1e6, 1),
                    round(len(detector.to_bytes()) / 1e6, 1),
                )
            )
            del built
    head = ("dimension", "window", "MB", "MB of vectors", "MB of detector as stored")
    report("footprint", "memory", "Memory: a model with two full windows", head, rows, quick)


def fitting(quick: bool) -> None:
    """Measure the peak memory and the time of fitting a baseline of a week, without its vectors.

    Alone, and with eight times as many more vectors of the week, as an automatic baseline has.
    """
    random = np.random.default_rng(0)
    rows = []
    for count in (1_000,) if quick else (5_000, 50_000):
        vectors = random.standard_normal((count, 768), dtype=np.float32)
        times = np.linspace(0, 604_800.0, count)
        measured: list[float] = [round(vectors.nbytes / 1e6)]
        for parts in (0, 8):
            start = time.process_time()
            Detector.fit(vectors, timestamps=times, more=_copies(vectors, times, parts))
            seconds = time.process_time() - start
            tracemalloc.start()
            Detector.fit(vectors, timestamps=times, more=_copies(vectors, times, parts))
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            measured += [round(peak / 1e6), round(seconds, 1)]
        rows.append((count, *measured))
    head = ("vectors", "MB of vectors", "MB besides", "CPU s", "MB with more", "CPU s with more")
    report("footprint", "fitting", "Memory: fitting a baseline x 768", head, rows, quick)
    title = "Memory: this program after its imports"
    report("footprint", "program", title, ("MB",), [(round(_IDLE / 1e6),)], quick)


def _copies(
    vectors: NDArray[np.float32], times: NDArray[np.float64], number: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float64]]]:
    """Yield the same vectors again: drawing others would take longer than to measure them."""
    return ((vectors.copy(), times) for _ in range(number))


def passage(quick: bool) -> None:
    """Time a vector that enters and leaves both windows, and measure its size in a request.

    One vector comes each second, so the windows are full, and as many leave as enter. The tail
    reads 512 at once, or those of one poll by default, or one by one.
    """
    random = np.random.default_rng(0)
    rows = []
    for dimension in DIMENSIONS[: 1 if quick else None]:
        sample = random.normal(size=(10_000, dimension)).astype(np.float32)
        of_a_poll = round(MonitoringSettings().poll_interval)
        times = [round(_passing(sample, size) * 1e6) for size in (512, of_a_poll, 1)]
        listed = json.dumps(sample[:512].tolist(), separators=(",", ":"))
        rows.append(
            (
                dimension,
                *times,
                round(len(listed) / 512),
                4 * -(-4 * dimension // 3),
                4 * dimension,
            )
        )
    in_time = ("microseconds", "of one poll", "one by one")
    head = ("dimension", *in_time, "bytes as JSON", "as base64", "as float32")
    title = "Passage: a vector enters and leaves two windows, 512 at once"
    report("footprint", "passage", title, head, rows, quick)


def _passing(sample: NDArray[np.float32], size: int) -> float:
    """Return the CPU seconds for which a vector passes through full windows, so many at once."""
    an_hour = WindowsSettings(slow=WindowSettings(seconds=3_600))
    settings = MonitoringSettings(windows=an_hour)
    windows = ModelWindows(sample.shape[1], settings, Detector.fit(sample))
    arrivals = Arrivals.numbered(sample, np.arange(len(sample), dtype=np.float64))
    held, begun = -(-int(windows.seconds) // size) * size, 0.0
    for at in range(0, held + _PASSING, size):
        if at == held:
            begun = time.process_time()
        windows.append(arrivals.part(slice(at, at + size)))
    return (time.process_time() - begun) / _PASSING


def poll(string: str, quick: bool) -> None:
    """Time a poll of many models with one new batch each, and the list of models of a shard."""
    random = np.random.default_rng(0)
    models, size = (20, 10) if quick else (200, 10)
    vectors = random.normal(size=(size, 768)).astype(np.float32)
    batches = [Batch(f"polled-{number}", vectors) for number in range(models)]
    following = Models()
    with sync_pool(string, 1) as pool, connect(string) as connection:
        polling = Tail(pool, following, MonitoringSettings())
        polling.poll()
        send(string, batches)
        polling.poll()
        idle = median_seconds(polling.poll, 5)
        busy = []
        for _ in range(5):
            send(string, batches)
            start = datetime.now(UTC)
            polling.poll()
            busy.append((datetime.now(UTC) - start).total_seconds())
        polling.stop()
        connection.execute(
            "insert into model (model_name, dimension)"
            " select 'listed/' || n, 768 from generate_series(1, 10000) as n"
        )
        listing = [(shards, _milliseconds(connection, shards)) for shards in (10, 100)]
    each = round((sorted(busy)[2] - idle) / models * 1e3, 2)
    head = ("new vectors x 768", "milliseconds")
    report("footprint", "poll", "A poll of the database, per model", head, [(size, each)], quick)
    title = "A poll of the database: the list of one shard, of 10,000 models"
    report("footprint", "listing", title, ("shards", "milliseconds"), listing, quick)


def _milliseconds(connection: psycopg.Connection, shards: int) -> int:
    return round(median_seconds(lambda: changes.models(connection, Shard(0, shards)), 5) * 1e3)


def main(quick: bool) -> None:
    """Measure and print."""
    memory(quick)
    fitting(quick)
    passage(quick)
    with store() as string:
        disk(string, quick)
        pinned(string, quick)
    # On its own server, so that no baseline is read or fitted meanwhile.
    with store() as string:
        poll(string, quick)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
