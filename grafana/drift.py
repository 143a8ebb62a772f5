"""Panels that the fleet and the model dashboard share."""

from __future__ import annotations

from exporter.metrics import families as f
from grafana.panel import THRESHOLD, Panel
from grafana.query import RATE, Query, Scope, legend
from ingest.runtime.settings.settings import WindowsSettings


def score(scope: Scope, *by: str, link: str | None = None) -> Panel:
    """Draw the score with the thresholds of its alert."""
    return Panel(
        "Score",
        (
            scope.maximum(f.SCORE, *by),
            *(
                _threshold(
                    scope,
                    f"model_window:embedding_drift_score_{name}:threshold",
                    f"{window}, {name}",
                    by,
                    window=f'="{window}"',
                )
                for name in ("sudden", "lasting")
                for window in WindowsSettings.model_fields
            ),
        ),
        note="Dashed: the thresholds of each window. The alert fires if the score exceeds the "
        "sudden one for two minutes, or if its average of an hour exceeds the lasting one. It also "
        "fires if the slow window rises over the week before.",
        link=link,
    )


def rise(scope: Scope, *by: str) -> Panel:
    """Draw how much higher the score is than a week before, with the threshold of its alert."""
    return Panel(
        "Rise of the score over the week before",
        (
            scope.maximum(f.SCORE_RISE, *by),
            _threshold(scope, "model_window:embedding_drift_score_rise:threshold", "rise", by),
        ),
        note="Average of 8 hours, less that of the last week without drift. Empty in the first "
        "week of a baseline.",
    )


def magnitude(scope: Scope, *by: str, link: str | None = None) -> Panel:
    """Draw the magnitude with the thresholds of its alerts."""
    threshold = "model:embedding_drift_magnitude_{}:threshold"
    return Panel(
        "Magnitude",
        (
            scope.maximum(f.MAGNITUDE, *by),
            _threshold(scope, threshold.format("warning"), "warning", by),
            _threshold(scope, threshold.format("critical"), "critical", by),
        ),
        note="Dashed: the thresholds for a warning and for critical. They only count while drift "
        "is detected.",
        unit="percentunit",
        link=link,
    )


def anomaly(scope: Scope, *by: str, link: str | None = None) -> Panel:
    """Draw how far the last hour is from the forecast."""
    return Panel("Seasonal anomaly", (scope.maximum(f.SEASONAL_ANOMALY, *by),), link=link)


def volume(scope: Scope, *by: str, link: str | None = None) -> Panel:
    """Draw the rate of stored vectors; every replica of the exporter counts all of them."""
    expr = f"max by (model_name) (rate({scope.select(f.VECTORS)}{RATE}))"
    query = Query(expr, legend(by) or "vectors", f.VECTORS)
    return Panel(
        "Vectors stored per second", (query,), unit="cps", note="Drawn as a rate.", link=link
    )


def pins(scope: Scope) -> str:
    """Return PromQL of when each baseline was pinned, in ms, by model, version and stage.

    Each process is matched with itself: while the processes change to a new baseline, they have
    different versions.
    """
    process = "job, instance, model_name"
    versions = f'count_values by ({process}) ("version", {scope.select(f.BASELINE_VERSION)})'
    return (
        "max by (model_name, version, stage) ("
        f"1000 * {scope.select(f.BASELINE_TIMESTAMP)}"
        f" * on ({process}) group_right () {versions}"
        f" * on ({process}) group_left (stage) ({scope.select(f.BASELINE_STAGE)} == 1))"
    )


def _threshold(scope: Scope, name: str, when: str, by: tuple[str, ...], **others: str) -> Query:
    model = legend(tuple(label for label in by if label == "model_name"))
    return scope.recorded(name, f"{THRESHOLD}{when} {model}".strip(), **others)


def versions(scope: Scope) -> str:
    """Return PromQL of a version of the encoder that has just become the usual one, by model.

    It is known where `model_version` is a slice: it has more than half of the slow window, five
    minutes after another one had.
    """
    share = scope.select(f.SLICE_RATIO, slice='="model_version"')
    now, before = (
        f"max by (model_name, value) ({share}{past}) > 0.5" for past in ("", " offset 5m")
    )
    return f"({now}) unless ({before}) and on (model_name) ({before})"
