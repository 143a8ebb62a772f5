"""The thresholds of the alert rules as a file of the chart.

The rules of ``rules/`` are the same in every installation. Only these numbers come from the
configuration, so the chart evaluates this one file as a template.
"""

from __future__ import annotations

from typing import Any

from ingest.runtime.settings.settings import Settings
from rules.render import thresholds as rendered

_KEYS = {
    ("fleet:embedding_drift_baseline_vectors:threshold", None): "monitoring.baseline.vectors",
    ("fleet:embedding_drift_magnitude_warning:threshold", None): "monitoring.drift_threshold",
    ("fleet:embedding_drift_magnitude_critical:threshold", None): "alerting.alert_threshold",
    (
        "fleet:embedding_drift_escalation_seconds:threshold",
        "info",
    ): "alerting.escalation.info_after",
    (
        "fleet:embedding_drift_escalation_seconds:threshold",
        "warning",
    ): "alerting.escalation.warning_after",
}
"""Keys of the configuration by the series that they set, and its label ``severity``."""


def thresholds() -> dict[str, Any]:
    """Build the rule file; thresholds of the configuration are template expressions in it."""
    defaults = Settings()
    document = rendered(defaults)
    missing = set(_KEYS)
    for group in document["groups"]:
        for rule in group["rules"]:
            series = rule["record"], rule.get("labels", {}).get("severity")
            if series in _KEYS:
                missing.remove(series)
                rule["expr"] = f"vector({_expression(_KEYS[series], defaults)})"
    assert not missing, f"rules/render.py does not record {missing}"
    return document


def _expression(key: str, defaults: Settings) -> str:
    value: Any = defaults
    for name in key.split("."):
        value = getattr(value, name)
    path = " ".join(f'"{name}"' for name in key.split("."))
    return f"{{{{ dig {path} {value!r} .Values.config }}}}"
