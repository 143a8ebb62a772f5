"""A scrape of 100 models with two windows each: its processor time and its size.

The limit is 0.5 s. There are two peers: prometheus_client's rendering of the same samples, without
computing them, and windows with a tenth of the vectors, which should cost the same.

Each model has a detector of its own: a common one would stay in the processor's cache. The fast
window holds half of the vectors of the slow one.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import exporter  # noqa: F401  (one BLAS thread, before numpy)

# isort: split
import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from bench.results import report
from exporter.detector.detector import Detector
from exporter.metrics.collector import DriftCollector
from exporter.monitor.baseline import Baseline
from exporter.monitor.following import Following
from exporter.monitor.model import Model, Models
from exporter.monitor.ring import Arrivals
from exporter.monitor.snapshot import PollStatus, Snapshot
from exporter.monitor.windows import ModelWindows
from exporter.stats.quality import assess
from ingest.runtime.http.exposition import Families, Format, write
from ingest.runtime.settings.settings import (
    MonitoringSettings,
    WindowSettings,
    WindowsSettings,
)
from ingest.store.changes import ModelRow

DIMENSION = 768
LIMIT_SECONDS = 0.5
_FAST, _SLOW = 3_600, 86_400
_RUNS = 9


def fleet(models: int, vectors: int, fitted: bytes, sample: np.ndarray) -> Models:
    """Build models whose slow windows hold ``vectors`` vectors each, and the fast ones half."""
    fast, slow = (WindowSettings(seconds=each, max_vectors=vectors) for each in (_FAST, _SLOW))
    settings = MonitoringSettings(windows=WindowsSettings(fast=fast, slow=slow))
    now = datetime.now(UTC)
    fleet = Models(monotonic=lambda: 0.0)
    fleet.set_clock(now.timestamp())
    times = now.timestamp() - _FAST * np.linspace(2, 0, vectors)
    quality = assess(sample[:1_000])
    for number in range(models):
        detector = Detector.from_bytes(fitted)
        model = Model(ModelRow(f"model-{number}", DIMENSION, vectors, now, None, 1, now), settings)
        windows = ModelWindows(DIMENSION, settings, detector)
        windows.append(Arrivals.numbered(np.roll(sample[:vectors], number, axis=0), times))
        model.adopt(Baseline(1, now, 0, now, now, False, "bench", quality, detector), windows)
        fleet.add(model)
    return fleet


def change_every_window(models: Models) -> None:
    """Mark every window as changed, so that the next scrape computes everything."""
    for model in models.by_name.values():
        for _, window in model.windows.views.values():
            window.generation += 1


def poll(models: Models) -> None:
    """Note that each model was followed, and nothing was new."""
    now = datetime.now(UTC)
    for model in models.by_name.values():
        model.row = replace(model.row, now=now)
        model.ledger.following = Following(now.timestamp())


def median_cpu_seconds(work: Callable[[], object], before: Callable[[], object]) -> float:
    """Return the median processor time of some runs, after a first run that does not count."""
    times = []
    for _ in range(1 + _RUNS):
        before()
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times[1:])


def main(quick: bool) -> None:
    """Measure and print."""
    models, largest = (10, 2_000) if quick else (100, 10_000)
    random = np.random.default_rng(0)
    mixing = random.normal(size=(64, DIMENSION))
    sample = random.normal(size=(5 * largest, 64)) @ mixing
    sample = (sample + random.normal(size=sample.shape)).astype(np.float32)
    fitted = Detector.fit(sample).to_bytes()
    encode, content_type = choose_encoder("")
    form = Format(content_type, encode)
    rows = []
    for vectors in (largest // 10, largest):
        registry = CollectorRegistry()
        built = fleet(models, vectors, fitted, sample)

        def snapshot(deadline: float, built: Models = built) -> Snapshot:
            return Snapshot(tuple(built.snapshots(deadline)), PollStatus(True, 0.0, 0.0, 0))

        collector = DriftCollector(snapshot)
        registry.register(collector)
        scrape = partial(write, registry, form)
        seconds = median_cpu_seconds(scrape, partial(change_every_window, built))
        unchanged = median_cpu_seconds(scrape, partial(poll, built))
        collected = Families(*collector.collect())
        rendering = median_cpu_seconds(partial(encode, collected), partial(poll, built))
        page = scrape()
        rows.append(
            (
                models,
                vectors,
                round(seconds, 3),
                round(seconds / LIMIT_SECONDS, 2),
                round(unchanged, 4),
                round(rendering, 3),
                page.count(b"{"),
                round(len(page) / 1e6, 2),
            )
        )
    head = (
        "models",
        "window",
        "seconds",
        "of the limit",
        "unchanged",
        "rendering alone",
        "samples",
        "MB",
    )
    title = f"Scrape: compute and render every statistic of two windows x {DIMENSION}"
    report("scrape", "scrape", title, head, rows, quick)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    raw = models * largest * DIMENSION * 4 / 2**20
    print(f"\npeak memory {peak:,.0f} MiB, of which raw vectors {raw:,.0f} MiB")


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
