"""``python -m bench.ingest.fitting``: latencies of ``serve`` while it fits baselines, and without.

The same requests go to the same service, first until the baselines of all models are pinned, then
as long again. PostgreSQL has its data in memory: the pauses of a disk would hide the difference.
"""

from __future__ import annotations

import sys

import msgspec
import numpy as np

from bench.footprint import scalar, send
from bench.ingest import pace, service
from bench.ingest.__main__ import JSON, request
from bench.results import report
from ingest.store.batch import Batch
from ingest.store.connection import connect
from ingest.store.migrate import migrate

DIMENSION = 768
RATE = 200
"""Requests per second, with one vector each: a fraction of what the service can take."""
CONNECTIONS = 16
_MEMORY = "/dev/shm"
"""A folder that Linux keeps in memory."""
_SECONDS = 2.0
"""How long to send until it is looked whether everything is pinned."""


def fill(string: str, models: int, vectors: int) -> None:
    """Store models that have just the vectors of a first baseline."""
    random = np.random.default_rng(0)
    mixed = random.normal(size=(vectors, 64)) @ random.normal(size=(64, DIMENSION))
    sample = (mixed + random.normal(size=mixed.shape)).astype(np.float32)
    with connect(string) as connection:
        migrate(connection)
    for number in range(models):
        parts = np.split(sample, range(5_000, vectors, 5_000))
        send(string, [Batch(f"model-{number}", part) for part in parts])


def measure(models: int, vectors: int) -> tuple[list[float], list[float]]:
    """Return the median and the 99 % quantile in milliseconds, beside fits and without."""
    body = msgspec.json.encode({"model_name": "model-0", "embedding": [0.1] * DIMENSION})
    sent = request(body, JSON)
    # Nothing else that is periodic runs meanwhile.
    baseline = {"vectors": vectors, "mature": False}
    settings = {"monitoring": {"check_interval": 3_600, "baseline": baseline}}
    beside: list[np.ndarray] = []
    without: list[np.ndarray] = []
    with service.postgresql(_MEMORY) as string:
        fill(string, models, vectors)
        with service.serving(string, "serve", settings) as serve, connect(string) as connection:
            # Not counted: the first requests after a start are slower.
            pace.latencies(serve.url, sent, RATE, _SECONDS, CONNECTIONS)
            while not beside or scalar(connection, "select count(*) from baseline") < models:
                beside.append(pace.latencies(serve.url, sent, RATE, _SECONDS, CONNECTIONS))
            # The windows are read anew.
            pace.latencies(serve.url, sent, RATE, _SECONDS, CONNECTIONS)
            for _ in beside:
                without.append(pace.latencies(serve.url, sent, RATE, _SECONDS, CONNECTIONS))
    return _quantiles(beside), _quantiles(without)


def _quantiles(took: list[np.ndarray]) -> list[float]:
    quantiles: list[float] = (1e3 * np.quantile(np.concatenate(took), (0.5, 0.99))).tolist()
    return quantiles


def main(quick: bool) -> None:
    """Measure and print."""
    rows: list[tuple[float | str, ...]] = []
    for models, vectors in ((2, 1_000),) if quick else ((10, 5_000), (1, 50_000)):
        beside, without = measure(models, vectors)
        times = [f"{milliseconds:.1f}" for milliseconds in (*beside, *without)]
        rows.append((models, vectors, *times, f"{beside[1] / without[1]:.1f}"))
    head = ("models", "vectors", "median", "p99", "median without", "p99 without", "p99 ratio")
    report("ingest.fitting", "fitting", "Ingest while baselines are fitted, ms", head, rows, quick)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
