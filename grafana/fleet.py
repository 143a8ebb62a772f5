"""The fleet dashboard: which models drift."""

from __future__ import annotations

from dataclasses import replace

from exporter.metrics import families as f
from grafana import drift
from grafana.dashboard import (
    MODEL_UID,
    Dashboard,
    Section,
    firing,
    models,
    processes,
    values,
)
from grafana.panel import Panel
from grafana.query import Query, Scope

_LINK = f"/d/{MODEL_UID}?${{datasource:queryparam}}&${{__url_time_range}}&var-model_name="
_FROM_SERIES = _LINK + "${__field.labels.model_name:percentencode}"
_FROM_ROW = _LINK + "${__data.fields.model_name:percentencode}"

_WINDOW = ("model_name", "window")
_models = Scope({"model_name": '=~"$models"'})
_scope = Scope({**_models.matchers, "window": '=~"$window"'})
_SHARE = {
    "matcher": {"id": "byName", "options": "Magnitude"},
    "properties": [{"id": "unit", "value": "percentunit"}],
}
_ALERTS = 'model_name=~"$models"'
_STATES = f"max by (model_name, window, state) ({_scope.select(f.STATE)})"

_now = Section(
    "Now",
    (
        Panel(
            "Models",
            (Query(f"count(group by (model_name) ({_scope.select(f.DIMENSIONS)}))", "models"),),
            "stat",
            unit="none",
            note="Number of models in all shards.",
            width=4,
        ),
        Panel(
            "Firing alerts",
            (Query(f"count({firing(_ALERTS)}) or vector(0)", "alerts"),),
            "stat",
            unit="none",
            note="Firing alerts of the chosen models.",
            width=4,
        ),
        Panel(
            "Highest scores",
            (
                replace(_scope.maximum(f.SCORE, *_WINDOW), legend="Score"),
                replace(_scope.maximum(f.MAGNITUDE, *_WINDOW), legend="Magnitude"),
            ),
            "table",
            width=16,
            link=_FROM_ROW,
            overrides=(_SHARE,),
        ),
    ),
)
_drift = Section(
    "Drift",
    (
        drift.score(_scope, *_WINDOW, link=_FROM_SERIES),
        drift.magnitude(_scope, *_WINDOW, link=_FROM_SERIES),
        drift.anomaly(_scope, *_WINDOW, link=_FROM_SERIES),
        Panel(
            "Windows by state",
            (Query(f"count by (state) ({_STATES} == 1)", "{{state}}", f.STATE),),
        ),
    ),
)
_vectors = Section(
    "Vectors",
    (
        replace(drift.volume(_scope, "model_name", link=_FROM_SERIES), width=8),
        Panel(
            "Age of the newest vector",
            (_scope.age(f.LAST_VECTOR_TIMESTAMP, "model_name"),),
            width=8,
            link=_FROM_SERIES,
        ),
        Panel(
            "Age of the baseline",
            (_scope.age(f.BASELINE_TIMESTAMP, "model_name"),),
            width=8,
            link=_FROM_SERIES,
        ),
    ),
)

FLEET = Dashboard(
    uid="embedding-drift-fleet",
    title="Fleet",
    description="All models: which of them drift, how far, and which cannot be measured.",
    variables=(
        *processes(),
        models(),
        values("window", "window", _models.select(f.WINDOW_VECTORS), label="Window"),
    ),
    alerts=_ALERTS,
    pins=drift.pins(_models),
    versions=drift.versions(_models),
    sections=(_now, _drift, _vectors),
)
