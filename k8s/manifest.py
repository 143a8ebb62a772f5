"""One Kubernetes object, and how it is written as YAML."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

Manifest = dict[str, Any]

NAMESPACE = "embedding-drift"


class _Dumper(yaml.SafeDumper):
    """Writes shared values in full, because some tools do not read YAML anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def dump(manifests: Iterable[Manifest]) -> str:
    """Write the manifests as one YAML stream, with block style for texts of several lines."""
    return "# Written by `make manifests`.\n" + yaml.dump_all(
        manifests, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True
    )


def manifest(api_version: str, kind: str, name: str, spec: dict[str, Any]) -> Manifest:
    """Build an object in the namespace of the monitor."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }
