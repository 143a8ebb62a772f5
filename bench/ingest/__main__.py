"""``python -m bench.ingest``: throughput and latency of ``POST /embeddings``.

Binary batches against a bare COPY of the same rows, single JSON vectors against an empty
endpoint of the same server; each pair by turns, so that a noisy machine disturbs both alike.
"""

from __future__ import annotations

import statistics
import sys
import time
from datetime import UTC, datetime

import msgspec
import numpy as np

from bench.ingest import service, wrk
from bench.table import show
from ingest.store import copy
from ingest.store.batch import Batch
from ingest.store.pool import connect

DIMENSION = 768
BATCH = 100
SECONDS = 6.0
ROUNDS = 5


def bare_copy(store: str, vectors: np.ndarray, seconds: float) -> float:
    """Vectors a second by COPY BINARY of tuples encoded before, committed every 1,000."""
    now = datetime.now(UTC)
    name = f"bare-{time.monotonic_ns()}"
    head = f"copy embedding ({copy.COLUMNS}) from stdin (format binary)"
    stored, spent = 0, 0.0
    with connect(store) as connection:
        while spent < seconds:
            blocks = [
                copy.encode([Batch(name, vectors)], 1 + stored + n * len(vectors), now)
                for n in range(10)
            ]
            start = time.perf_counter()
            with connection.cursor() as cursor, cursor.copy(head) as stream:
                for block in (copy.HEADER, *blocks, copy.TRAILER):
                    stream.write(block)
            spent += time.perf_counter() - start
            stored += len(blocks) * len(vectors)
    return stored / spent


def main(quick: bool) -> None:
    """Measure and print."""
    rounds, seconds = (2, 3.0) if quick else (ROUNDS, SECONDS)
    random = np.random.default_rng(0)
    vectors = random.normal(size=(BATCH, DIMENSION)).astype(np.float32)
    binary = {
        "Content-Type": "application/octet-stream",
        "X-Model-Name": "bench",
        "X-Dimension": str(DIMENSION),
    }
    single = msgspec.json.encode({"model_name": "single", "embedding": vectors[0].tolist()})
    json = {"Content-Type": "application/json"}
    with (
        service.postgresql() as store,
        service.empty() as nothing,
        service.serving(store, "ingest") as ingest,
    ):
        url = f"{ingest.url}/embeddings"
        wrk.post(url, vectors.tobytes(), binary, 16, 2)
        pairs = []
        for _ in range(rounds):
            bare = bare_copy(store, vectors, seconds)
            load = wrk.post(url, vectors.tobytes(), binary, 16, seconds)
            pairs.append((BATCH * load.rate, bare))
            print(pairs[-1], load, flush=True)
        singles = []
        for _ in range(rounds):
            limit = wrk.post(f"{nothing.url}/embeddings", single, json, 64, seconds)
            load = wrk.post(url, single, json, 64, seconds)
            singles.append((load.rate, limit.rate))
            print(singles[-1], load, flush=True)
        peak = ingest.peak_bytes
    show(
        "Ingest",
        ("what", "ours", "limit", "ratio"),
        [
            (
                what,
                *(f"{statistics.median(c):,.0f}" for c in zip(*measured, strict=True)),
                f"{statistics.median(a / b for a, b in measured):.2f}",
            )
            for what, measured in (("binary", pairs), ("json", singles))
        ],
    )
    print(f"peak {peak / 2**20:.0f} MiB")


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
