"""The collector: a snapshot goes in, metric families come out; no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import Metric
from prometheus_client.registry import Collector

from exporter.metrics.families import FAMILIES
from exporter.monitor.snapshot import Snapshot
from ingest.runtime.family import Family
from ingest.runtime.http.exposition import deadline


class DriftCollector(Collector):
    """Exposes all families, computed from running sums at each scrape.

    Parameters
    ----------
    snapshot : callable
        Judges all models; takes the deadline, by ``time.monotonic``.
    """

    def __init__(self, snapshot: Callable[[float], Snapshot]) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterator[Metric]:
        """Name the families without computing them."""
        return map(_metric, FAMILIES)

    def collect(self) -> Iterator[Metric]:
        """Yield all families that have samples now."""
        snapshot = self._snapshot(deadline.get())
        for family in FAMILIES:
            metric = _metric(family)
            for labels, value in family.read(snapshot):
                named = zip(family.labels, labels, strict=True)
                # To Prometheus, an empty label is an absent one.
                present = {name: label for name, label in named if label}
                metric.add_sample(family.name, present, value)
            if metric.samples:
                yield metric


def _metric(family: Family) -> Metric:
    # prometheus_client adds "_total" to the samples of a counter itself.
    name = family.name.removesuffix("_total") if family.type == "counter" else family.name
    return Metric(name, family.help, family.type)
