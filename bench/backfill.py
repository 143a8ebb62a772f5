"""Backfill of a data lake: vectors a second on one and two workers, and what a worker holds.

The peers are the same work on one worker, which two should halve, and reading the files alone,
in one process, which nothing that reads them can undercut. Memory should not grow with the data
set.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from functools import partial
from pathlib import Path

import exporter  # noqa: F401  (one BLAS thread, before numpy)

# isort: split
import numpy as np
import pyarrow as pa
from distributed import Client
from numpy.typing import NDArray
from pyarrow import parquet

from bench.table import median_seconds, show
from exporter import cluster
from exporter.dataset import Dataset
from exporter.plan import Fitted, Limits, Plan, check_times
from exporter.score import Detector
from exporter.segments import Judge
from exporter.windows import capacity
from ingest.runtime.settings import MonitoringSettings

DIMENSION = 768
REFERENCE = 5_000
ROW_GROUP = 10_000
START = 1_700_000_000.0
SMALL = [(20_000, 20)]
LARGE = [(60_000, 50), (240_000, 50), (240_000, 1_000)]
"""Vectors of the data set, and how many arrive between two check times."""


def drawn(count: int, seed: int) -> NDArray[np.float32]:
    """Draw vectors of 64 degrees of freedom and noise."""
    mixing = np.random.default_rng(0).standard_normal((64, DIMENSION), np.float32)
    random = np.random.default_rng(seed)
    noise = random.standard_normal((count, DIMENSION), np.float32)
    return random.standard_normal((count, 64), np.float32) @ mixing + noise


def write(folder: Path, count: int, apart: float) -> Dataset:
    """Write so many vectors, so many seconds apart, a row group a file."""
    for number, first in enumerate(range(0, count, ROW_GROUP)):
        vectors = drawn(min(ROW_GROUP, count - first), number + 1)
        times = START + apart * np.arange(first, first + len(vectors))
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMENSION)
        columns = pa.table({"embedding": flat, "timestamp": pa.array(times)})
        parquet.write_table(columns, folder / f"{number:05}.parquet")
    return Dataset.open(str(folder), "bench", "timestamp")


def read(dataset: Dataset) -> None:
    """Read all vectors, in this process, and do nothing with them."""
    for file in dataset.files:
        for piece in dataset.pieces(file, list(map(len, dataset.times(file)))):
            for _ in dataset.vectors(piece):
                pass


def measure(client: Client, dataset: Dataset, judge: Judge, interval: int) -> int:
    """Make the whole history; return how many rows it has."""
    stream = cluster.survey(client, dataset, id)
    checks = check_times(stream.times[0], stream.times[-1], interval)
    wanted = dict.fromkeys(judge.limits, np.ones(len(checks), bool))
    plan = Plan.of(stream.times, checks, wanted, judge.limits, Fitted(0, 0))
    done = cluster.history(client, dataset, stream, plan, judge)
    return sum(len(rows) for _, rows in done)


def peak_mib() -> float:
    """Most memory this process ever held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(quick: bool) -> None:
    """Time histories and print them."""
    settings = MonitoringSettings()
    detector = Detector.fit(drawn(REFERENCE, 0))
    limits = {
        name: Limits(window, capacity(window, detector.n_reference))
        for name, window in settings.windows
    }
    judge = Judge("bench", 1, detector, limits, settings.stale_after)
    runs = 1 if quick else 3
    rows = []
    for vectors, density in SMALL if quick else LARGE:
        with tempfile.TemporaryDirectory() as folder:
            dataset = write(Path(folder), vectors, settings.check_interval / density)
            alone = median_seconds(partial(read, dataset), runs)
            first = 0.0
            for count in (1, 2):
                with cluster.started(count) as client:
                    work = partial(measure, client, dataset, judge, settings.check_interval)
                    seconds = median_seconds(work, runs)
                    peak = max(client.run(peak_mib).values())
                first = first or seconds
                rows.append(
                    (
                        f"{vectors:,} x {DIMENSION}",
                        f"{density:,}",
                        f"{count}",
                        f"{vectors / seconds:,.0f}",
                        f"{first / seconds:.2f}",
                        f"{vectors / alone:,.0f}",
                        f"{peak:,.0f}",
                    )
                )
    head = (
        "vectors",
        "a check time",
        "workers",
        "vectors/s",
        "scaling",
        "reading alone",
        "peak MiB a worker",
    )
    show("Backfill: two windows at every check time of a data lake", head, rows)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
