"""What a real API server and real controllers make of the manifests and the chart."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.__main__ import DEFAULT, FOLDER
from k8s.helm import CHART, ROOT
from tests.k8s import previous
from tests.k8s.cluster import Cluster, running, wait_for
from tests.k8s.overlays import OVERLAYS
from tests.k8s.schema import definitions

pytestmark = pytest.mark.xdist_group("kubernetes")

NAMESPACE = "embedding-drift"
KEPT_BY_KUBERNETES = {
    "ConfigMap/kube-root-ca.crt",
    "ServiceAccount/default",
}
KINDS = (
    "deployments,statefulsets,replicasets,pods,services,configmaps,secrets,serviceaccounts,"
    "networkpolicies,poddisruptionbudgets,horizontalpodautoscalers,ingresses,"
    "httproutes.gateway.networking.k8s.io,persistentvolumeclaims,servicemonitors,"
    "prometheusrules,alertmanagerconfigs,clusters.postgresql.cnpg.io,databases.postgresql.cnpg.io"
)
EVERYTHING: dict[str, Any] = {
    "database": {"trial": {"enabled": True}},
    "exporter": {"shards": 3},
    "externalUrl": "https://drift.example.org",
    "ingress": {"enabled": True},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway", "namespace": "gateways"}]},
    "serviceMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "alertmanagerConfig": {"enabled": True},
    "dashboards": {"enabled": True},
}


@pytest.fixture(scope="module")
def cluster(kubectl: str, helm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a cluster that knows the custom resources."""
    with running(tmp_path_factory.mktemp("cluster"), kubectl, helm) as found:
        for file in definitions():
            found.kubectl("apply", "--server-side", "--filename", file)
        found.kubectl("wait", "--for=condition=established", "crd", "--all", "--timeout=240s")
        yield found


def left(cluster: Cluster, namespace: str) -> set[str]:
    """Return what is in a namespace, without what Kubernetes puts there."""
    found = cluster.get(KINDS, f"--namespace={namespace}")
    names = {f"{each['kind']}/{each['metadata']['name']}" for each in found}
    return names - KEPT_BY_KUBERNETES


def has_its_pods(cluster: Cluster, namespace: str) -> bool:
    workloads = cluster.get("deployments,statefulsets", f"--namespace={namespace}")
    for workload in workloads:
        for condition in workload["status"].get("conditions", []):
            assert condition["type"] != "ReplicaFailure", condition["message"]
    return bool(workloads) and all(
        workload["status"].get("replicas") == workload["spec"]["replicas"] for workload in workloads
    )


@pytest.mark.parametrize("overlay", [DEFAULT.name, *OVERLAYS])
def test_an_overlay_is_applied_twice_admitted_as_restricted_and_deleted_without_a_trace(
    overlay: str, cluster: Cluster
) -> None:
    given: tuple[str | Path, ...] = (
        ("--filename", FOLDER) if overlay == DEFAULT.name else ("--kustomize", OVERLAYS[overlay])
    )
    with cluster.namespace(NAMESPACE):
        cluster.kubectl("apply", *given, "--dry-run=server", "--validate=strict")
        cluster.kubectl("apply", *given)
        assert "unchanged" in cluster.kubectl("apply", *given)
        cluster.kubectl("diff", *given)  # ends with 1 if there is a difference
        wait_for(lambda: has_its_pods(cluster, NAMESPACE), "the pods")
        cluster.kubectl("delete", *given)
        # The volume with the vectors of a trial is kept.
        kept = {"PersistentVolumeClaim/data-embedding-drift-postgresql-0"}
        expected = kept if overlay == "dev" else set()
        wait_for(lambda: left(cluster, NAMESPACE) == expected, "the end of all objects")


@pytest.fixture
def values(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Write a values file."""

    def written(content: dict[str, Any]) -> Path:
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(content))
        return file

    return written


def test_helm_installs_upgrades_rolls_back_and_uninstalls(
    cluster: Cluster, values: Callable[[dict[str, Any]], Path]
) -> None:
    with cluster.namespace("helm") as namespace:
        place = f"--namespace={namespace}"

        def config() -> str:
            [found] = [
                each["data"]["config.yaml"]
                for each in cluster.get("configmaps", place)
                if "config.yaml" in each["data"]
            ]
            return str(found)

        cluster.helm("install", "drift", CHART, place, "--values", values(EVERYTHING))
        wait_for(lambda: has_its_pods(cluster, namespace), "the pods")
        assert_the_route_of_the_gateway_leads_every_path_to_the_exporter(cluster, place)
        add_a_token(cluster, place)
        before, secrets = config(), secret_data(cluster, namespace)
        changed = EVERYTHING | {"config": {"monitoring": {"drift_threshold": 0.3}}}
        cluster.helm("upgrade", "drift", CHART, place, "--values", values(changed))
        assert "0.3" in config()
        # The passwords and tokens are those of before, and the one that was added.
        assert secret_data(cluster, namespace) == secrets
        cluster.helm("rollback", "drift", "1", place)
        assert config() == before
        cluster.helm("uninstall", "drift", place)
        # The volume with the vectors of a trial is kept, and its password.
        kept = {
            "PersistentVolumeClaim/data-drift-embedding-drift-postgresql-0",
            "Secret/drift-embedding-drift-database",
        }
        wait_for(lambda: left(cluster, namespace) == kept, "the end of all other objects")


def add_a_token(cluster: Cluster, place: str) -> None:
    """Add a token to the secret that the chart made, as a person does."""
    name = "drift-embedding-drift-tokens"
    [secret] = [each for each in cluster.get("secrets", place) if each["metadata"]["name"] == name]
    text = base64.b64decode(secret["data"]["tokens.yaml"]).decode()
    entry = {"name": "extra", "scopes": ["drift"], "sha256": 64 * "a"}
    text += f"- {json.dumps(entry, separators=(',', ':'))}\n"
    patch = json.dumps({"stringData": {"tokens.yaml": text}})
    cluster.kubectl("patch", "secret", name, place, "--patch", patch)


def lasting(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Return the identity of each object that an upgrade keeps, by its name.

    A new template has a new ReplicaSet with new pods. Helm keeps a secret for each revision.
    """
    kinds = ",".join(kind for kind in KINDS.split(",") if kind not in ("replicasets", "pods"))
    return {
        f"{each['kind']}/{each['metadata']['name']}": each["metadata"]["uid"]
        for each in cluster.get(kinds, f"--namespace={namespace}")
        if not each["metadata"]["name"].startswith("sh.helm.release.")
    }


def has_new_pods(cluster: Cluster, namespace: str) -> bool:
    """Return whether each Deployment has a pod of its newest template. No pod gets ready here."""
    return all(
        each["status"].get("observedGeneration") == each["metadata"]["generation"]
        and each["status"].get("updatedReplicas", 0) > 0
        for each in cluster.get("deployments", f"--namespace={namespace}")
    )


def test_the_previous_release_is_upgraded_to_this_one_and_back(
    cluster: Cluster, values: Callable[[dict[str, Any]], Path], tmp_path: Path
) -> None:
    before = previous.chart(ROOT, tmp_path / "previous")
    given = ("--values", values(EVERYTHING))
    with cluster.namespace("fresh") as namespace:
        place = f"--namespace={namespace}"
        cluster.helm("install", "drift", CHART, place, *given)
        wait_for(lambda: has_its_pods(cluster, namespace), "the pods of this release")
        of_this = set(lasting(cluster, namespace))
        cluster.helm("uninstall", "drift", place)
    with cluster.namespace("upgraded") as namespace:
        place = f"--namespace={namespace}"
        cluster.helm("install", "drift", before, place, *given)
        wait_for(lambda: has_its_pods(cluster, namespace), "the pods of the previous release")
        of_previous, secrets = lasting(cluster, namespace), secret_data(cluster, namespace)
        cluster.helm("upgrade", "drift", CHART, place, *given)
        wait_for(lambda: has_new_pods(cluster, namespace), "pods of this release")
        upgraded = lasting(cluster, namespace)
        assert set(upgraded) == of_this
        # What both releases have was changed in place. Passwords and tokens are those of before.
        in_both = of_this & set(of_previous)
        assert {upgraded[name] for name in in_both} == {of_previous[name] for name in in_both}
        assert secret_data(cluster, namespace) == secrets
        cluster.helm("rollback", "drift", "1", place)
        wait_for(lambda: has_new_pods(cluster, namespace), "pods of the previous release again")
        assert set(lasting(cluster, namespace)) == set(of_previous)
        cluster.helm("uninstall", "drift", place)


def assert_the_route_of_the_gateway_leads_every_path_to_the_exporter(
    cluster: Cluster, place: str
) -> None:
    [route] = cluster.get("httproutes", place)
    assert route["spec"]["hostnames"] == ["drift.example.org"]
    [rule] = route["spec"]["rules"]
    # The definition of the Gateway API adds the path.
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    [backend] = rule["backendRefs"]
    [port] = cluster.get("service", backend["name"], place)["spec"]["ports"]
    assert backend["port"] == port["port"]


def secret_data(cluster: Cluster, namespace: str) -> dict[str, Any]:
    return {
        found["metadata"]["name"]: found["data"]
        for found in cluster.get("secrets", f"--namespace={namespace}")
        if found["type"] == "Opaque"
    }


def test_a_trial_that_is_not_kept_leaves_nothing(
    cluster: Cluster, values: Callable[[dict[str, Any]], Path]
) -> None:
    trial = {"database": {"trial": {"enabled": True, "keep": False}}}
    with cluster.namespace("trial") as namespace:
        place = f"--namespace={namespace}"
        cluster.helm("install", "drift", CHART, place, "--values", values(trial))
        wait_for(lambda: has_its_pods(cluster, namespace), "the pods")
        cluster.helm("uninstall", "drift", place)
        wait_for(lambda: left(cluster, namespace) == set(), "the end of all objects")


def test_two_releases_in_one_namespace_do_not_select_each_others_pods(
    cluster: Cluster, values: Callable[[dict[str, Any]], Path]
) -> None:
    with cluster.namespace("two") as namespace:
        place = f"--namespace={namespace}"
        for release in ("one", "other"):
            cluster.helm("install", release, CHART, place, "--values", values(EVERYTHING))
        wait_for(lambda: has_its_pods(cluster, namespace), "the pods")
        for service in cluster.get("services", place):
            selector = ",".join(f"{k}={v}" for k, v in service["spec"]["selector"].items())
            owners = {
                pod["metadata"]["labels"]["app.kubernetes.io/instance"]
                for pod in cluster.get("pods", place, f"--selector={selector}")
            }
            release = service["metadata"]["labels"]["app.kubernetes.io/instance"]
            assert owners == {release}
        cluster.helm("uninstall", "one", place)
        assert has_its_pods(cluster, namespace)
        cluster.helm("uninstall", "other", place)
