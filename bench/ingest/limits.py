"""``python -m bench.ingest.limits``: what the limits on connections cost, and what h11 would.

Three servers take turns on the same request: the product's, uvicorn with httptools as it comes, and
uvicorn with h11, which limits heads, chunks and trailers itself. Compared is the CPU time of the
service for a request, because other processes disturb it less than the rate.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import uvicorn
from prometheus_client import CollectorRegistry

from bench.ingest import service
from bench.ingest.shortcuts import HEADERS, cpu_seconds
from bench.results import report
from ingest.http.app import Ingest
from ingest.pipeline.pipeline import Pipeline
from ingest.runtime import logs
from ingest.runtime.http import application, server
from ingest.runtime.http.protocol import HEAD_BYTES
from ingest.runtime.settings.configuration import load
from ingest.runtime.settings.reload import LiveSettings
from ingest.store.connection import connect
from ingest.store.migrate import migrate

DIMENSION = 768
BATCH = 100
BINARY = {
    "Content-Type": "application/octet-stream",
    "X-Model-Name": "batches",
    "X-Dimension": str(DIMENSION),
}
SERVERS = ("product", "httptools", "h11")


def serve(name: str, store: str) -> None:
    """Serve the ingest half by one of the servers."""
    live = LiveSettings(lambda: load(None, None, {"server.port": 0}))
    logs.configure(live.settings.log)
    with connect(store) as connection:
        migrate(connection)
    registry = CollectorRegistry()
    half = Ingest(Pipeline(store, live.settings, registry), live.settings)
    app = application.application(registry, live, half)
    listener = server.listen("127.0.0.1", 0)
    if name == "product":
        server.run(app, listener, live, registry)
        return
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", file=sys.stderr, flush=True)
    config = uvicorn.Config(
        app,
        http=name,
        log_config=None,
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )
    server._favour_the_loop()
    uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def serving(store: str, name: str) -> Iterator[service.Service]:
    """Run :func:`serve` in a process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench.ingest.limits", name, store]
        with service.child(command, Path(folder) / "log") as started:
            yield started


def row(
    store: str, what: str, body: bytes, headers: Mapping[str, str], quick: bool
) -> tuple[str | float, ...]:
    """Measure rounds, and return medians in microseconds and the median ratios to httptools."""
    rounds, seconds = (2, 2.0) if quick else (11, 3.0)
    spent: dict[str, list[float]] = {name: [] for name in SERVERS}
    with ExitStack() as stack:
        running = {name: stack.enter_context(serving(store, name)) for name in SERVERS}
        for one in running.values():
            cpu_seconds(one, body, 1, headers)
        for number in range(rounds):
            service.discard(store)
            for name in SERVERS[:: 1 if number % 2 else -1]:
                spent[name].append(cpu_seconds(running[name], body, seconds, headers))

    def ratio(name: str) -> str:
        pairs = zip(spent[name], spent["httptools"], strict=True)
        return f"{statistics.median(one / other for one, other in pairs):.2f}"

    medians = [round(1e6 * statistics.median(spent[name])) for name in SERVERS]
    return what, *medians, ratio("product"), ratio("h11")


def main(quick: bool) -> None:
    """Measure and print."""
    vectors = np.random.default_rng(0).normal(size=(BATCH, DIMENSION)).astype(np.float32)
    single = msgspec.json.encode({"model_name": "singles", "embedding": vectors[0].tolist()})
    with service.postgresql() as store:
        rows = [
            row(store, "one vector in JSON", single, HEADERS, quick),
            row(store, f"{BATCH} vectors in binary", vectors.tobytes(), BINARY, quick),
        ]
    report(
        "ingest.limits",
        "limits",
        f"CPU time of a request of vectors of dimension {DIMENSION}, microseconds",
        ("what", "ours", "httptools", "h11", "ours of httptools", "h11 of httptools"),
        rows,
        quick,
    )


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in SERVERS:
        serve(*sys.argv[1:])
    else:
        main("--quick" in sys.argv[1:])
