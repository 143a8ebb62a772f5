"""``python -m bench.ingest.columns``: what a vector in Arrow costs, against raw float32.

The same vectors come as raw rows, as an Arrow stream, as Parquet and as base64 in JSON. Compared is
the CPU time of the service for a vector, because other processes disturb it less than the rate; the
forms take turns.
"""

from __future__ import annotations

import base64
import io
import statistics
import sys
from collections.abc import Mapping

import msgspec
import numpy as np
import psutil
import pyarrow as pa
from pyarrow import parquet

from bench.ingest import service, wrk
from bench.results import report

DIMENSION = 768
BATCHES = (100, 1_000)
CONNECTIONS = 4
NAMED = {"X-Model-Name": "columns", "X-Dimension": str(DIMENSION)}

Form = tuple[Mapping[str, str], bytes]
"""Headers and body."""


def forms(vectors: np.ndarray) -> dict[str, Form]:
    """Write vectors in each form; the first is the one to compare with."""
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMENSION)
    table = pa.table({"embedding": lists})
    stream, file = io.BytesIO(), io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    parquet.write_table(table, file)
    encoded = [base64.b64encode(row.tobytes()).decode() for row in vectors]
    bodies = {
        "raw float32": ("application/octet-stream", vectors.tobytes()),
        "Arrow stream": ("application/vnd.apache.arrow.stream", stream.getvalue()),
        "Parquet": ("application/vnd.apache.parquet", file.getvalue()),
        "base64 in JSON": ("application/json", msgspec.json.encode({"embeddings": encoded})),
    }
    return {
        f"{what}, batches of {len(vectors):,}": (NAMED | {"Content-Type": content_type}, body)
        for what, (content_type, body) in bodies.items()
    }


def measured(running: service.Service, form: Form, vectors: int, seconds: float) -> float:
    """Return the CPU time of the service for a vector."""
    headers, body = form
    process = psutil.Process(running.pid)
    before = process.cpu_times()
    rate = wrk.post(f"{running.url}/embeddings", body, headers, CONNECTIONS, seconds).rate
    after = process.cpu_times()
    spent = after.user - before.user + after.system - before.system
    return spent / (rate * seconds * vectors)


def main(quick: bool) -> None:
    """Measure and print."""
    rounds, seconds = (2, 2.0) if quick else (7, 4.0)
    rows = []
    with service.postgresql() as store, service.serving(store, "ingest") as ingest:
        for batch in BATCHES:
            vectors = np.random.default_rng(0).normal(size=(batch, DIMENSION)).astype(np.float32)
            written = forms(vectors)
            first = next(iter(written))
            found: dict[str, list[float]] = {what: [] for what in written}
            for form in written.values():
                measured(ingest, form, batch, seconds)
            for number in range(rounds):
                for what in list(written)[:: 1 if number % 2 else -1]:
                    found[what].append(measured(ingest, written[what], batch, seconds))
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
