"""PrometheusRule: the rendered rule files, one object each."""

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
    """Give a PrometheusRule for each rule file that these settings render."""
    with tempfile.TemporaryDirectory() as folder:
        for file in sorted(render(settings, Path(folder))):
            if file.name.endswith(".rules.yaml"):
                groups = yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
                spec = {"groups": [_labelled(group) for group in groups]}
                name = f"embedding-drift-{file.name.removesuffix('.rules.yaml')}"
                yield manifest("monitoring.coreos.com/v1", "PrometheusRule", name, spec)


def _labelled(group: dict[str, Any]) -> dict[str, Any]:
    """Label the alerts with our namespace: the operator routes to us only those that have it."""
    rules = [
        rule | {"labels": rule["labels"] | {"namespace": NAMESPACE}} if "alert" in rule else rule
        for rule in group["rules"]
    ]
    return group | {"rules": rules}
