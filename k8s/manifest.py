"""Kubernetes objects, and how they are read and written as YAML."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

Manifest = dict[str, Any]


class _Loader(yaml.CSafeLoader):
    """Reads a bare `=`, which Go programs write, as the text it is."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


class _Dumper(yaml.SafeDumper):
    """Writes shared values in full, because some tools do not read YAML anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def load(text: str) -> list[Manifest]:
    """Read a YAML stream; empty documents are left out."""
    return [found for found in yaml.load_all(text, _Loader) if found is not None]


def dump(documents: Iterable[Any]) -> str:
    """Write a YAML stream, with block style for texts of several lines."""
    return "# Written by `make manifests`.\n" + yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True
    )
