"""The collector: what is in memory goes in, metric families come out; no I/O."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator

from prometheus_client import Metric
from prometheus_client.registry import Collector

from exporter.metrics import families
from exporter.monitor.examinations import CheckStatus
from exporter.monitor.forecast import History
from exporter.monitor.model import Model, Models
from exporter.monitor.tail import PollStatus
from exporter.monitor.verdict import Measurement, Verdict
from exporter.stats.quality import Quality
from ingest.runtime.family import Family
from ingest.runtime.http.exposition import deadline
from ingest.runtime.version import __version__
from ingest.store.changes import WHOLE, Shard


class DriftCollector(Collector):
    """Exposes the models' verdicts, computed from running sums at each scrape.

    Parameters
    ----------
    models : Models
    status : callable
        Gives the tail's present status.
    shard : Shard
        Which models they are.
    checked : callable
        Gives the check's present status.
    """

    def __init__(
        self,
        models: Models,
        status: Callable[[], PollStatus],
        shard: Shard = WHOLE,
        checked: Callable[[], CheckStatus] = CheckStatus,
    ) -> None:
        self._models = models
        self._status = status
        self._shard = shard
        self._checked = checked

    def describe(self) -> Iterator[Metric]:
        """Name the families without computing them."""
        return (Metric(_base_name(f), f.help, f.type) for f in families.FAMILIES)

    def collect(self) -> Iterator[Metric]:
        """Compute and expose all families that have samples now."""
        start = time.perf_counter()
        page = _Page()
        page.add_process(self._status(), len(self._models.by_name), self._shard)
        page.add_check(self._checked())
        for name, model in self._models.by_name.items():
            page.add_model(name, model)
        overdue = 0
        for name, window, verdict in self._models.verdicts(deadline.get()):
            page.add_verdict((name, window), verdict)
            overdue += verdict.is_overdue
        page.add(families.COLLECT_DURATION, time.perf_counter() - start)
        page.add(families.COLLECT_OVERDUE, overdue)
        return page.metrics()


def _base_name(family: Family) -> str:
    # prometheus_client adds "_total" to a counter's samples by itself.
    return family.name.removesuffix("_total") if family.type == "counter" else family.name


class _Page:
    """The samples of one scrape, gathered by family."""

    def __init__(self) -> None:
        self._samples: defaultdict[Family, list[tuple[tuple[str, ...], float]]] = defaultdict(list)

    def add(self, family: Family, value: float | None, *labels: str) -> None:
        """Add a sample; a value that is not known is absent, neither 0 nor NaN."""
        if value is not None:
            self._samples[family].append((labels, value))

    def metrics(self) -> Iterator[Metric]:
        for family in families.FAMILIES:
            if family in self._samples:
                metric = Metric(_base_name(family), family.help, family.type)
                for labels, value in self._samples[family]:
                    metric.add_sample(
                        family.name, dict(zip(family.labels, labels, strict=True)), value
                    )
                yield metric

    def add_process(self, status: PollStatus, models: int, shard: Shard) -> None:
        self.add(families.UP, float(status.up))
        self.add(families.BUILD_INFO, 1.0, __version__)
        self.add(families.POLL_TIMESTAMP, status.timestamp)
        self.add(families.POLL_DURATION, status.duration)
        self.add(families.POLL_FAILURES, status.failures)
        self.add(families.MODELS, models)
        self.add(families.SHARD_ORDINAL, shard.ordinal)
        self.add(families.TOTAL_SHARDS, shard.total)

    def add_check(self, status: CheckStatus) -> None:
        self.add(families.CHECK_TIMESTAMP, status.timestamp)
        self.add(families.CHECK_FAILURES, status.failures)

    def add_model(self, name: str, model: Model) -> None:
        row, standing = model.row, model.standing
        baseline = standing.baseline
        self.add(families.DIMENSIONS, row.dimension, name)
        self.add(families.VECTORS, row.last_seq, name)
        if row.last_received_at is not None:
            self.add(families.LAST_VECTOR_TIMESTAMP, row.last_received_at.timestamp(), name)
        if baseline is not None:
            detector = baseline.detector
            self.add(families.BASELINE_VERSION, baseline.version, name)
            self.add(families.BASELINE_VECTORS, detector.n_reference, name)
            self.add(families.BASELINE_TIMESTAMP, baseline.pinned_at.timestamp(), name)
            self.add(
                families.BASELINE_COSINE_SIMILARITY, detector.reference_cosine_similarity, name
            )
            self.add(families.BASELINE_SEASONAL, float(detector.seasonal), name)
            self._add_quality((name, "baseline"), baseline.quality)
        for window, quality in model.quality.items():
            self._add_quality((name, window), quality)
        for window, exact in standing.exact.items():
            for dimension, distance in zip(exact.dimension, exact.wasserstein, strict=True):
                self.add(families.TOP_DIMENSION_WASSERSTEIN, distance, name, window, str(dimension))
        for window, history in standing.history.items():
            self._add_history((name, window), history)

    def _add_history(self, labels: tuple[str, str], history: History) -> None:
        for state in families.HISTORY_STATES:
            self.add(families.HISTORY_STATE, float(state == history.state), *labels, state)
        self.add(families.COSINE_SIMILARITY_EXPECTED, history.expected, *labels)
        self.add(families.COSINE_SIMILARITY_LOWER, history.lower, *labels)
        self.add(families.COSINE_SIMILARITY_UPPER, history.upper, *labels)
        self.add(families.SEASONAL_ANOMALY, history.anomaly, *labels)
        self.add(families.COSINE_SIMILARITY_SLOPE, history.slope_per_day, *labels)
        self.add(families.COSINE_SIMILARITY_TREND_SCORE, history.trend_score, *labels)
        self.add(families.COSINE_SIMILARITY_CHANGE_TIMESTAMP, history.changed_at, *labels)

    def _add_quality(self, labels: tuple[str, str], quality: Quality) -> None:
        self.add(families.NORM, quality.norm, *labels)
        self.add(families.EFFECTIVE_RANK, quality.effective_rank, *labels)
        self.add(families.DEAD_DIMENSIONS, quality.dead_dimensions, *labels)
        self.add(families.DUPLICATE_RATIO, quality.duplicate_ratio, *labels)

    def add_verdict(self, labels: tuple[str, str], verdict: Verdict) -> None:
        for state in families.STATES:
            self.add(families.STATE, float(state == verdict.state), *labels, state)
        self.add(families.WINDOW_VECTORS, verdict.vectors, *labels)
        self.add(families.WINDOW_START_TIMESTAMP, verdict.start, *labels)
        if verdict.measurement is not None:
            self._add_measurement(labels, verdict.measurement)

    def _add_measurement(self, labels: tuple[str, str], measured: Measurement) -> None:
        self.add(families.SCORE, measured.score, *labels)
        self.add(families.MAGNITUDE, measured.magnitude, *labels)
        self.add(families.COSINE_SIMILARITY, measured.cosine_similarity, *labels)
        for component, score in measured.components.items():
            self.add(families.COMPONENT_SCORE, score, *labels, component)
        for aggregate in families.AGGREGATES:
            self.add(families.KS_STATISTIC, measured.ks[aggregate], *labels, aggregate)
            self.add(
                families.WASSERSTEIN_DISTANCE, measured.wasserstein[aggregate], *labels, aggregate
            )
