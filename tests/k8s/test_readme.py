"""The overlays in README.md can be built."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingest.runtime.settings.settings import keys
from k8s.__main__ import FOLDER, kustomize
from k8s.manifest import Manifest
from tests.k8s.overlays import Loader, containers, half_of, halves, of_kind, pods

BLOCK = re.compile(r"```yaml\n(# kustomization\.yaml\n.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def shown() -> list[dict[str, Any]]:
    return [yaml.safe_load(block) for block in BLOCK.findall((FOLDER / "README.md").read_text())]


def build(overlay: dict[str, Any], folder: Path) -> list[Manifest]:
    """Build an overlay beside k8s/."""
    (folder / "k8s").symlink_to(FOLDER)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return list(yaml.load_all(kustomize(folder), Loader))


@pytest.mark.usefixtures("kubectl")
def test_an_image_from_a_registry_and_a_database_by_cloudnativepg(
    shown: list[dict[str, Any]], tmp_path: Path
) -> None:
    own, *_ = shown
    objects = build(own, tmp_path)
    images = {c["image"].split(":")[0] for half in halves(objects) for c in containers(half)}
    assert images == {own["images"][0]["newName"]}
    assert of_kind(objects, "Cluster")


@pytest.mark.usefixtures("kubectl")
def test_a_database_at_a_known_address(shown: list[dict[str, Any]], tmp_path: Path) -> None:
    _, limited, _ = shown
    policies = of_kind(build(limited, tmp_path), "NetworkPolicy")
    [egress] = [found["spec"]["egress"] for found in policies if "egress" in found["spec"]]
    assert egress[1]["to"] == [{"ipBlock": {"cidr": "192.0.2.10/32"}}]


@pytest.mark.usefixtures("kubectl")
@pytest.mark.parametrize("overlay", ["default", "sharded"])
def test_an_exporter_that_reads_from_a_replica(
    overlay: str, shown: list[dict[str, Any]], tmp_path: Path
) -> None:
    *_, replica = shown
    objects = build(replica | {"resources": [f"k8s/overlays/{overlay}"]}, tmp_path)
    [exporter] = [half for half in halves(objects) if half_of(half) == "exporter"]
    [container], [pod] = containers(exporter), pods(exporter)
    file = Path(container["env"][-1]["value"])
    [mount] = [m for m in container["volumeMounts"] if m["mountPath"] == str(file.parent)]
    [volume] = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
    assert container["env"][-1]["name"] in {f"{key.variable}_FILE" for key in keys()}
    secret = volume["secret"]["secretName"]
    made = rf"secret generic {secret} .*\n *--from-file={file.name}="
    assert re.search(made, (FOLDER / "README.md").read_text())
