"""The Prometheus Operator, with a Prometheus and an Alertmanager that select every object."""

from __future__ import annotations

import re
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from k8s.helm import ROOT, tool
from k8s.manifest import load
from tests.k8s import archive
from tests.k8s.cluster import Cluster, built, wait_for
from tests.programs import NEWEST, missing

NAMESPACE = "monitoring"
_PROMETHEUS = "prometheus:newest"
_ALERTMANAGER = "alertmanager:newest"


def images(base: Path, folder: Path) -> Path:
    """Return an archive of the images of all parts, on a base that has Debian's libraries."""
    of_prometheus = subprocess.run(
        [ROOT / ".ci" / "prometheus"], check=True, capture_output=True, text=True
    ).stdout.strip()
    alertmanager = NEWEST / "prometheus-alertmanager"
    if not alertmanager.exists():
        missing(f"{alertmanager} does not exist; make tools-newest")
    [deployment] = [
        found for found in load(_manifests().read_text()) if found["kind"] == "Deployment"
    ]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    [reloader] = re.findall(r"--prometheus-config-reloader=(\S+)", " ".join(container["args"]))
    programs = {
        "prometheus-operator": built("prometheus-operator", "operator"),
        # The operator names this path.
        "prometheus-config-reloader": built("prometheus-config-reloader", "operator"),
        "prometheus": f"{of_prometheus}/prometheus",
        "alertmanager": str(alertmanager),
    }
    layer = folder / "monitoring-layer.tar"
    with tarfile.open(layer, "w") as written:
        for name, program in programs.items():
            written.add(program, f"usr/bin/{name}")
        # Debian's Alertmanager reads its own templates here.
        templates = "usr/share/prometheus/alertmanager"
        written.add(NEWEST.parents[1] / templates, templates)
    found = folder / "monitoring.tar"
    names = [container["image"], reloader, _PROMETHEUS, _ALERTMANAGER]
    entry_points = {
        image: {"Entrypoint": [f"/bin/{name}"]} for image, name in zip(names, programs, strict=True)
    }
    archive.write(found, [base, layer], entry_points)
    return found


def _manifests() -> Path:
    return tool("prometheus-operator-manifests", "operator")


class Monitoring:
    """What people read at the Prometheus of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def query(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of Prometheus."""
        name = "prometheus-all-0"
        pod = self._cluster.get("pod", name, f"--namespace={NAMESPACE}")
        url = f"http://{pod['status']['podIP']}:9090/api/v1/{path}"
        return httpx2.get(url, params=parameters, timeout=60).raise_for_status().json()["data"]


@contextmanager
def running(cluster: Cluster) -> Iterator[Monitoring]:
    """Install the operator as its manifests do, and let it start the others.

    The operator stays until the node ends.
    """
    cluster.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={_manifests()}")
    cluster.kubectl("rollout", "status", "deployment/prometheus-operator", "--timeout=4m")
    with cluster.namespace(NAMESPACE):
        cluster.apply(*_objects())
        for name in ("prometheus-all-0", "alertmanager-all-0"):
            wait_for(lambda name=name: _is_ready(cluster, name), name)
        yield Monitoring(cluster)


def _is_ready(cluster: Cluster, name: str) -> bool:
    found = cluster.get("pods", f"--namespace={NAMESPACE}")
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for pod in found
        if pod["metadata"]["name"] == name
        for condition in pod["status"].get("conditions", [])
    )


def _objects() -> list[dict[str, Any]]:
    place = {"name": "all", "namespace": NAMESPACE}
    everything: dict[str, Any] = {}
    security = {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "fsGroup": 2000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": place},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "prometheus-all"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "view",
            },
            "subjects": [{"kind": "ServiceAccount", **place}],
        },
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "Prometheus",
            "metadata": place,
            "spec": {
                "image": _PROMETHEUS,
                "securityContext": security,
                "serviceAccountName": place["name"],
                "evaluationInterval": "15s",
                "serviceMonitorSelector": everything,
                "serviceMonitorNamespaceSelector": everything,
                "ruleSelector": everything,
                "ruleNamespaceSelector": everything,
                "alerting": {
                    "alertmanagers": [
                        {"namespace": NAMESPACE, "name": "alertmanager-operated", "port": "web"}
                    ]
                },
            },
        },
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "Alertmanager",
            "metadata": place,
            "spec": {
                "image": _ALERTMANAGER,
                "securityContext": security,
                "alertmanagerConfigSelector": everything,
                "alertmanagerConfigNamespaceSelector": everything,
            },
        },
    ]
