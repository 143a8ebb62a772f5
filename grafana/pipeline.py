"""The pipeline dashboard: whether drift can be measured."""

from __future__ import annotations

from dataclasses import replace

from exporter.metrics import families as f
from grafana import drift
from grafana.dashboard import Dashboard, Section, models, processes
from grafana.panel import Panel
from grafana.query import RATE, Query, Scope
from ingest.pipeline import metrics as m
from ingest.runtime.http import lag, listener
from ingest.runtime.settings import reload

_scope = Scope({"model_name": '=~"$models"'})
_FAILED = _scope.select(m.REQUESTS, code='!~"2.."')
_ANSWERED = _scope.select(m.REQUESTS)
_NOT_OK = _scope.select(f.STATE, state='!="ok"')

_exporter = Section(
    "Exporter",
    (
        Panel("PostgreSQL reachable", (_scope.maximum(f.UP, "instance"),), unit="bool_yes_no"),
        Panel("Age of the last poll", (_scope.age(f.POLL_TIMESTAMP, "instance"),)),
        Panel("Duration of a poll", (_scope.maximum(f.POLL_DURATION, "instance"),)),
        Panel("Failed polls per second", (_scope.rate(f.POLL_FAILURES, "instance"),), unit="cps"),
        Panel(
            "Windows reloaded per second",
            (_scope.rate(f.STORE_REWINDS, "instance"),),
            unit="cps",
        ),
        Panel("Standbys of PostgreSQL", (_scope.maximum(f.STORE_STANDBYS, "replication"),)),
        Panel(
            "Age of the last check",
            (
                _scope.age(f.CHECK_TIMESTAMP, "instance"),
                Query(f"max ({_scope.select(f.CHECK_INTERVAL)})", "interval", f.CHECK_INTERVAL),
            ),
        ),
        Panel("Failed checks per second", (_scope.rate(f.CHECK_FAILURES, "instance"),), unit="cps"),
        Panel(
            "Examinations that succeed",
            (_scope.maximum(f.EXAMINATION_SUCCESS, "instance", "examination"),),
            unit="bool_yes_no",
        ),
        Panel(
            "Duration of examinations",
            (_scope.maximum(f.EXAMINATION_DURATION, "instance", "examination"),),
        ),
        Panel("Duration of a scrape", (_scope.maximum(f.COLLECT_DURATION, "instance"),)),
        Panel("Windows overdue", (_scope.maximum(f.COLLECT_OVERDUE, "instance"),)),
        Panel(
            "Versions",
            (
                Query(
                    f"count by (version) ({_scope.select(f.BUILD_INFO)})",
                    "{{version}}",
                    f.BUILD_INFO,
                ),
            ),
            note="Number of exporters (also `serve` and `watch`) per version.",
        ),
        Panel(
            "Shards",
            (
                Query(
                    f'count(count_values("shard", {_scope.select(f.SHARD_ORDINAL)}))',
                    "scraped",
                    f.SHARD_ORDINAL,
                ),
                replace(_scope.maximum(f.TOTAL_SHARDS), legend="configured"),
            ),
            note="The models of a shard that is not scraped are not measured.",
        ),
        Panel(
            "Last reload of the configuration succeeded",
            (_scope.maximum(reload.RELOAD_SUCCESSFUL, "instance"),),
            unit="bool_yes_no",
        ),
        Panel("Age of the configuration", (_scope.age(reload.RELOAD_TIMESTAMP, "instance"),)),
        Panel(
            "Windows that are not measured",
            (
                Query(
                    f"count by (state) (max by (model_name, window, state) ({_NOT_OK}) == 1)",
                    "{{state}}",
                    f.STATE,
                ),
            ),
        ),
    ),
)
_ingest = Section(
    "Ingest",
    (
        Panel("Requests per second", (_scope.rate(m.REQUESTS, "route", "code"),), unit="reqps"),
        Panel(
            "Failed requests",
            (
                Query(
                    f"sum(rate({_FAILED}{RATE})) / sum(rate({_ANSWERED}{RATE}))",
                    "failed",
                    m.REQUESTS,
                ),
            ),
            unit="percentunit",
            note="Share of the requests whose status is not 2xx.",
        ),
        Panel("Vectors committed per second", (_scope.rate(m.VECTORS, "model_name"),), unit="cps"),
        Panel("Rejections per second", (_scope.rate(m.REJECTED, "reason"),), unit="cps"),
        Panel("Spans per second", (_scope.rate(m.SPANS, "outcome"),), unit="cps"),
        Panel(
            "Vectors lost by clients per second",
            (_scope.rate(m.CLIENT_LOST, "model_name", "reason"),),
            unit="cps",
        ),
        Panel("Duplicates per second", (_scope.rate(m.DUPLICATES, "model_name"),), unit="cps"),
        Panel("Revisions per second", (_scope.rate(m.REVISIONS, "model_name"),), unit="cps"),
        Panel("Sampled out per second", (_scope.rate(m.SAMPLED_OUT, "model_name"),), unit="cps"),
        Panel("Bytes of unanswered requests", (_scope.maximum(m.QUEUE, "instance"),), unit="bytes"),
        Panel(
            "Connections closed for others, per second",
            (_scope.rate(listener.CLOSED, "reason"),),
            unit="cps",
        ),
        Panel(
            "Lag of the event loop",
            (_scope.quantile(0.5, lag.LAG), _scope.quantile(0.99, lag.LAG)),
            note="Median and 99th percentile. Every request waits that long.",
        ),
        Panel(
            "Duration of a commit",
            (_scope.quantile(0.5, m.COMMIT_DURATION), _scope.quantile(0.99, m.COMMIT_DURATION)),
            note="Median and 99th percentile.",
        ),
        Panel(
            "Vectors of a commit",
            (_scope.quantile(0.5, m.COMMIT_VECTORS), _scope.quantile(0.99, m.COMMIT_VECTORS)),
            note="Median and 99th percentile.",
        ),
    ),
)
_watch = Section(
    "Watched tables",
    (
        Panel("Table followed", (_scope.maximum(m.WATCH_UP, "model_name"),), unit="bool_yes_no"),
        Panel("Age of the last poll", (_scope.age(m.WATCH_TIMESTAMP, "model_name"),)),
        Panel(
            "Tables found emptied or re-made, per second",
            (_scope.rate(m.WATCH_RESETS, "model_name"),),
            unit="cps",
            width=24,
        ),
    ),
)
_models = Section(
    "Models",
    (
        Panel("Age of the newest vector", (_scope.age(f.LAST_VECTOR_TIMESTAMP, "model_name"),)),
        Panel("Age of the baseline", (_scope.age(f.BASELINE_TIMESTAMP, "model_name"),)),
        Panel("Models followed", (_scope.maximum(f.MODELS, "instance"),)),
        Panel("Models not judged", (_scope.maximum(f.MODELS_MISSING, "instance"),)),
    ),
)

PIPELINE = Dashboard(
    uid="embedding-drift-pipeline",
    title="Pipeline",
    description="Whether vectors arrive, are stored and are measured.",
    variables=(*processes(), models()),
    # The watchdog always fires, so it would cover the whole graph.
    alerts='area="pipeline", alertname!="EmbeddingDriftWatchdog"',
    pins=drift.pins(_scope),
    versions=drift.versions(_scope),
    sections=(_exporter, _ingest, _watch, _models),
)
