"""PrometheusRule: one object per rendered rule file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ingest.runtime.settings.settings import Settings
from k8s.manifest import NAMESPACE, Manifest, manifest
from rules.render import render


def prometheus_rules(settings: Settings) -> Iterator[Manifest]:
    """Yield a PrometheusRule for each rule file, rendered with these settings."""
    with tempfile.TemporaryDirectory() as folder:
        for file in sorted(render(settings, Path(folder))):
            if file.name.endswith(".rules.yaml"):
                groups = yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
                spec = {"groups": [_labelled(group) for group in groups]}
                name = f"embedding-drift-{file.name.removesuffix('.rules.yaml')}"
                yield manifest("monitoring.coreos.com/v1", "PrometheusRule", name, spec)


def _labelled(group: dict[str, Any]) -> dict[str, Any]:
    """Add the namespace to the alerts, because the operator routes alerts by this label."""
    rules = [
        rule | {"labels": rule["labels"] | {"namespace": NAMESPACE}} if "alert" in rule else rule
        for rule in group["rules"]
    ]
    return group | {"rules": rules}
