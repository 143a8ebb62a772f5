"""A whole exporter: its restart until `/metrics` has every score, its memory, a scrape, a poll.

The peer is the same program without models. A thousand models need 20 GB of memory.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import exporter  # noqa: F401  (one BLAS thread, before numpy)

# isort: split
import httpx2
import numpy as np
import psutil
import yaml

from bench.footprint import send, store
from bench.results import report
from exporter.detector.detector import Detector
from exporter.stats.quality import assess
from ingest.runtime.settings.settings import MonitoringSettings
from ingest.store import baselines
from ingest.store.batch import Batch
from ingest.store.connection import connect
from ingest.store.selection import Selection, select

DIMENSION = 768
WINDOW = 1_000
_PINNED = 100
"""Vectors of each baseline that are stored. A restart does not read them, but the detector."""
_WINDOWS = 2
_SECONDS = 86_400
_PAUSE_SECONDS = 0.1
_POLLS_SECONDS = MonitoringSettings().poll_interval + 1
"""Longer than from one poll to the next."""
_TIMES = 5
_FLEET, _FLEET_BYTES = 1_000, 20e9
_SCORE = "\nembedding_drift_score{"
_CHECKED = re.compile(r"^embedding_drift_check_timestamp_seconds \d", re.MULTILINE)
_POLL = re.compile(r"^embedding_drift_store_poll_duration_seconds (\S+)$", re.MULTILINE)


class Measured(NamedTuple):
    """An exporter that has followed all of its models."""

    cpu_seconds: float
    """Of the restart."""
    seconds: float
    """The same on the clock."""
    resident: int
    """Bytes."""
    scrape_seconds: float
    """Median, after the first check, where nothing has changed since the last scrape."""
    poll_seconds: float
    """Median of polls that found nothing new."""


def fill(string: str, models: int) -> None:
    """Store models with the detector of 5,000 vectors, and full windows of others without drift."""
    random = np.random.default_rng(0)
    mixed = random.normal(size=(6 * WINDOW, 64)) @ random.normal(size=(64, DIMENSION))
    drawn = (mixed + random.normal(size=mixed.shape)).astype(np.float32)
    sample, new = np.split(drawn, [5 * WINDOW])
    fitted, quality = Detector.fit(sample).to_bytes(), asdict(assess(sample))
    with connect(string) as connection:
        for number in range(models):
            name = f"model-{number}"
            send(string, [Batch(name, sample[:_PINNED])])
            rows = select(connection, name, Selection(first=_PINNED))
            baselines.create(connection, name, rows, fitted, quality, "bench")
            send(string, [Batch(name, np.roll(new, number, axis=0))])


@contextmanager
def started(string: str) -> Iterator[tuple[psutil.Process, str]]:
    """Start an exporter, and give its process and its address."""
    with tempfile.TemporaryDirectory(prefix="embedding-drift-") as folder:
        config, log = Path(folder, "config.yaml"), Path(folder, "log")
        windows = {name: {"seconds": _SECONDS, "max_vectors": WINDOW} for name in ("fast", "slow")}
        settings = {
            "database": {"connection_string": string},
            "monitoring": {"windows": windows, "baseline": {"mature": False}},
            "server": {"port": 0},
        }
        config.write_text(yaml.safe_dump(settings))
        command = [sys.executable, "-m", "exporter", "exporter", "--config", str(config)]
        with log.open("w") as stream, subprocess.Popen(command, stderr=stream) as process:
            try:
                yield psutil.Process(process.pid), _address(process, log)
            finally:
                process.send_signal(signal.SIGTERM)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    while not (found := re.search(r"msg=listening.* url=(\S+)", log.read_text())):
        assert process.poll() is None, log.read_text()
        time.sleep(_PAUSE_SECONDS)
    return found[1]


def restart(string: str, models: int) -> Measured:
    """Start an exporter, wait until every window has a score, and measure it."""
    begun = time.perf_counter()
    with started(string) as (process, url):
        scores = f"{url}/metrics?name[]=embedding_drift_score"
        while httpx2.get(f"{url}/-/ready", timeout=60).status_code != 200:
            time.sleep(_PAUSE_SECONDS)
        # Windows that took very long to read count as not followed until the next poll.
        while httpx2.get(scores, timeout=60).text.count(_SCORE) < _WINDOWS * models:
            time.sleep(_PAUSE_SECONDS)
        cpu, seconds = sum(process.cpu_times()[:2]), time.perf_counter() - begun
        while not _CHECKED.search(httpx2.get(f"{url}/metrics", timeout=60).text):
            time.sleep(_PAUSE_SECONDS)
        scrapes, polls = list[float](), list[float]()
        for _ in range(_TIMES):
            time.sleep(_POLLS_SECONDS)
            start = time.perf_counter()
            page = httpx2.get(f"{url}/metrics", timeout=60).text
            scrapes.append(time.perf_counter() - start)
            polls += map(float, _POLL.findall(page))
        middle = [float(np.median(each)) for each in (scrapes, polls)]
        return Measured(cpu, seconds, process.memory_info().rss, *middle)


def main(quick: bool) -> None:
    """Measure and print."""
    rows = []
    fleet = (_FLEET,) if psutil.virtual_memory().available > _FLEET_BYTES else ()
    if not fleet:
        print(f"{_FLEET:,} models are left out: they need {_FLEET_BYTES / 1e9:.0f} GB of memory")
    for models in (0, 5) if quick else (0, 100, *fleet):
        with store() as string:
            fill(string, models)
            # A fleet is restarted once: its first check takes minutes.
            times = 1 if quick or models == _FLEET else _TIMES
            all_of_them = [restart(string, models) for _ in range(times)]
            middle = Measured(*np.median(all_of_them, axis=0).tolist())
            rows.append(
                (
                    models,
                    WINDOW,
                    round(middle.cpu_seconds, 1),
                    round(middle.seconds, 1),
                    round(middle.resident / 1e6),
                    round(middle.scrape_seconds, 3),
                    round(middle.poll_seconds, 3),
                )
            )
    title = f"An exporter restarts: its models have two windows x {DIMENSION} each"
    head = ("models", "window", "CPU seconds", "seconds", "MB", "scrape s", "poll s")
    report("restart", "restart", title, head, rows, quick)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
