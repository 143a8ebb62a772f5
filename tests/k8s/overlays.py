"""Render the overlays and read their objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from k8s.__main__ import DEFAULT, FOLDER, kustomize
from k8s.manifest import Manifest, load

ROOT = FOLDER.parent
OWN = Path(__file__).parent

OVERLAYS = {file.parent.name: file.parent for file in FOLDER.glob("overlays/*/kustomization.yaml")}

Render = Callable[[str], list[Manifest]]


def objects(overlay: str) -> list[Manifest]:
    return load(kustomize(OVERLAYS[overlay]))


def rendered() -> list[Manifest]:
    """Return the objects of the committed default; needs no kubectl."""
    return load(DEFAULT.read_text())


def of_kind(found: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in found if manifest["kind"] in kinds]


def labels_of(manifest: Manifest) -> dict[str, str]:
    """Return the labels of the pods of a workload."""
    labels: dict[str, str] = manifest["spec"]["template"]["metadata"]["labels"]
    return labels


def halves(found: list[Manifest]) -> list[Manifest]:
    """Return the workloads that run the program."""
    workloads = of_kind(found, "Deployment", "StatefulSet")
    return [w for w in workloads if "app.kubernetes.io/component" in labels_of(w)]


def half_of(workload: Manifest) -> str:
    """Return the half that a workload runs."""
    return labels_of(workload)["app.kubernetes.io/component"]


def selects(selector: Manifest, workload: Manifest) -> bool:
    assert set(selector) <= {"matchLabels"}
    return bool(selector.get("matchLabels", {}).items() <= labels_of(workload).items())


def pods(value: Any) -> Iterator[dict[str, Any]]:
    """Find every pod specification, in any kind of object."""
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from pods(item)


def containers(value: Any) -> list[dict[str, Any]]:
    """Return the containers of every pod in the object, in the order in which they start."""
    return [c for pod in pods(value) for c in [*pod.get("initContainers", []), *pod["containers"]]]
