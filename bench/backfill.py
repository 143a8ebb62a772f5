"""Backfill of a data lake: vectors per second on one and two workers, and their memory.

There are two peers. One worker on the same data: two should take half the time. Reading the files
alone in one process: no backfill can be faster. CPU time is the sum over all workers, and that of
the command; unlike vectors per second, it hardly depends on what else the machine does. Memory
should not grow with the data set, whether its files are in the order of time or not. An idle worker
has loaded its libraries.
"""

from __future__ import annotations

import sys
import tempfile
import time
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
from exporter.backfill import cluster
from exporter.backfill.backfill import Backfill
from exporter.backfill.dataset import Dataset, Part
from exporter.backfill.plan import Fitted, Plan, check_times
from exporter.backfill.replay import Judge
from exporter.detector.detector import Detector
from exporter.monitor.windows import Limits
from ingest.runtime.settings.settings import MonitoringSettings

DIMENSION = 768
REFERENCE = 5_000
ROW_GROUP = 10_000
START = 1_700_000_000.0
SMALL = [(20_000, 20, "time"), (20_000, 20, "none")]
LARGE = [
    (60_000, 50, "time"),
    (240_000, 50, "time"),
    (480_000, 50, "time"),
    (240_000, 1_000, "time"),
    (60_000, 50, "none"),
    (240_000, 50, "none"),
    (480_000, 50, "none"),
]
"""Vectors of the data set, vectors between two check times, and the order of the files."""


def drawn(count: int, seed: int) -> NDArray[np.float32]:
    """Draw vectors of 64 degrees of freedom and noise."""
    mixing = np.random.default_rng(0).standard_normal((64, DIMENSION), np.float32)
    random = np.random.default_rng(seed)
    noise = random.standard_normal((count, DIMENSION), np.float32)
    return random.standard_normal((count, 64), np.float32) @ mixing + noise


def write(folder: Path, count: int, apart: float, order: str) -> Dataset:
    """Write ``count`` vectors, ``apart`` seconds apart, with one row group per file."""
    places = np.arange(count)
    if order == "none":
        places = np.random.default_rng(0).permutation(count)
    for number, first in enumerate(range(0, count, ROW_GROUP)):
        vectors = drawn(min(ROW_GROUP, count - first), number + 1)
        times = START + apart * places[first : first + len(vectors)]
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMENSION)
        columns = pa.table({"embedding": flat, "timestamp": pa.array(times)})
        parquet.write_table(columns, folder / f"{number:05}.parquet")
    return Dataset.open(str(folder), "bench")


def read(dataset: Dataset) -> None:
    """Read all vectors in this process and discard them."""
    for file in dataset.files:
        survey = dataset.survey(file)
        for number, times in enumerate(survey.times):
            group = Part(file, number, len(times), survey.stamp)
            for _ in dataset.vectors(group, np.arange(len(times), dtype=np.int32)):
                pass


def measure(filling: Backfill, judge: Judge, interval: int) -> int:
    """Compute the whole history and return its number of rows."""
    stream = filling.survey()
    checks = check_times(stream.times[0], stream.times[-1], interval)
    wanted = dict.fromkeys(judge.limits, np.ones(len(checks), bool))
    plan = Plan.of(stream.times, checks, wanted, judge.limits, Fitted(0, 0))
    return sum(len(rows) for _, rows in filling.measure(stream, plan, judge))


def cpu_seconds(client: Client) -> tuple[float, float]:
    """Return the CPU time of all workers so far, and of this process."""
    return sum(client.run(time.process_time).values()), time.process_time()


def peak_mib() -> float:
    """Return the peak memory of this process, in MiB."""
    # Not ru_maxrss: a child process starts with the value of its parent.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main(quick: bool) -> None:
    """Measure and print."""
    settings = MonitoringSettings()
    detector = Detector.fit(drawn(REFERENCE, 0))
    limits = {name: Limits.of(window, detector.n_reference) for name, window in settings.windows}
    judge = Judge("bench", 1, detector, limits, settings.stale_after, True)
    rows = []
    for vectors, density, order in SMALL if quick else LARGE:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as scratch:
            dataset = write(Path(folder), vectors, settings.check_interval / density, order)
            alone = median_seconds(partial(read, dataset), 1)
            first = 0.0
            for count in (1, 2):
                with cluster.started(count) as client:
                    idle = max(client.run(peak_mib).values())
                    filling = Backfill(client, dataset, scratch)
                    work = partial(measure, filling, judge, settings.check_interval)
                    before = cpu_seconds(client)
                    seconds = median_seconds(work, 1)
                    # Includes the first run, which does not count for the wall time.
                    cpu = [
                        1e6 * (after - spent) / 2 / vectors
                        for spent, after in zip(before, cpu_seconds(client), strict=True)
                    ]
                    peak = max(client.run(peak_mib).values())
                first = first or seconds
                rows.append(
                    (
                        f"{vectors:,} x {DIMENSION}",
                        order,
                        f"{density:,}",
                        f"{count}",
                        f"{vectors / seconds:,.0f}",
                        f"{first / seconds:.2f}",
                        f"{vectors / alone:,.0f}",
                        *(f"{each:.1f}" for each in cpu),
                        f"{idle:,.0f}",
                        f"{peak:,.0f}",
                    )
                )
    head = (
        "vectors",
        "order",
        "per check time",
        "workers",
        "vectors/s",
        "scaling",
        "reading alone",
        "CPU us per vector",
        "of the command",
        "idle MiB",
        "peak MiB per worker",
    )
    show("Backfill: two windows at every check time of a data lake", head, rows)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
