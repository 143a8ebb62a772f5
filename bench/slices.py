"""Memory of a slice, and the CPU time that a fit and a check of slices take."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import tracemalloc
from contextlib import nullcontext
from itertools import cycle, islice

import exporter  # noqa: F401  (one BLAS thread, before numpy)

# isort: split
import numpy as np

from bench.footprint import store
from bench.results import report
from exporter.monitor import baseline, slices
from exporter.monitor.ring import Arrivals
from ingest.runtime.settings.settings import WindowSettings
from ingest.store import slices as stored
from ingest.store.batch import Batch
from ingest.store.connection import AsyncConnection, connect
from ingest.store.selection import Selection
from ingest.store.vectors import insert

_DIMENSIONS = (384, 768)
_TENANTS = 10
_BASELINE = 5_000
_WINDOW = 2_500
"""Half of the baseline, as the slow window of a busy model."""
_KEYS = ("tenant",)
_CHECKS = 3


def _measure(dimension: int) -> tuple[int, float, float, float]:
    """Return the dimension, MB and seconds of a fit for each slice, and milliseconds of a check."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(_BASELINE + _WINDOW, dimension)).astype(np.float32)
    tenants = (f"t{at}" for at in range(_TENANTS))
    names = islice(cycle(tenants), len(vectors))
    metadata: list[bytes | None] = [json.dumps({"tenant": name}).encode() for name in names]
    with store() as string, connect(string) as connection:

        async def fill() -> None:
            async with await AsyncConnection.connect(string, autocommit=True) as writer:
                for at in range(0, len(vectors), 500):
                    rows = slice(at, at + 500)
                    batch = Batch("bench", vectors[rows], metadata=metadata[rows])
                    await insert(writer, [batch], 60)

        asyncio.run(fill())
        version = baseline.pin(connection, "bench", Selection(first=_BASELINE))
        found = baseline.load(connection, "bench", version)
        start = time.process_time()
        slices.divide(lambda: nullcontext(connection), "bench", found, _KEYS)
        seconds = time.process_time() - start
        # Tracing makes everything slower, so that it is a run of its own.
        tracemalloc.start()
        slicing = slices.divide(lambda: nullcontext(connection), "bench", found, _KEYS)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        now = time.time()
        arrivals = Arrivals.numbered(vectors[_BASELINE:], np.full(_WINDOW, now), _BASELINE)
        window = WindowSettings(seconds=21_600)

        def check() -> None:
            seqs = arrivals.seqs.tolist()
            read = stored.of_vectors(connection, "bench", _KEYS, seqs, now - 3_600, now)
            values = slices.by_key(_KEYS, seqs, read)
            slices.examine(slicing, values, arrivals, window, 1.0, found, now)

        check()
        start = time.process_time()
        for _ in range(_CHECKS):
            check()
        milliseconds = 1e3 * (time.process_time() - start) / _CHECKS
    count = len(slicing.slices)
    return (
        dimension,
        round(held / count / 1e6, 1),
        round(seconds / count, 2),
        round(milliseconds),
    )


def main(quick: bool) -> None:
    """Measure and print."""
    report(
        "slices",
        "slices",
        f"Ten slices of a baseline of {_BASELINE:,}, window of {_WINDOW:,}",
        ("dimension", "MB a slice", "seconds to fit a slice", "milliseconds a check"),
        list(map(_measure, _DIMENSIONS)),
        quick,
    )


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
