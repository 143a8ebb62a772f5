"""Metric families of the ingest half, and the objects that update them."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ingest.runtime.family import Family

REQUESTS = Family(
    "embedding_drift_ingest_requests_total",
    "counter",
    "HTTP requests answered by the ingest endpoints, by route and status code.",
    ("route", "code"),
)
VECTORS = Family(
    "embedding_drift_ingest_vectors_total",
    "counter",
    "Vectors committed to the store.",
    ("model_name",),
)
DUPLICATES = Family(
    "embedding_drift_ingest_duplicates_total",
    "counter",
    "Vectors not stored because the newest vector of their id is the same, or their id is known"
    " and `ingest.ids` is `once`.",
    ("model_name",),
)
REVISIONS = Family(
    "embedding_drift_ingest_revisions_total",
    "counter",
    "Vectors committed to the store that revise an earlier vector of their id.",
    ("model_name",),
)
SAMPLED_OUT = Family(
    "embedding_drift_ingest_sampled_out_total",
    "counter",
    "Vectors accepted but not stored, because of ingest.sample_ratio.",
    ("model_name",),
)
REJECTED = Family(
    "embedding_drift_ingest_rejected_total",
    "counter",
    "Requests refused, as a whole or in part, and rows or messages of a watch, by route and reason"
    " (the name of the error).",
    ("route", "reason"),
)
SPANS = Family(
    "embedding_drift_ingest_spans_total",
    "counter",
    "Spans received at /v1/traces: stored with their vectors, acknowledged without_vectors, or"
    " rejected.",
    ("outcome",),
)
CLIENT_LOST = Family(
    "embedding_drift_client_lost_vectors_total",
    "counter",
    "Vectors that the Python clients report as lost: dropped, because their queue was full or"
    " closed, or failed, because they were invalid, refused or given up.",
    ("model_name", "reason"),
)
QUEUE = Family(
    "embedding_drift_ingest_queue_bytes",
    "gauge",
    "Bytes of the bodies of requests that have not been answered yet.",
)
COMMIT_DURATION = Family(
    "embedding_drift_ingest_commit_duration_seconds",
    "histogram",
    "Time of one group commit, from taking the waiting batches to the answer of PostgreSQL.",
)
COMMIT_VECTORS = Family(
    "embedding_drift_ingest_commit_vectors",
    "histogram",
    "Vectors stored by one group commit.",
)

WATCH_UP = Family(
    "embedding_drift_watch_up",
    "gauge",
    "Whether the last poll of the watched source read and stored its vectors (1) or failed (0).",
    ("model_name",),
)
WATCH_TIMESTAMP = Family(
    "embedding_drift_watch_poll_timestamp_seconds",
    "gauge",
    "Time of the last successful poll of the watched source.",
    ("model_name",),
)
WATCH_RESETS = Family(
    "embedding_drift_watch_resets_total",
    "counter",
    "Times that the watched table was found emptied, re-made, or with an older newest row that is "
    "not stored. Then its newest rows were read anew.",
    ("model_name",),
)

FAMILIES = (
    REQUESTS,
    VECTORS,
    DUPLICATES,
    REVISIONS,
    SAMPLED_OUT,
    REJECTED,
    SPANS,
    CLIENT_LOST,
    QUEUE,
    COMMIT_DURATION,
    COMMIT_VECTORS,
)
WATCH_FAMILIES = (WATCH_UP, WATCH_TIMESTAMP, WATCH_RESETS)


class IngestMetrics:
    """The metrics of ingest, registered in ``registry``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(family: Family) -> Counter:
            return Counter(family.name, family.help, family.labels, registry=registry)

        self.requests = counter(REQUESTS)
        self.vectors = counter(VECTORS)
        self.duplicates = counter(DUPLICATES)
        self.revisions = counter(REVISIONS)
        self.sampled_out = counter(SAMPLED_OUT)
        self.rejected = counter(REJECTED)
        self.spans = counter(SPANS)
        self.client_lost = counter(CLIENT_LOST)
        # Models that have counters of losses: to look them up takes long for each request.
        self._counted: set[str] = set()
        self.queue_bytes = Gauge(QUEUE.name, QUEUE.help, registry=registry)
        self.commit_duration = Histogram(
            COMMIT_DURATION.name,
            COMMIT_DURATION.help,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        self.commit_vectors = Histogram(
            COMMIT_VECTORS.name,
            COMMIT_VECTORS.help,
            buckets=(1, 3, 10, 30, 100, 300, 1000, 3000, 10000),
            registry=registry,
        )
        self._by_model = (
            self.vectors,
            self.duplicates,
            self.revisions,
            self.sampled_out,
            self.client_lost,
        )

    def add_losses(self, model_name: str, losses: Mapping[str, int]) -> None:
        """Add what a client lost of a model, by reason.

        This includes 0. Prometheus sees an increase only from a value that it has scraped before.
        """
        if any(losses.values()) or model_name not in self._counted:
            self._counted.add(model_name)
            for reason, vectors in losses.items():
                self.client_lost.labels(model_name, reason).inc(vectors)

    def models(self) -> set[str]:
        """Return the names of the models that have counters."""
        return {
            sample.labels["model_name"]
            for counter in self._by_model
            for family in counter.collect()
            for sample in family.samples
        }

    def forget(self, model_name: str) -> None:
        """Remove the counters of a model."""
        for counter in self._by_model:
            counter.remove_by_labels({"model_name": model_name})
        self._counted.discard(model_name)


class WatchMetrics:
    """The metrics of following a table, registered in ``registry``."""

    def __init__(self, registry: CollectorRegistry, model_name: str) -> None:
        def gauge(family: Family) -> Gauge:
            return Gauge(family.name, family.help, family.labels, registry=registry)

        self._model_name = model_name
        self.up = gauge(WATCH_UP).labels(model_name)
        self._timestamp = gauge(WATCH_TIMESTAMP)
        self.resets = Counter(
            WATCH_RESETS.name, WATCH_RESETS.help, WATCH_RESETS.labels, registry=registry
        ).labels(model_name)

    def succeeded(self) -> None:
        """Record a successful poll. Before the first one there is no timestamp."""
        self.up.set(1)
        self._timestamp.labels(self._model_name).set_to_current_time()
