"""The chart with real pods, on a node that this machine becomes.

``make cluster-test`` builds what it needs, and runs these tests as root.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import httpx2
import numpy as np
import pytest
import yaml

from demo.slack import Slack
from embedding_drift_client import Client
from k8s.helm import CHART, TOOLS
from k8s.manifest import load
from tests.k8s import archive, monitoring
from tests.k8s import node as nodes
from tests.k8s.cluster import Cluster, wait_for
from tests.k8s.node import Node

ARCHIVE = os.environ.get("TEST_ARCHIVE", "")
pytestmark = pytest.mark.skipif(
    not ARCHIVE, reason="TEST_ARCHIVE names no image; make cluster-test"
)

NAME = "drift-embedding-drift"
INGEST = f"deployment/{NAME}-ingest"
ENTRY_POINT = (Path(__file__).parent / "postgresql.sh").read_text()
TRIAL = load((CHART / "values.yaml").read_text())[0]["database"]["trial"]
OWNER: int = TRIAL["podSecurityContext"]["runAsUser"]
SMALL = {"requests": {"cpu": "10m", "memory": "128Mi"}}


@pytest.fixture(scope="module")
def node(kubectl: str, helm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Return a node with the images of this program and of PostgreSQL."""
    folder = tmp_path_factory.mktemp("node")
    postgresql = folder / "postgresql.tar"
    path = {"Env": ["PATH=/usr/lib/postgresql/17/bin:/usr/bin:/bin"]}
    images = {
        f"docker.io/{TRIAL['image']}": {
            # The last word is the name of the script: arguments of the pod come after it.
            "Entrypoint": ["sh", "-c", ENTRY_POINT, "postgresql"],
            **path,
        },
        nodes.PAUSE: {"Entrypoint": ["sleep", "infinity"], **path},
    }
    base = TOOLS / "postgresql-trixie.tar"
    archive.write(postgresql, [base], images)
    archives = [Path(ARCHIVE), postgresql, monitoring.images(base, folder)]
    with nodes.running(folder, kubectl, helm, archives) as found:
        yield found


@dataclass(frozen=True)
class Release:
    """The chart, installed in a namespace, and how this machine reaches it."""

    cluster: Cluster
    namespace: str
    ready_seconds: float

    def helm(self, *arguments: str | Path) -> str:
        """Run helm in the namespace."""
        return self.cluster.helm(*arguments, f"--namespace={self.namespace}")

    def kubectl(self, *arguments: str | Path) -> str:
        """Run kubectl in the namespace."""
        return self.cluster.kubectl(f"--namespace={self.namespace}", *arguments)

    def get(self, *arguments: str) -> Any:
        """Return objects of the namespace."""
        return self.cluster.get(f"--namespace={self.namespace}", *arguments)

    def url(self, half: str) -> str:
        """Return the address of a Service."""
        spec = self.get("service", f"{NAME}-{half}")["spec"]
        return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}"

    @property
    def token(self) -> str:
        """The token of clients."""
        data = self.get("secret", f"{NAME}-tokens")["data"]
        return base64.b64decode(data["clients"]).decode()


@contextmanager
def installed(
    node: Node, namespace: str, values: dict[str, Any], folder: Path
) -> Iterator[Release]:
    """Install the chart with a trial database; remove it afterwards."""
    file = folder / f"{namespace}.yaml"
    file.write_text(yaml.safe_dump({"database": {"trial": {"enabled": True}}} | values))
    with node.cluster.namespace(namespace):
        node.volume(namespace, OWNER)
        start = time.monotonic()
        node.cluster.helm(
            "install", "drift", CHART, f"--namespace={namespace}", f"--values={file}", "--wait",
            "--timeout=5m",
        )  # fmt: skip
        yield Release(node.cluster, namespace, time.monotonic() - start)
        node.cluster.helm("uninstall", "drift", f"--namespace={namespace}", "--wait")


@pytest.fixture(scope="module")
def trial(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """Return a trial that all tests of the module share."""
    with installed(node, "trial", {}, tmp_path_factory.mktemp("values")) as found:
        yield found


def stored(release: Release, model: str) -> tuple[int, int]:
    """Return how many vectors of a model are stored, and how many ids they have."""
    query = "select count(*), count(distinct id) from embedding where model_name = "
    answer = release.kubectl(
        "exec", f"{NAME}-postgresql-0", "--",
        "psql", "--username=embedding_drift", "--dbname=embeddings", "--tuples-only",
        "--no-align", "--field-separator= ", f"--command={query}'{model}'",
    )  # fmt: skip
    vectors, ids = answer.split()
    return int(vectors), int(ids)


@contextmanager
def sending(release: Release, model: str) -> Iterator[None]:
    """Send vectors during the block. What was acknowledged must be stored, each vector once.

    A client gives no vector up: each one that it was given is acknowledged in the end.
    """
    vector = np.arange(16, dtype=np.float32)
    done = threading.Event()
    with Client(
        release.url("ingest"), model, token=release.token, batch_size=20, interval=0.1,
        max_queue_vectors=1_000_000,
    ) as client:  # fmt: skip

        def send() -> None:
            for number in itertools.count():
                client.add([vector + number], ids=[str(number)])
                if done.wait(0.01):
                    return

        thread = threading.Thread(target=send)
        thread.start()
        try:
            wait_for(lambda: client.sent > 0, "the first answer")
            yield
            before = client.sent
            wait_for(lambda: client.sent > before, "an answer afterwards")
        finally:
            done.set()
            thread.join()
        client.flush(600)
    assert client.dropped == client.failed == 0
    print(f"{client.added} vectors acknowledged, {client.duplicates} of them at a second try")
    assert client.sent + client.duplicates == client.added
    assert stored(release, model) == (client.added, client.added)


def ready(release: Release, workload: str) -> None:
    """Wait until all pods of a workload are new and ready."""
    release.kubectl("rollout", "status", workload, "--timeout=5m")


def pods(release: Release, half: str) -> list[Any]:
    """Return the pods of a half that are not about to end."""
    found = release.get("pods", f"--selector=app.kubernetes.io/component={half}")
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def roll_out(release: Release, node: Node) -> None:
    release.kubectl("rollout", "restart", INGEST)
    ready(release, INGEST)


def delete_a_pod_by_force(release: Release, node: Node) -> None:
    name = pods(release, "ingest")[0]["metadata"]["name"]
    release.kubectl("delete", "pod", name, "--force", "--grace-period=0")
    ready(release, INGEST)


def delete_postgresql(release: Release, node: Node) -> None:
    release.kubectl("delete", "pod", f"{NAME}-postgresql-0")
    ready(release, f"statefulset/{NAME}-postgresql")


def kill_the_kubelet(release: Release, node: Node) -> None:
    node.restart("kubelet")
    roll_out(release, node)  # it manages pods again


def upgrade_and_roll_back(release: Release, node: Node) -> None:
    """A change of the configuration replaces the pods, and so does going back."""
    change = "--set-json=config.monitoring.drift_threshold=0.16"  # --set makes a text of it
    release.helm("upgrade", "drift", CHART, "--reuse-values", change, "--wait", "--timeout=5m")
    release.helm("rollback", "drift", "1", "--wait", "--timeout=5m")


def test_helm_test_stores_a_vector_in_an_installed_trial_and_reads_it_back(trial: Release) -> None:
    print(f"all pods ready {trial.ready_seconds:.0f} s after helm install")
    assert "Succeeded" in trial.helm("test", "drift", "--timeout=5m")


def test_the_page_of_the_fleet_is_reached_through_the_service(trial: Release) -> None:
    answer = httpx2.get(f"{trial.url('exporter')}/", headers={"Accept": "text/html"}, timeout=60)
    assert answer.status_code == 200
    assert "text/html" in answer.headers["Content-Type"]


@pytest.mark.parametrize(
    "disturb",
    [
        roll_out,
        delete_a_pod_by_force,
        delete_postgresql,
        kill_the_kubelet,
        upgrade_and_roll_back,
    ],
    ids=lambda disturb: disturb.__name__,
)
def test_each_acknowledged_vector_is_stored_once_whatever_happens_meanwhile(
    trial: Release, node: Node, disturb: Callable[[Release, Node], None]
) -> None:
    with sending(trial, disturb.__name__):
        disturb(trial, node)


REACH = """
import socket, sys
for address in sys.argv[1:]:
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
    except OSError:
        continue
    print(address)
"""
PYTHON = "/opt/embedding-drift/bin/python"


@contextmanager
def visitor(
    cluster: Cluster, namespace: str, image: str, *labels: str
) -> Iterator[Callable[..., set[str]]]:
    """Start a pod in a namespace of its own; give the addresses that it can connect to."""
    security = {
        "runAsNonRoot": True,
        "runAsUser": 10_001,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "visitor",
        "image": image,
        "command": [PYTHON, "-c", "import time; time.sleep(3600)"],
        "securityContext": security,
    }
    with cluster.namespace(namespace):
        if labels:
            cluster.kubectl("label", "namespace", namespace, *labels)
        cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "visitor", "namespace": namespace},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
            }
        )
        place = f"--namespace={namespace}"
        cluster.kubectl("wait", "--for=condition=ready", "pod/visitor", place, "--timeout=2m")
        yield lambda *addresses: set(
            cluster.kubectl("exec", "visitor", place, "--", PYTHON, "-c", REACH, *addresses).split()
        )


def test_who_may_connect_depends_on_the_namespace_and_pods_reach_only_the_database(
    trial: Release,
) -> None:
    halves = [trial.url(half).removeprefix("http://") for half in ("ingest", "exporter")]
    ingest, exporter = halves
    pod = trial.get("deployment", f"{NAME}-ingest")["spec"]["template"]["spec"]
    image = pod["containers"][0]["image"]
    client = "embedding-drift/client=true"
    with (
        visitor(trial.cluster, "monitoring", image) as of_monitoring,
        visitor(trial.cluster, "shop", image, client) as of_client,
        visitor(trial.cluster, "stranger", image) as of_stranger,
    ):
        # The router learns of a new pod after a moment.
        wait_for(lambda: of_monitoring(*halves) == set(halves), "the way from monitoring")
        wait_for(lambda: of_client(*halves) == {ingest}, "the way from a client")
        assert of_stranger(*halves) == set()
    database = f"{NAME}-postgresql:5432"
    reached = trial.kubectl("exec", INGEST, "--", PYTHON, "-c", REACH, database, exporter).split()
    assert reached == [database]


def test_every_replica_of_a_sharded_fleet_answers_for_every_model_also_without_its_shard(
    node: Node, tmp_path: Path
) -> None:
    values = {
        "exporter": {"shards": 3, "resources": SMALL},
        "ingest": {"resources": SMALL},
        "autoscaling": {"minReplicas": 1},
        # The owner of a model writes its report at each check.
        "config": {"monitoring": {"check_interval": 10}},
    }
    models = [f"model-{number}" for number in range(6)]
    vectors = np.arange(160, dtype=np.float32).reshape(10, 16)
    with installed(node, "sharded", values, tmp_path) as release:
        for model in models:
            with Client(release.url("ingest"), model, token=release.token) as client:
                client.add(vectors)
                client.flush(300)

        def unanswered() -> list[str]:
            """Addresses that do not answer for a model: of each replica, and of the Service."""
            found = [f"http://{pod['status']['podIP']}:10910" for pod in pods(release, "exporter")]
            urls = [*found, release.url("exporter")]
            reports = [f"{url}/drift/{model}" for url in urls for model in models]
            return [url for url in reports if httpx2.get(url, timeout=60).status_code != 200]

        wait_for(lambda: not unanswered(), "the reports of all models")
        workload = f"statefulset/{NAME}-exporter"
        release.kubectl("scale", workload, "--replicas=2")
        wait_for(lambda: len(pods(release, "exporter")) == 2, "the end of a shard")
        release.kubectl("wait", "--for=delete", f"pod/{NAME}-exporter-2", "--timeout=2m")
        assert unanswered() == []


def test_through_the_operator_prometheus_scrapes_all_pods_and_an_alert_reaches_slack(
    node: Node, tmp_path: Path
) -> None:
    with monitoring.running(node.cluster) as found, Slack(nodes.ADDRESS) as slack:
        values = {
            "exporter": {"resources": SMALL},
            "ingest": {"resources": SMALL},
            "serviceMonitor": {"enabled": True},
            "prometheusRule": {"enabled": True},
            "alertmanagerConfig": {"enabled": True},
            "externalUrl": "https://drift.example.org",
            "config": {"monitoring": {"check_interval": 10, "baseline": {"vectors": 250}}},
            "extraManifests": [
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": f"{NAME}-slack"},
                    "stringData": {"slack_webhook": slack.url},
                }
            ],
        }
        with installed(node, "watched", values, tmp_path) as release:

            def are_scraped() -> bool:
                names = {
                    pod["metadata"]["name"]
                    for half in ("ingest", "exporter")
                    for pod in pods(release, half)
                }
                up = found.query("query", query='up{namespace="watched"} == 1')
                return {series["metric"]["pod"] for series in up["result"]} == names

            wait_for(are_scraped, "the pods in Prometheus")

            def send(dimension: int) -> None:
                vectors = np.random.default_rng(0).normal(size=(300, dimension))
                with Client(release.url("ingest"), "model", token=release.token) as client:
                    client.add(vectors)
                    client.flush(60)

            send(16)
            measured = 'embedding_drift_state{model_name="model", state="ok"} == 1'
            wait_for(lambda: found.query("query", query=measured)["result"], "a baseline")
            send(8)
            message = slack.wait(lambda message: "another dimension" in str(message.body), 240)
            assert "https://drift.example.org/drift/model" in str(message.body)
            declared = [
                rule
                for each in release.get("prometheusrules")
                for group in each["spec"]["groups"]
                for rule in group["rules"]
            ]
            groups = found.query("rules")["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            assert len(rules) == len(declared)
            assert {rule["health"] for rule in rules} == {"ok"}


@contextmanager
def loading(release: Release, model: str) -> Iterator[None]:
    """Send bodies during the block, each over a new connection.

    What was acknowledged must be stored.
    """
    embeddings = np.random.default_rng(0).normal(size=(200, 256)).tolist()
    body = json.dumps({"model_name": model, "embeddings": embeddings}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {release.token}"}
    request = Request(f"{release.url('ingest')}/embeddings", body, headers)
    done = threading.Event()

    def send() -> int:
        """Return how many vectors were acknowledged. A pod that ends may not answer."""
        acknowledged = 0
        while not done.is_set():
            with contextlib.suppress(OSError), urlopen(request, timeout=60):
                acknowledged += len(embeddings)
        return acknowledged

    with ThreadPoolExecutor(4) as threads:
        results = [threads.submit(send) for _ in range(4)]
        try:
            yield
        finally:
            done.set()
    acknowledged = sum(result.result() for result in results)
    print(f"{acknowledged} vectors acknowledged under load")
    assert 0 < acknowledged <= stored(release, model)[0]


def test_ingest_grows_to_eight_pods_under_load_and_back_to_two_and_loses_no_vector(
    node: Node, tmp_path: Path
) -> None:
    at_once = {
        "stabilizationWindowSeconds": 0,
        "policies": [{"type": "Pods", "value": 8, "periodSeconds": 15}],
    }
    values = {
        "exporter": {"resources": SMALL},
        "ingest": {"resources": SMALL},
        "autoscaling": {
            # Load on eight pods exceeds it, and the steady client on two does not.
            "averageCpu": "40m",
            "behavior": {"scaleUp": at_once, "scaleDown": at_once},
        },
    }
    with installed(node, "scaled", values, tmp_path) as release:

        def is_scaled_to(replicas: int) -> bool:
            """Whether all pods are ready, and no other is left."""
            status = release.get("deployment", f"{NAME}-ingest")["status"]
            found = release.get("pods", "--selector=app.kubernetes.io/component=ingest")
            return bool(len(found) == status.get("readyReplicas", 0) == replicas)

        wait_for(lambda: is_scaled_to(2), "two pods")
        with sending(release, "steady"):
            with loading(release, "heavy"):
                wait_for(lambda: is_scaled_to(8), "eight pods")
            wait_for(lambda: is_scaled_to(2), "two pods")
