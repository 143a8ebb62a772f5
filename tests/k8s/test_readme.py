"""What README.md shows works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingest.runtime.settings.settings import keys
from k8s.__main__ import FOLDER, kustomize
from k8s.helm import render
from k8s.manifest import Manifest, load
from tests.k8s.overlays import containers, half_of, halves, of_kind, pods

README = (FOLDER / "README.md").read_text()


def shown(file: str) -> list[dict[str, Any]]:
    """Return the examples of a file, in order."""
    blocks = re.findall(rf"```yaml\n# {re.escape(file)}\n(.*?)```", README, re.DOTALL)
    return [yaml.safe_load(block) for block in blocks]


def build(values: dict[str, Any], folder: Path) -> list[Manifest]:
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    return render(folder / "values.yaml")


@pytest.mark.usefixtures("kubectl")
def test_an_image_from_a_registry(tmp_path: Path) -> None:
    [own] = shown("kustomization.yaml")
    (tmp_path / "k8s").symlink_to(FOLDER)
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(own))
    objects = load(kustomize(tmp_path))
    images = {c["image"].split(":")[0] for half in halves(objects) for c in containers(half)}
    assert images == {own["images"][0]["newName"]}


@pytest.mark.usefixtures("helm")
def test_an_address_for_people(tmp_path: Path) -> None:
    links, *_ = shown("values.yaml")
    objects = build(links, tmp_path)
    [ingress] = of_kind(objects, "Ingress")
    assert ingress["spec"]["rules"][0]["host"] in links["externalUrl"]
    peers = links["networkPolicy"]["exporterFrom"]
    policies = [
        rule["from"]
        for policy in of_kind(objects, "NetworkPolicy")
        if policy["metadata"]["name"].endswith("-exporter")
        for rule in policy["spec"]["ingress"]
    ]
    assert [peer for rule in policies for peer in rule if peer in peers] == peers


@pytest.mark.usefixtures("helm")
def test_a_database_and_a_dns_at_known_addresses(tmp_path: Path) -> None:
    _, limited, *_ = shown("values.yaml")
    policies = of_kind(build(limited, tmp_path), "NetworkPolicy")
    [egress] = [found["spec"]["egress"] for found in policies if "egress" in found["spec"]]
    names, database = egress
    assert names["to"] == limited["networkPolicy"]["dnsTo"]
    assert database["to"] == [{"ipBlock": {"cidr": "192.0.2.10/32"}}]
    assert [port["port"] for port in database["ports"]] == limited["networkPolicy"]["databasePorts"]


@pytest.mark.usefixtures("helm")
@pytest.mark.parametrize("own", ["trial", "cnpg"])
def test_a_database_beside_the_one_of_the_chart(own: str, tmp_path: Path) -> None:
    _, limited, *_ = shown("values.yaml")
    values = limited | {"database": {own: {"enabled": True}}}
    policies = of_kind(build(values, tmp_path), "NetworkPolicy")
    [egress] = [found["spec"]["egress"] for found in policies if found["spec"].get("egress")]
    _, of_chart, beside = egress
    [to] = of_chart["to"]
    assert "podSelector" in to
    assert of_chart["ports"] == [{"protocol": "TCP", "port": 5432}]
    assert beside["to"] == [{"ipBlock": {"cidr": "192.0.2.10/32"}}]


@pytest.mark.usefixtures("helm")
def test_https_with_a_certificate_in_a_secret(tmp_path: Path) -> None:
    _, _, https, _ = shown("values.yaml")
    objects = build(
        https | {"serviceMonitor": https["serviceMonitor"] | {"enabled": True}}, tmp_path
    )
    file = Path(https["config"]["server"]["web_config_file"])
    [command] = re.findall(r"secret generic embedding-drift-web .*\n(.*)", README)
    secret = set(re.findall(r"--from-file=(\S+)", command))
    assert file.name in secret
    for half in halves(objects):
        container, [pod] = containers(half)[-1], pods(half)
        assert container["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
        [mount] = [m for m in container["volumeMounts"] if m["mountPath"] == str(file.parent)]
        [volume] = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
        assert volume["secret"]["secretName"] == "embedding-drift-web"
    [trusted] = https["ingest"]["extraEnv"]
    authority = Path(trusted["value"])
    assert authority.parent == file.parent
    assert authority.name in secret
    [monitor] = of_kind(objects, "ServiceMonitor")
    [endpoint] = monitor["spec"]["endpoints"]
    ca = endpoint["tlsConfig"]["ca"]["secret"]
    assert ca == {"name": "embedding-drift-web", "key": authority.name}
    services = {service["metadata"]["name"] for service in of_kind(objects, "Service")}
    assert endpoint["tlsConfig"]["serverName"] in services


@pytest.mark.usefixtures("helm")
@pytest.mark.parametrize("shards", [1, 3])
def test_an_exporter_that_reads_from_a_replica(shards: int, tmp_path: Path) -> None:
    *_, replica = shown("values.yaml")
    replica["exporter"]["shards"] = shards
    objects = build(replica, tmp_path)
    [exporter] = [half for half in halves(objects) if half_of(half) == "exporter"]
    [container], [pod] = containers(exporter), pods(exporter)
    file = Path(container["env"][-1]["value"])
    [mount] = [m for m in container["volumeMounts"] if m["mountPath"] == str(file.parent)]
    [volume] = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
    assert container["env"][-1]["name"] in {f"{key.variable}_FILE" for key in keys()}
    secret = volume["secret"]["secretName"]
    assert re.search(rf"secret generic {secret} .*\n *--from-file={file.name}=", README)
