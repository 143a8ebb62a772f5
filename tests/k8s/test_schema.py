"""Every object is one that a cluster accepts."""

from __future__ import annotations

import copy

import kubernetes_validate
import pytest
from jsonschema import Draft202012Validator, ValidationError

from k8s.manifest import Manifest
from tests.k8s.overlays import OWN, Render, of_kind
from tests.k8s.schema import validators

KUBERNETES = "1.33"


@pytest.fixture(scope="module")
def custom() -> dict[tuple[str, str], Draft202012Validator]:
    return validators(OWN / "crds")


def validate(manifest: Manifest, custom: dict[tuple[str, str], Draft202012Validator]) -> None:
    kind = manifest["apiVersion"], manifest["kind"]
    if kind in custom:
        custom[kind].validate(manifest)
    else:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_every_object_is_valid(
    objects: list[Manifest], custom: dict[tuple[str, str], Draft202012Validator]
) -> None:
    for manifest in objects:
        validate(manifest, custom)


@pytest.mark.parametrize(
    ("overlay", "kind"),
    [("prod", "ServiceMonitor"), ("prod", "AlertmanagerConfig"), ("cnpg", "Cluster")],
)
def test_a_misspelt_field_of_a_custom_resource_is_refused(
    overlay: str,
    kind: str,
    render: Render,
    custom: dict[tuple[str, str], Draft202012Validator],
) -> None:
    [manifest] = of_kind(render(overlay), kind)
    wrong = copy.deepcopy(manifest)
    wrong["spec"]["misspelt"] = "value"
    with pytest.raises(ValidationError, match="misspelt"):
        validate(wrong, custom)


def test_no_object_is_there_twice(objects: list[Manifest]) -> None:
    names = [(found["kind"], found["metadata"]["name"]) for found in objects]
    assert len(names) == len(set(names))


def test_everything_lies_in_one_namespace(objects: list[Manifest]) -> None:
    namespaces = {
        found["metadata"].get("namespace") for found in objects if found["kind"] != "Namespace"
    }
    assert namespaces == {"embedding-drift"}
