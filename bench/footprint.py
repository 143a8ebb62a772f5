"""What a vector takes on disk, what a model takes in an exporter's memory, and what a poll takes.

Of the embedded server and of this process: all that docs/scaling.md computes from.
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
from functools import partial
from pathlib import Path

import exporter  # noqa: F401  (one BLAS thread, before numpy)

# isort: split
import numpy as np
import psycopg
from numpy.typing import NDArray

from bench.table import median_seconds, show
from exporter.baseline import Baseline
from exporter.model import Model, Models
from exporter.quality import assess
from exporter.score import Detector
from exporter.tail import Tail
from ingest.runtime.settings import (
    MonitoringSettings,
    WindowSettings,
    WindowsSettings,
)
from ingest.store import baselines, embedded, history, tail
from ingest.store.batch import Batch
from ingest.store.migrate import migrate
from ingest.store.pool import connect, open_sync
from ingest.store.selection import Selection, select
from ingest.store.tail import ModelRow, Shard
from ingest.store.vectors import insert

DIMENSIONS = (384, 768, 1_024, 1_536, 3_072)
_ROWS = 20_000


def _resident() -> int:
    """Tell this process's resident bytes, after what is free went back to the system."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4_096


_IDLE = _resident()


@contextmanager
def store() -> Iterator[str]:
    """Give a migrated store on a server of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="embedding-drift-") as folder,
        embedded.running(Path(folder)) as string,
    ):
        with connect(string) as connection:
            migrate(connection)
        yield string


def send(string: str, batches: list[Batch]) -> None:
    """Store batches, one commit each."""

    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(string, autocommit=True) as connection:
            for batch in batches:
                await insert(connection, [batch], 100_000)

    asyncio.run(run())


def scalar(connection: psycopg.Connection, statement: str) -> int:
    """Ask for one number."""
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return int(row[0])


def disk(string: str, quick: bool) -> None:
    """Measure bytes a vector, plain and with an id and metadata of 100 bytes."""
    random = np.random.default_rng(0)
    rows = []
    with connect(string) as connection:
        for dimension in DIMENSIONS[: 2 if quick else None]:
            vectors = random.normal(size=(_ROWS, dimension)).astype(np.float32)
            metadata = [f'{{"text": "{"x" * 88}"}}'.encode()] * _ROWS
            ids = [str(uuid.uuid4()) for _ in range(_ROWS)]
            plain = Batch(f"plain-{dimension}", vectors)
            full = Batch(f"full-{dimension}", vectors, ids=ids, metadata=metadata)
            rows.append(
                (
                    f"{dimension:,}",
                    f"{4 * dimension:,}",
                    *(f"{n:,.0f}" for n in _stored(string, connection, plain)),
                    *(f"{n:,.0f}" for n in _stored(string, connection, full)),
                )
            )
    head = ("dimension", "floats", "stored", "WAL", "with id, metadata", "WAL")
    show("Disk: bytes a vector, tables and indexes", head, rows)


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
            start = time.perf_counter()
            detector = Detector.fit(chosen["embedding"], timestamps=chosen["received_at"])
            fitted = time.perf_counter()
            baselines.create(connection, name, chosen, detector.to_bytes(), {}, "bench")
            stored = time.perf_counter()
            rows.append(
                (
                    f"{count:,} x 768",
                    f"{fitted - start:.1f}",
                    f"{stored - fitted:.1f}",
                    f"{(scalar(connection, size) - was[0]) / 1e6:.0f}",
                    f"{(scalar(connection, detectors) - was[1]) / 1e6:.0f}",
                )
            )
        components = dict.fromkeys(Detector.COMPONENTS, 0.123456789)
        row = history.HistoryRow("a/model", "fast", "ok", 900, 1, 1.5, 0.1, 0.98, 1.0, components)
        for _ in range(10):
            history.append(connection, [row] * 1_000)
        each = scalar(connection, "select pg_total_relation_size('drift_history')") / 10_000
    head = ("a baseline of", "seconds to fit", "to store", "MB of vectors, index", "MB of detector")
    show("Baselines", head, rows)
    print(f"\na row of drift history: {each:,.0f} bytes")


def _stored(string: str, connection: psycopg.Connection, batch: Batch) -> tuple[float, float]:
    tables = "('embedding_id', 'embedding') or relname ~ '^embedding_p'"
    size = (
        "select sum(pg_total_relation_size(oid)) from pg_class"
        f" where relkind = 'r' and (relname in {tables})"
    )
    position = "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"
    connection.execute("truncate embedding, embedding_id")
    connection.execute("checkpoint")
    # A first batch pays for the first pages and the image of each that a checkpoint asks for.
    half = len(batch) // 2
    first, second = _part(batch, 0, half), _part(batch, half, len(batch))
    send(string, [first])
    was, wal = scalar(connection, size), scalar(connection, position)
    send(string, [second])
    return (
        (scalar(connection, size) - was) / len(second),
        (scalar(connection, position) - wal) / len(second),
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
    """Build a model with a detector of its own, whose two windows are full."""
    now = datetime.now(UTC)
    limits = WindowSettings(seconds=86_400, max_vectors=window)
    settings = MonitoringSettings(windows=WindowsSettings(fast=limits, slow=limits))
    row = ModelRow(f"model-{number}", vectors.shape[1], window, now, None, 1, now)
    built = Model(row, settings)
    own = Detector.from_bytes(detector.to_bytes())
    built.adopt(Baseline(1, now, 0, "bench", assess(vectors[:1_000]), own), now.timestamp())
    built.windows.append(vectors[:window], np.full(window, now.timestamp()))
    return built


def memory(quick: bool) -> None:
    """Measure resident bytes a model beside its raw vectors."""
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
                for name in built[-1].windows.windows:
                    built[-1].verdict(name, datetime.now(UTC).timestamp())
            taken = (_resident() - before) / len(built)
            raw = 4 * dimension * window
            rows.append(
                (
                    f"{dimension:,} x {window:,}",
                    f"{taken / 1e6:.1f}",
                    f"{raw / 1e6:.1f}",
                    f"{(taken - raw) / 1e6:.1f}",
                    f"{len(detector.to_bytes()) / 1e6:.1f}",
                )
            )
            del built
    head = ("dimension x window", "MB a model", "raw vectors", "the rest", "detector as stored")
    show("Memory: a model with two full windows", head, rows)


def fitting(quick: bool) -> None:
    """Measure what fitting a baseline takes at its peak, beside its vectors."""
    random = np.random.default_rng(0)
    rows = []
    for count in (1_000,) if quick else (5_000, 50_000):
        vectors = random.standard_normal((count, 768), dtype=np.float32)
        tracemalloc.start()
        Detector.fit(vectors)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        rows.append((f"{count:,} x 768", f"{vectors.nbytes / 1e6:.0f}", f"{peak / 1e6:.0f}"))
    show("Memory: fitting a baseline", ("a baseline of", "MB of vectors", "MB besides"), rows)
    print(f"\nthis program, before anything else: {_IDLE / 1e6:,.0f} MB")


def passage(quick: bool) -> None:
    """Time a vector's way through two windows, and measure its size in a request's body."""
    random = np.random.default_rng(0)
    rows = []
    for dimension in DIMENSIONS[: 1 if quick else None]:
        sample = random.normal(size=(5_000, dimension)).astype(np.float32)
        followed = model(0, sample, Detector.fit(sample), 1_000)
        batch = sample[:512]
        times = np.full(len(batch), datetime.now(UTC).timestamp())
        seconds = median_seconds(partial(followed.windows.append, batch, times), 9) / len(batch)
        listed = json.dumps(batch.tolist(), separators=(",", ":"))
        rows.append(
            (
                f"{dimension:,}",
                f"{seconds * 1e6:.0f}",
                f"{len(listed) / len(batch):,.0f}",
                f"{4 * -(-4 * dimension // 3):,}",
                f"{4 * dimension:,}",
            )
        )
    head = ("dimension", "microseconds", "bytes as JSON", "as base64", "as float32")
    show(
        "Passage: a vector enters and leaves two windows, after it came over the network",
        head,
        rows,
    )


def poll(string: str, quick: bool) -> None:
    """Time a poll of many models that bring one batch each, and the list of models by shard."""
    random = np.random.default_rng(0)
    models, size = (20, 10) if quick else (200, 10)
    vectors = random.normal(size=(size, 768)).astype(np.float32)
    batches = [Batch(f"polled-{number}", vectors) for number in range(models)]
    following = Models()
    with open_sync(string, 1) as pool, connect(string) as connection:
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
        listing = [
            (f"list one of {shards} shards of 10,000 models", _milliseconds(connection, shards))
            for shards in (10, 100)
        ]
    each = (sorted(busy)[2] - idle) / models
    rows = [(f"one model of {size} new vectors of 768", f"{each * 1e3:.2f}"), *listing]
    show("A poll of the store", ("to", "milliseconds"), rows)


def _milliseconds(connection: psycopg.Connection, shards: int) -> str:
    return f"{median_seconds(lambda: tail.models(connection, Shard(0, shards)), 5) * 1e3:.0f}"


def main(quick: bool) -> None:
    """Measure and print all of it."""
    memory(quick)
    fitting(quick)
    passage(quick)
    with store() as string:
        disk(string, quick)
        pinned(string, quick)
        poll(string, quick)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
