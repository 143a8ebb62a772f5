"""The values of the chart: their schema and their table follow from ``values.yaml``.

A comment above a key describes it. The type of a value is that of its default. A map with keys is
strict: Helm rejects another key. An empty map, and a map that Kubernetes defines, takes any key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from ingest.runtime.settings.settings import Settings
from k8s.helm import CHART

_OF_KUBERNETES = {"requests", "limits", "podSecurityContext", "securityContext", "parameters"}
_OF_SIDECAR = {"dashboards.labels", "dashboards.annotations"}
# A policy without ports would allow every one.
_PORTS = {"minItems": 1, "items": {"type": "integer", "minimum": 1, "maximum": 65_535}}
_NARROWER: dict[str, dict[str, Any]] = {
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "image.digest": {"pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.tag": {"pattern": "^[A-Za-z0-9._-]*$"},
    "externalUrl": {"pattern": "^(https?://[^/]+/?)?$"},
    "exporter.shards": {"minimum": 1},
    "exporter.replicas": {"minimum": 0},
    "ingest.replicas": {"minimum": 0},
    "autoscaling.minReplicas": {"minimum": 1},
    "autoscaling.maxReplicas": {"minimum": 1},
    "autoscaling.averageCpu": {"type": ["string", "number"]},
    "database.cnpg.instances": {"minimum": 1},
    "database.cnpg.parameters": {"additionalProperties": {"type": ["string", "number", "boolean"]}},
    "networkPolicy.dnsPorts": _PORTS,
    "networkPolicy.databasePorts": _PORTS,
    "scheme": {"enum": ["http", "https"]},
    "extraManifests": {"items": {"type": ["object", "string"]}},
}
_TYPES = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}

_KEY = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z]+):(?P<value>.*)")


class Value(NamedTuple):
    """One value: its dotted key, its default, and what its comment says."""

    key: str
    default: Any
    description: str


def schema() -> dict[str, Any]:
    """Build ``values.schema.json``; the schema of ``config`` is that of the program's settings."""
    config = Settings.model_json_schema(ref_template="#/$defs/{model}")
    definitions = config.pop("$defs")
    found = _schema(_defaults(), ())
    found["properties"]["config"] = config
    # Helm passes values of a parent chart, and its own.
    found["properties"]["global"] = {"type": "object"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Values of the chart embedding-drift",
        **found,
        "$defs": definitions,
    }


def table() -> str:
    """Build the table of the README."""
    rows = "\n".join(
        f"| `{value.key}` | `{_shown(value.default)}` | {value.description} |" for value in values()
    )
    return f"| value | default | meaning |\n|---|---|---|\n{rows}\n"


def values() -> Iterator[Value]:
    """Yield the values that have a comment, in the order of ``values.yaml``."""
    parents: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in (CHART / "values.yaml").read_text(encoding="utf-8").splitlines():
        found = _KEY.fullmatch(line)
        if line.lstrip().startswith("# "):
            comment.append(line.strip().removeprefix("# "))
        elif found is not None:
            indent = len(found["indent"])
            parents = [parent for parent in parents if parent[0] < indent]
            parents.append((indent, found["key"]))
            path = [name for _, name in parents]
            if comment:
                yield Value(".".join(path), _at(_defaults(), path), " ".join(comment))
            comment = []


def _defaults() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return found


def _at(value: Any, path: list[str]) -> Any:
    for key in path:
        value = value[key]
    return value


def _schema(value: Any, path: tuple[str, ...]) -> dict[str, Any]:
    dotted = ".".join(path)
    found: dict[str, Any] = {"type": _TYPES[type(value)]} | _NARROWER.get(dotted, {})
    is_open = bool({*path} & _OF_KUBERNETES) or dotted in _OF_SIDECAR
    if isinstance(value, dict) and value and not is_open:
        found["additionalProperties"] = False
        found["properties"] = {key: _schema(item, (*path, key)) for key, item in value.items()}
    return found


def _shown(value: Any) -> str:
    if value == "":
        return '""'
    if isinstance(value, bool | dict | list):
        text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
        return text.removesuffix("\n").removesuffix("\n...")
    return str(value)
