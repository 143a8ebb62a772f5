"""``python -m bench.ingest.columns``: what a vector in each form costs, against raw float32.

The same vectors come as raw rows, as an ``.npy`` file, as an Arrow stream, as Parquet and as base64
in JSON, without and with new ids. Compared is the CPU time of the service for a vector, because
other processes disturb it less than the rate; the forms take turns. What the service takes without
requests is subtracted, because a slow form would get more of it.
"""

from __future__ import annotations

import base64
import io
import secrets
import statistics
import sys
import time
from collections.abc import Mapping

import httpx2
import msgspec
import numpy as np
import psutil
import pyarrow as pa
from pyarrow import parquet

from bench.ingest import service
from bench.ingest.wrk import FRESH
from bench.results import report

DIMENSION = 768
BODIES = {100: 100, 1_000: 20, 5_000: 6}
"""Requests that are sent at a time, by their number of vectors."""
IDLE_SECONDS = 5.0
NAMED = {"X-Model-Name": "columns", "X-Dimension": str(DIMENSION)}

Form = tuple[Mapping[str, str], bytes]
"""Headers and body."""


def forms(vectors: np.ndarray) -> dict[str, Form]:
    """Write vectors in each form; the first is the one to compare with."""
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMENSION)
    table = pa.table({"embedding": lists})
    stream, file, array = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    parquet.write_table(table, file)
    np.save(array, vectors)
    encoded = [base64.b64encode(row.tobytes()).decode() for row in vectors]
    ids = [f"{FRESH}-{row}" for row in range(len(vectors))]
    named = msgspec.json.encode({"embeddings": encoded, "ids": ids})
    bodies = {
        "raw float32": ("application/octet-stream", vectors.tobytes()),
        ".npy": ("application/x-npy", array.getvalue()),
        "Arrow stream": ("application/vnd.apache.arrow.stream", stream.getvalue()),
        "Parquet": ("application/vnd.apache.parquet", file.getvalue()),
        "base64 in JSON": ("application/json", msgspec.json.encode({"embeddings": encoded})),
        "base64 in JSON with ids": ("application/json", named),
    }
    return {
        f"{what}, batches of {len(vectors):,}": (NAMED | {"Content-Type": content_type}, body)
        for what, (content_type, body) in bodies.items()
    }


def cpu_seconds(running: service.Service) -> float:
    """Return the CPU time of the service and of its processes so far."""
    main = psutil.Process(running.pid)
    times = [each.cpu_times() for each in (main, *main.children())]
    return sum(each.user + each.system for each in times)


def idle_share(running: service.Service) -> float:
    """Return the CPU time of the service for a second without requests."""
    before = cpu_seconds(running)
    time.sleep(IDLE_SECONDS)
    return (cpu_seconds(running) - before) / IDLE_SECONDS


def measured(running: service.Service, form: Form, batch: int, idle: float) -> float:
    """Return the CPU time of the service for a vector."""
    headers, body = form
    before, start = cpu_seconds(running), time.monotonic()
    with httpx2.Client(timeout=60) as client:
        for _ in range(BODIES[batch]):
            fresh = body.replace(FRESH.encode(), secrets.token_hex(len(FRESH) // 2).encode())
            answer = client.post(f"{running.url}/embeddings", content=fresh, headers=headers)
            answer.raise_for_status()
    spent = cpu_seconds(running) - before - idle * (time.monotonic() - start)
    return spent / (BODIES[batch] * batch)


def main(quick: bool) -> None:
    """Measure and print."""
    rounds = 2 if quick else 9
    rows = []
    with service.postgresql() as store, service.serving(store, "ingest") as ingest:
        idle = idle_share(ingest)
        for batch in BODIES:
            vectors = np.random.default_rng(0).normal(size=(batch, DIMENSION)).astype(np.float32)
            written = forms(vectors)
            first = next(iter(written))
            found: dict[str, list[float]] = {what: [] for what in written}
            for form in written.values():
                measured(ingest, form, batch, idle)
            for number in range(rounds):
                service.discard(store)
                for what in list(written)[:: 1 if number % 2 else -1]:
                    found[what].append(measured(ingest, written[what], batch, idle))
            for what, spent in found.items():
                ratios = [own / other for own, other in zip(spent, found[first], strict=True)]
                rows.append(
                    (
                        what,
                        round(1e6 * statistics.median(spent), 1),
                        f"{statistics.median(ratios):.2f}",
                    )
                )
    report(
        "ingest.columns",
        "forms",
        f"Vectors of dimension {DIMENSION} in several forms",
        ("what", "CPU us", "to raw"),
        rows,
        quick,
    )


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
