"""A cluster accepts every object."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import kubernetes_validate
import pytest
from jsonschema import Draft202012Validator, ValidationError

from k8s.__main__ import FOLDER
from k8s.helm import render as render_chart
from k8s.manifest import Manifest
from tests.k8s.overlays import Render, of_kind
from tests.k8s.schema import definitions, validators

# The oldest version that README.md names, and the newest that kubernetes-validate knows.
KUBERNETES = ("1.30", "1.33")
MAXIMUM_ANNOTATION_BYTES = 256 * 1024


@pytest.fixture(scope="module")
def custom() -> dict[tuple[str, str], Draft202012Validator]:
    return validators(definitions())


def validate(manifest: Manifest, custom: dict[tuple[str, str], Draft202012Validator]) -> None:
    kind = manifest["apiVersion"], manifest["kind"]
    if kind in custom:
        custom[kind].validate(manifest)
    else:
        for version in KUBERNETES:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_every_object_is_valid(
    objects: list[Manifest], custom: dict[tuple[str, str], Draft202012Validator]
) -> None:
    for manifest in objects:
        validate(manifest, custom)


def test_an_ingress_and_the_route_of_a_gateway_are_valid(
    helm: str, tmp_path: Path, custom: dict[tuple[str, str], Draft202012Validator]
) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(
        "externalUrl: https://drift.example.org\n"
        "ingress: {enabled: true, className: nginx, tlsSecret: certificate}\n"
        "httpRoute: {enabled: true, parentRefs: [{name: gateway, namespace: gateways}]}\n"
    )
    found = of_kind(render_chart(values), "Ingress", "HTTPRoute")
    assert len(found) == 2
    for manifest in found:
        validate(manifest, custom)


@pytest.mark.parametrize("own", ["trial", "cnpg"])
def test_https_and_more_peers_are_valid(
    own: str, helm: str, tmp_path: Path, custom: dict[tuple[str, str], Draft202012Validator]
) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(
        "scheme: https\n"
        f"database: {{{own}: {{enabled: true}}}}\n"
        "serviceMonitor:\n"
        "  enabled: true\n"
        "  tlsConfig: {ca: {secret: {name: authority, key: ca.crt}}, serverName: exporter}\n"
        "  basicAuth: {username: {name: user, key: name}, password: {name: user, key: password}}\n"
        "networkPolicy:\n"
        "  databaseTo: [{ipBlock: {cidr: 192.0.2.10/32}}]\n"
        "  databasePorts: [5432, 6432]\n"
        "  databaseFrom: [{namespaceSelector: {matchLabels: {a: b}}}]\n"
    )
    for manifest in render_chart(values):
        validate(manifest, custom)


@pytest.mark.parametrize(
    ("overlay", "kind"),
    [("prod", "ServiceMonitor"), ("prod", "AlertmanagerConfig"), ("cnpg", "Cluster")],
)
def test_a_misspelt_field_of_a_custom_resource_is_rejected(
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


def test_the_oldest_kubernetes_is_the_one_that_is_documented() -> None:
    assert f"Needs Kubernetes {KUBERNETES[0]} or newer" in (FOLDER / "README.md").read_text()


def test_every_object_fits_into_the_annotation_of_kubectl_apply(
    objects: list[Manifest],
) -> None:
    for found in objects:
        assert len(json.dumps(found).encode()) < MAXIMUM_ANNOTATION_BYTES, found["metadata"]


def test_no_object_is_defined_twice(objects: list[Manifest]) -> None:
    names = [(found["kind"], found["metadata"]["name"]) for found in objects]
    assert len(names) == len(set(names))


def test_every_object_is_in_one_namespace(objects: list[Manifest]) -> None:
    # Not even the namespace is among them, because deleting it would delete secrets and volumes.
    assert {found["metadata"].get("namespace") for found in objects} == {"embedding-drift"}
