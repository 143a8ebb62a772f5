"""A scrape of 100 models with two windows each: its duration and its size.

The limit is 0.5 s. There are two peers. Rendering the same samples without computing them: no
collector of this library can be faster. Windows with a tenth of the vectors: they should cost the
same.
"""

from __future__ import annotations

import resource
import sys
from datetime import UTC, datetime
from functools import partial

import exporter  # noqa: F401  (one BLAS thread, before numpy)

# isort: split
import numpy as np
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

from bench.results import report
from bench.table import median_seconds
from exporter.detector.detector import Detector
from exporter.metrics.collector import DriftCollector
from exporter.monitor.baseline import Baseline
from exporter.monitor.model import Model, Models
from exporter.monitor.ring import Arrivals
from exporter.monitor.snapshot import PollStatus, Snapshot
from exporter.monitor.windows import ModelWindows
from exporter.stats.quality import assess
from ingest.runtime.settings.settings import (
    MonitoringSettings,
    WindowSettings,
    WindowsSettings,
)
from ingest.store.changes import ModelRow

DIMENSION = 768
LIMIT_SECONDS = 0.5


class Constant(Collector):
    """Returns families that were collected before."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        """Return them as they are."""
        return self._metrics


def fleet(models: int, vectors: int, detector: Detector, sample: np.ndarray) -> Models:
    """Build models whose two windows hold ``vectors`` vectors each."""
    limits = WindowSettings(seconds=86_400, max_vectors=vectors)
    settings = MonitoringSettings(windows=WindowsSettings(fast=limits, slow=limits))
    now = datetime.now(UTC)
    fleet = Models(monotonic=lambda: 0.0)
    fleet.set_clock(now.timestamp())
    times = np.full(vectors, now.timestamp())
    quality = assess(sample[:1_000])
    for number in range(models):
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


def main(quick: bool) -> None:
    """Measure and print."""
    models, largest = (10, 2_000) if quick else (100, 10_000)
    random = np.random.default_rng(0)
    mixing = random.normal(size=(64, DIMENSION))
    sample = random.normal(size=(5 * largest, 64)) @ mixing
    sample = (sample + random.normal(size=sample.shape)).astype(np.float32)
    detector = Detector.fit(sample)
    rows = []
    for vectors in (largest // 10, largest):
        registry = CollectorRegistry()
        built = fleet(models, vectors, detector, sample)

        def snapshot(deadline: float, built: Models = built) -> Snapshot:
            return Snapshot(tuple(built.snapshots(deadline)), PollStatus(True, 0.0, 0.0, 0))

        collector = DriftCollector(snapshot)
        registry.register(collector)

        def scrape(built: Models = built, registry: CollectorRegistry = registry) -> bytes:
            change_every_window(built)
            return generate_latest(registry)

        floor = CollectorRegistry()
        floor.register(Constant(list(collector.collect())))
        seconds = median_seconds(scrape, runs=5)
        rendering = median_seconds(partial(generate_latest, floor), runs=5)
        page = generate_latest(registry)
        rows.append(
            (
                models,
                vectors,
                round(seconds, 3),
                round(seconds / LIMIT_SECONDS, 2),
                round(rendering, 3),
                page.count(b"{"),
                round(len(page) / 1e6, 2),
            )
        )
    head = ("models", "window", "seconds", "of the limit", "rendering alone", "samples", "MB")
    title = f"Scrape: compute and render every statistic of two windows x {DIMENSION}"
    report("scrape", "scrape", title, head, rows, quick)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    raw = models * largest * DIMENSION * 4 / 2**20
    print(f"\npeak memory {peak:,.0f} MiB, of which raw vectors {raw:,.0f} MiB")


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
