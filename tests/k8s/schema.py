"""Strict schemas of custom resources: an unknown field is an error."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from k8s.helm import tool
from k8s.manifest import load
from tests.k8s.overlays import OWN
from tests.programs import missing


def definitions() -> list[Path]:
    """Return the files that define custom resources. That of a gateway's routes is a large one."""
    routes = tool("httproutes", "gateway")
    if not routes.exists():
        missing(f"{routes.name} is not in the cache; make tools-kubernetes")
    return [*sorted((OWN / "crds").glob("*.yaml")), routes]


def validators(files: Iterable[Path]) -> dict[tuple[str, str], Draft202012Validator]:
    """Return a validator for each apiVersion and kind that definitions serve."""
    found = {}
    for file in files:
        [spec] = [found["spec"] for found in load(file.read_text())]
        for version in spec["versions"]:
            schema = _strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
            found[key] = Draft202012Validator(schema)
    return found


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _strict(value) for key, value in schema.items()}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields", False)
    if (
        isinstance(schema.get("properties"), dict)
        and schema.get("type") == "object"
        and not is_open
    ):
        schema.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        schema["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    return schema
