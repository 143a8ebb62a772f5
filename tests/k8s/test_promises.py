"""Properties that every overlay has, for the operators of a cluster."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from starlette.routing import Route
from starlette.testclient import TestClient

from bench import plan, results
from exporter.http.app import Exporter
from exporter.http.fleet import QUERIES_AT_ONCE
from exporter.monitor.monitor import Monitor
from ingest.http.app import Ingest
from ingest.pipeline.pipeline import Pipeline
from ingest.runtime.http import application, server
from ingest.runtime.http.application import Half
from ingest.runtime.settings.configuration import load
from ingest.runtime.settings.reload import LiveSettings
from ingest.runtime.settings.settings import DatabaseSettings, Settings, WindowSettings
from k8s.__main__ import FOLDER
from k8s.manifest import Manifest
from tests.k8s.overlays import (
    Render,
    containers,
    half_of,
    halves,
    of_kind,
    pods,
    rendered,
    selects,
)


def _ingest(settings: Settings, registry: CollectorRegistry) -> Half:
    return Ingest(Pipeline(NOWHERE, settings, registry), settings)


def _exporter(settings: Settings, registry: CollectorRegistry) -> Half:
    return Exporter(Monitor(NOWHERE, settings), registry)


HALVES = {"ingest": _ingest, "exporter": _exporter}
NOWHERE = "postgresql://127.0.0.1:1/nowhere"
WITHOUT_A_DATABASE = {"startup": {200}, "liveness": {200}, "readiness": {200, 503}}
"""Statuses that a probe may get. An exporter becomes ready when it has read the store."""

RESTRICTED = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
OF_THE_NODE = {"hostNetwork", "hostPID", "hostIPC"}
NOT_OF_THE_NODE = {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}

NAMES = {
    # At any address: a cache on the node has one of its own. 5353 is OpenShift's port.
    "ports": [
        {"protocol": protocol, "port": port} for port in (53, 5353) for protocol in ("UDP", "TCP")
    ],
}
POSTGRESQL = {"ports": [{"protocol": "TCP", "port": 5432}]}
DATABASES = {
    "StatefulSet": {
        "app.kubernetes.io/name": "postgresql",
        "app.kubernetes.io/instance": "embedding-drift",
    },
    "Cluster": {"cnpg.io/cluster": "embedding-drift-store"},
}
"""Labels of the pods of a database in the cluster, by its kind."""
MONITORING = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
CLIENTS = {"namespaceSelector": {"matchLabels": {"embedding-drift/client": "true"}}}
OPERATOR = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "cnpg-system"}}}
_SELECTOR = {
    "app.kubernetes.io/name": "embedding-drift",
    "app.kubernetes.io/instance": "embedding-drift",
}
OURS = {"podSelector": {"matchLabels": _SELECTOR}}
LET_IN = {"ingest": [MONITORING, CLIENTS], "exporter": [MONITORING]}


def test_both_halves_are_installed(objects: list[Manifest]) -> None:
    assert sorted(map(half_of, halves(objects))) == sorted(HALVES)


def test_each_half_has_one_budget_that_allows_one_pod_to_be_evicted(
    objects: list[Manifest],
) -> None:
    for half in halves(objects):
        # A pod with two budgets cannot be evicted.
        [budget] = [
            found["spec"]
            for found in of_kind(objects, "PodDisruptionBudget")
            if selects(found["spec"]["selector"], half)
        ]
        assert budget["maxUnavailable"] == 1
        assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_each_half_spreads_over_zones_and_nodes(
    objects: list[Manifest],
) -> None:
    for half in halves(objects):
        [pod] = pods(half)
        keys = [constraint["topologyKey"] for constraint in pod["topologySpreadConstraints"]]
        assert sorted(keys) == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
        for constraint in pod["topologySpreadConstraints"]:
            assert constraint["maxSkew"] == 1
            assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
            assert selects(constraint["labelSelector"], half)
            # Only pods of the same half count.
            assert constraint["matchLabelKeys"] == ["app.kubernetes.io/component"]


def test_a_stopping_pod_has_time_for_the_requests_in_progress(objects: list[Manifest]) -> None:
    for half in halves(objects):
        [pod] = pods(half)
        [container] = pod["containers"]
        still_sent_requests = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert still_sent_requests >= 5
        assert pod["terminationGracePeriodSeconds"] > still_sent_requests + server._DRAIN_SECONDS


def test_every_container_is_restricted(objects: list[Manifest]) -> None:
    for pod in pods(objects):
        for container in containers(pod):
            security = pod["securityContext"] | container["securityContext"]
            assert {field: security.get(field) for field in RESTRICTED} == RESTRICTED


def test_the_cluster_may_choose_the_user_of_the_program(objects: list[Manifest]) -> None:
    # OpenShift refuses a fixed one. The image has its own for other clusters.
    for half in halves(objects):
        [pod] = pods(half)
        for security in (pod, *containers(half)):
            fixed = {"runAsUser", "runAsGroup", "fsGroup"}
            assert not fixed & security["securityContext"].keys()


def test_no_pod_uses_its_node_or_the_api_of_the_cluster(objects: list[Manifest]) -> None:
    for pod in pods(objects):
        assert not OF_THE_NODE & pod.keys()
        assert pod["automountServiceAccountToken"] is False
        kinds = {kind for volume in pod.get("volumes", []) for kind in volume} - {"name"}
        assert kinds <= NOT_OF_THE_NODE
        for container in containers(pod):
            assert not any("hostPort" in port for port in container.get("ports", []))


def allowed(objects: list[Manifest], workload: Manifest, direction: str) -> list[Any]:
    """Return the connections that the network policies together allow to a workload."""
    policies = [
        policy["spec"]
        for policy in of_kind(objects, "NetworkPolicy")
        if direction in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], workload)
    ]
    assert policies, "without a policy everything is allowed"
    return [rule for policy in policies for rule in policy.get(direction.lower(), [])]


def test_outgoing_traffic_is_limited_to_dns_and_the_database(objects: list[Manifest]) -> None:
    own = [
        DATABASES[found["kind"]]
        for found in of_kind(objects, *DATABASES)
        if found not in halves(objects)
    ]
    # A database outside the cluster has an address that is not known here.
    to = {"to": [{"podSelector": {"matchLabels": own[0]}}]} if own else {}
    for half in halves(objects):
        assert allowed(objects, half, "Egress") == [NAMES, POSTGRESQL | to]


def test_incoming_traffic_is_limited_to_monitoring_and_clients(objects: list[Manifest]) -> None:
    for half in halves(objects):
        [port] = [port["name"] for c in containers(half) for port in c.get("ports", [])]
        expected = {"from": LET_IN[half_of(half)], "ports": [{"protocol": "TCP", "port": port}]}
        assert allowed(objects, half, "Ingress") == [expected]


def test_the_database_of_a_trial_accepts_only_the_two_halves(render: Render) -> None:
    objects = render("dev")
    [database] = [
        workload
        for workload in of_kind(objects, "Deployment", "StatefulSet")
        if workload not in halves(objects)
    ]
    [rule] = allowed(objects, database, "Ingress")
    assert rule == {"from": [OURS], "ports": [{"protocol": "TCP", "port": "postgresql"}]}
    assert allowed(objects, database, "Egress") == []


def test_a_database_of_cloudnativepg_also_accepts_the_operator_and_its_own_pods(
    render: Render,
) -> None:
    objects = render("cnpg")
    [cluster] = of_kind(objects, "Cluster")
    own = {"matchLabels": {"cnpg.io/cluster": cluster["metadata"]["name"]}}
    [policy] = [
        found["spec"]
        for found in of_kind(objects, "NetworkPolicy")
        if found["spec"]["podSelector"] == own
    ]
    served, managed = policy["ingress"]
    assert policy["policyTypes"] == ["Ingress"]
    assert served == {"from": [OURS]} | POSTGRESQL
    assert managed["from"] == [{"podSelector": own}, OPERATOR]
    assert [port["port"] for port in managed["ports"]] == [5432, 8000]


def test_load_scales_only_ingest_and_no_manifest_resets_it(objects: list[Manifest]) -> None:
    [scaler] = of_kind(objects, "HorizontalPodAutoscaler")
    [ingest] = [half for half in halves(objects) if half_of(half) == "ingest"]
    assert scaler["spec"]["scaleTargetRef"] == {
        "apiVersion": ingest["apiVersion"],
        "kind": ingest["kind"],
        "name": ingest["metadata"]["name"],
    }
    assert "replicas" not in ingest["spec"]


@pytest.fixture(scope="session")
def answers() -> dict[str, dict[str, int]]:
    """Return the status of each half by path, while its PostgreSQL is away."""
    return {name: dict(_answers(half)) for name, half in HALVES.items()}


def _answers(half: Callable[[Settings, CollectorRegistry], Half]) -> Iterator[tuple[str, int]]:
    live, registry = LiveSettings(load), CollectorRegistry()
    app = application.application(registry, live, half(live.settings, registry))
    with TestClient(app) as client:
        for route in app.routes:
            # Others wait for PostgreSQL for seconds.
            if isinstance(route, Route) and route.path.startswith("/-/"):
                yield route.path, client.get(route.path).status_code


@pytest.mark.xdist_group("answers")
def test_a_probe_that_may_kill_a_pod_does_not_depend_on_the_database(
    objects: list[Manifest], answers: dict[str, dict[str, int]]
) -> None:
    for half in halves(objects):
        container = containers(half)[-1]
        [port] = container["ports"]
        asked = {probe: container[f"{probe}Probe"]["httpGet"] for probe in WITHOUT_A_DATABASE}
        assert {request["port"] for request in asked.values()} == {port["name"]}
        for probe, request in asked.items():
            assert answers[half_of(half)][request["path"]] in WITHOUT_A_DATABASE[probe]


def test_ingest_migrates_in_an_init_container_that_no_probe_can_end(
    objects: list[Manifest],
) -> None:
    # Steps of several pods take turns: tests/ingest/store/test_migrate.py. A Job would have to
    # be deleted before the next release could be applied.
    steps = {half_of(half): [c["args"] for c in containers(half)] for half in halves(objects)}
    assert steps == {"ingest": [["migrate"], ["ingest"]], "exporter": [["exporter"]]}
    assert not of_kind(objects, "Job", "CronJob")


def test_every_container_has_its_share_of_the_node(objects: list[Manifest]) -> None:
    for container in containers(objects):
        requests, limits = (container["resources"][kind] for kind in ("requests", "limits"))
        assert requests.keys() == {"cpu", "memory", "ephemeral-storage"}
        # A CPU limit would throttle scrapes while the machine has time to spare.
        assert limits.keys() == {"memory", "ephemeral-storage"}
    for pod in pods(objects):
        folders = [v["emptyDir"] for v in pod.get("volumes", []) if "emptyDir" in v]
        assert all("sizeLimit" in folder for folder in folders)


@pytest.mark.parametrize(
    ("overlay", "models"), [("default", 20), ("prod", 100), ("sharded", 100), ("cnpg", 100)]
)
def test_an_exporter_has_the_measured_memory(overlay: str, models: int, render: Render) -> None:
    """Models after a day, and a baseline of 50,000 that is pinned: see README.md."""
    objects = rendered() if overlay == "default" else render(overlay)
    [exporter] = [half for half in halves(objects) if half_of(half) == "exporter"]
    [container] = containers(exporter)
    follows = plan.PROGRAM_GB + models * plan.memory_formula(768, largest_window()) / 1e3
    pins = follows + plan.FIT_GB[50_000]
    for kind, measured in (("requests", follows), ("limits", pins)):
        given = gigabytes(container["resources"][kind]["memory"])
        assert measured < given < 1.35 * measured, (kind, measured)


def largest_window() -> int:
    """Return the vectors of the largest window by default, once the baseline has matured."""
    monitoring = Settings().monitoring
    windows: list[WindowSettings] = [window for _, window in monitoring.windows]
    largest = max(window.max_vectors for window in windows)
    return min(largest, monitoring.baseline.mature_vectors // 2)


def test_the_documents_have_the_formula_of_the_plan() -> None:
    for vectors, dimension in ((1_000, 384), (5_000, 768)):
        stated = (5 * dimension * vectors + 10_000 * dimension) / 1e6 + 2.5
        assert plan.memory_formula(dimension, vectors) == pytest.approx(stated)
    # 0.1 GB is the program, rounded up. The rest is measured by bench.slices and bench.footprint.
    assert 0.05 < plan.PROGRAM_GB < 0.1
    for row in results.table("slices", "slices"):
        stated = 5_000 * float(row["dimension"]) / 1e6 + 2
        assert row["MB a slice"] == pytest.approx(stated, rel=0.05)
    pinned = 18 * 4 * 768 * 50_000 / 1e9
    assert pinned == pytest.approx(plan.FIT_GB[50_000], rel=0.1)
    readme = (FOLDER / "README.md").read_text()
    scaling = (FOLDER.parent / "docs" / "scaling.md").read_text()
    for text in (readme, scaling):
        for term in (
            "0.1 GB + models",
            "5·d·n + 10,000·d + 2.5 MB",
            "5,000·d + 2 MB",
            "18 · 4·d·v",
        ):
            assert term in text, term


def test_the_volumes_of_cloudnativepg_hold_the_fleet_of_the_overlay(render: Render) -> None:
    objects = render("cnpg")
    [cluster] = of_kind(objects, "Cluster")
    [config] = [
        yaml.safe_load(found["data"]["config.yaml"])
        for found in of_kind(objects, "ConfigMap")
        if "config.yaml" in found["data"]
    ]
    days = config["database"]["retention_days"] + 1
    vectors = 100 * plan.TARGET * plan.STORED_BYTES * plan.DAY * days / 1e9
    baselines_history_wal = 20
    size = gigabytes(cluster["spec"]["storage"]["size"])
    assert (vectors + baselines_history_wal) / size < 0.85
    # The baseline of a week is made from its stored vectors.
    assert days > 8


def test_a_database_in_the_cluster_takes_the_connections_of_all_pods(render: Render) -> None:
    ingest = DatabaseSettings().pool_size + QUERIES_AT_ONCE + 1  # the last is for maintenance
    for overlay in ("dev", "cnpg"):
        objects = render(overlay)
        [scaler] = of_kind(objects, "HorizontalPodAutoscaler")
        pods_of_ingest = math.ceil(1.25 * scaler["spec"]["maxReplicas"])
        # Two exporters, and the one that an upgrade adds.
        needed = pods_of_ingest * ingest + 3 * DatabaseSettings().pool_size
        assert allowed_connections(objects) - 10 >= needed


def allowed_connections(objects: list[Manifest]) -> int:
    """Return ``max_connections`` of the database in the cluster."""
    for cluster in of_kind(objects, "Cluster"):
        return int(cluster["spec"]["postgresql"]["parameters"]["max_connections"])
    [arguments] = [
        container["args"]
        for workload in of_kind(objects, "StatefulSet")
        for container in containers(workload)
        if container["name"] == "postgresql"
    ]
    option, setting = arguments
    assert option == "-c"
    return int(setting.removeprefix("max_connections="))


def gigabytes(quantity: str) -> float:
    unit = {"Mi": 2**20, "Gi": 2**30}[quantity[-2:]]
    return int(quantity[:-2]) * unit / 1e9


def test_a_rollout_fits_beside_the_running_pods_of_two_cores(objects: list[Manifest]) -> None:
    # Also 20 % for the node itself. A surge is one more pod of each half.
    requested = 0.0
    for half in halves(objects):
        [pod] = pods(half)
        container = pod["containers"][0]
        cores = int(container["resources"]["requests"]["cpu"].removesuffix("m")) / 1000
        requested += cores * (half["spec"].get("replicas", 2) + 1)
    assert requested < 1.6


def test_a_store_in_the_cluster_acknowledges_only_what_a_standby_has(render: Render) -> None:
    [cluster] = of_kind(render("cnpg"), "Cluster")
    assert cluster["spec"]["instances"] == 3
    assert cluster["spec"]["postgresql"]["synchronous"] == {"method": "any", "number": 1}
