"""The model dashboard: what moved, since when, and how certain that is."""

from __future__ import annotations

from dataclasses import replace

from exporter.metrics import families as f
from grafana import drift
from grafana.dashboard import MODEL_UID, Dashboard, Section, model, processes, text, url, values
from grafana.panel import THRESHOLD, Override, Panel
from grafana.query import Query, Scope
from ingest.runtime.settings.settings import AlertingSettings, WindowsSettings
from ingest.runtime.thresholds import CANARY

_ALERTS = 'model_name="$model_name"'
_model = Scope({"model_name": '="$model_name"'})
_scope = Scope({**_model.matchers, "window": '=~"$window"'})
_with_baseline = Scope({**_model.matchers, "window": '=~"$window|baseline"'})


def _named(query: Query, name: str) -> Query:
    return replace(query, legend=f"{{{{window}}}} {name}")


def _band(window: str) -> Override:
    """Fill the area between the upper and the lower limit of a window."""
    return {
        "matcher": {"id": "byName", "options": f"{window} upper"},
        "properties": [
            {"id": "custom.fillBelowTo", "value": f"{window} lower"},
            {"id": "custom.fillOpacity", "value": 10},
            {"id": "custom.lineWidth", "value": 0},
        ],
    }


_bands = tuple(_band(window) for window in WindowsSettings.model_fields)
_similarity = Panel(
    "Cosine similarity",
    (
        _scope.maximum(f.COSINE_SIMILARITY, "window"),
        _named(_scope.maximum(f.COSINE_SIMILARITY_EXPECTED, "window"), "expected"),
        _named(_scope.maximum(f.COSINE_SIMILARITY_LOWER, "window"), "lower"),
        _named(_scope.maximum(f.COSINE_SIMILARITY_UPPER, "window"), "upper"),
        replace(_scope.maximum(f.BASELINE_COSINE_SIMILARITY), legend="baseline"),
    ),
    overrides=_bands,
)
_magnitude = drift.magnitude(_scope, "window")
_drift = Section(
    "Drift",
    (
        drift.score(_scope, "window"),
        replace(
            _magnitude,
            queries=(
                *_magnitude.queries,
                _named(_scope.maximum(f.MAGNITUDE_LOWER, "window"), "lower"),
                _named(_scope.maximum(f.MAGNITUDE_UPPER, "window"), "upper"),
            ),
            overrides=_bands,
        ),
        Panel(
            "Cause",
            (
                Query(
                    f"max by (window, cause) ({_scope.select(f.CAUSE)}) == 1",
                    "{{window}}: {{cause}}",
                    f.CAUSE,
                ),
            ),
            "state-timeline",
            unit="bool_yes_no",
        ),
        Panel("Groups that grew", (_scope.maximum(f.GROUP_RATIO, "window", "rank"),)),
        Panel(
            "What changed, in words",
            (replace(_scope.maximum(f.EXPLANATION_INFO, "window", "summary"), legend="now"),),
            "table",
            unit="none",
        ),
        Panel(
            "Age of the explanation",
            (_scope.age(f.EXPLANATION_TIMESTAMP, "window"),),
        ),
        Panel(
            "Components of the score", (_scope.maximum(f.COMPONENT_SCORE, "window", "component"),)
        ),
        Panel(
            "State",
            (
                Query(
                    f"max by (window, state) ({_scope.select(f.STATE)}) == 1",
                    "{{window}}: {{state}}",
                    f.STATE,
                ),
            ),
            "state-timeline",
            unit="bool_yes_no",
        ),
        Panel(
            "Canaries",
            (
                _scope.maximum(f.CANARY_DISTANCE, "aggregate"),
                *(
                    _scope.recorded(
                        "fleet:embedding_drift_canary_distance:threshold",
                        f"{THRESHOLD}{aggregate}, {severity}",
                        aggregate=f'="{aggregate}"',
                        severity=f'="{severity}"',
                    )
                    for aggregate, severity in CANARY
                ),
            ),
            note="Dashed: the thresholds of the alerts. Above the critical one, a changed encoder "
            "explains drift.",
        ),
        Panel(
            "Age of the newest canaries",
            (
                replace(_scope.age(f.CANARY_TIMESTAMP), legend="age"),
                replace(_scope.maximum(f.CANARY_GAP), legend="longest gap"),
            ),
        ),
        Panel("Kolmogorov-Smirnov", (_scope.maximum(f.KS_STATISTIC, "window", "aggregate"),)),
        Panel("Wasserstein-1", (_scope.maximum(f.WASSERSTEIN_DISTANCE, "window", "aggregate"),)),
        Panel(
            "Dimensions that moved furthest",
            (_scope.maximum(f.TOP_DIMENSION_WASSERSTEIN, "window", "dimension"),),
        ),
        drift.rise(_scope, "window"),
    ),
)
_slices = Section(
    "Slices",
    (
        Panel(
            "Score of slices",
            (_scope.maximum(f.SCORE, "window", "slice", slice='!=""'),),
            note="Each value of the metadata by which the model is watched (monitoring.slices).",
        ),
        Panel(
            "Magnitude of slices",
            (_scope.maximum(f.MAGNITUDE, "window", "slice", slice='!=""'),),
            unit="percentunit",
        ),
        Panel(
            "Share of each value",
            (
                _model.maximum(f.SLICE_RATIO, "slice", "value"),
                replace(
                    _model.maximum(f.SLICE_BASELINE_RATIO, "slice", "value"),
                    legend="{{slice}} {{value}} in the baseline",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            "Values without a series of their own",
            (replace(_model.maximum(f.SLICES_FOLDED), legend="values"),),
            note="Values with enough vectors in the baseline, beyond the cap of a model.",
        ),
    ),
)
_past = Section(
    "Cosine similarity and its forecast",
    (
        replace(_similarity, width=24),
        drift.anomaly(_scope, "window"),
        Panel("Trend score", (_scope.maximum(f.COSINE_SIMILARITY_TREND_SCORE, "window"),)),
        Panel("Trend per day", (_scope.maximum(f.COSINE_SIMILARITY_SLOPE, "window"),), width=8),
        Panel(
            "Time since the newest step",
            (_scope.age(f.COSINE_SIMILARITY_CHANGE_TIMESTAMP, "window"),),
            "stat",
            width=8,
        ),
        Panel(
            "Seasons in the history",
            (
                Query(
                    f"max by (window, state) ({_scope.select(f.HISTORY_STATE)}) == 1",
                    "{{window}}: {{state}}",
                    f.HISTORY_STATE,
                ),
            ),
            "state-timeline",
            unit="bool_yes_no",
            width=8,
        ),
    ),
)
_quality = Section(
    "Quality of the vectors",
    (
        Panel("Norm", (_with_baseline.maximum(f.NORM, "window"),)),
        Panel("Effective rank", (_with_baseline.maximum(f.EFFECTIVE_RANK, "window"),)),
        Panel("Dead dimensions", (_with_baseline.maximum(f.DEAD_DIMENSIONS, "window"),)),
        Panel("Duplicates", (_with_baseline.maximum(f.DUPLICATE_RATIO, "window"),)),
    ),
)
_vectors = Section(
    "Vectors and baseline",
    (
        drift.volume(_scope),
        Panel("Revisions in the window", (_scope.maximum(f.WINDOW_REVISIONS, "window"),)),
        Panel(
            "Cosine of revisions",
            (_scope.maximum(f.REVISION_COSINE, "window"),),
            note="Median cosine between new vectors and the earlier vectors of the same ids.",
        ),
        Panel("Vectors in the window", (_scope.maximum(f.WINDOW_VECTORS, "window"),)),
        Panel(
            "Share of its span in the window", (_scope.maximum(f.WINDOW_SAMPLED_RATIO, "window"),)
        ),
        Panel("Age of the oldest vector", (_scope.age(f.WINDOW_START_TIMESTAMP, "window"),)),
        Panel(
            "Vectors not followed",
            (
                replace(_scope.maximum(f.VECTORS_BEHIND), legend="behind"),
                _scope.maximum(f.NOT_FOLLOWED, "reason"),
            ),
        ),
        Panel("Age of complete windows", (_scope.age(f.FOLLOWED_TIMESTAMP),)),
        Panel(
            "Age of the newest vector",
            (
                replace(_scope.age(f.LAST_VECTOR_TIMESTAMP), legend="newest vector"),
                replace(
                    _scope.age(f.MISMATCH_TIMESTAMP, "dimensions"),
                    legend="refused: {{dimensions}} dimensions",
                ),
            ),
        ),
        *(
            Panel(title, (replace(query, legend=title),), "stat", unit=unit, width=4, height=4)
            for title, query, unit in (
                ("Dimensions", _scope.maximum(f.DIMENSIONS), None),
                ("Baseline", _scope.maximum(f.BASELINE_VERSION), None),
                ("Age of the baseline", _scope.age(f.BASELINE_TIMESTAMP), None),
                ("Vectors in the baseline", _scope.maximum(f.BASELINE_VECTORS), None),
            )
        ),
        Panel(
            "Stage of the baseline, and what the next one waits for",
            (
                _scope.maximum(f.BASELINE_STAGE, "stage"),
                replace(_scope.maximum(f.BASELINE_WAITS, "reason"), legend="waits: {{reason}}"),
            ),
            "state-timeline",
            unit="bool_yes_no",
        ),
    ),
)

MODEL = Dashboard(
    uid=MODEL_UID,
    title="Model",
    description="One model: its score, what moved, and the forecast from its history.",
    variables=(
        *processes(),
        model(),
        values("window", "window", _model.select(f.WINDOW_VECTORS), label="Window"),
        text("exporter_url", str(AlertingSettings().exporter_url).rstrip("/"), label="Exporter"),
    ),
    alerts=_ALERTS,
    pins=drift.pins(_model),
    versions=drift.versions(_model),
    sections=(_drift, _slices, _past, _quality, _vectors),
    links=(url("Drift report", "${exporter_url}/drift/${model_name:percentencode}"),),
)
