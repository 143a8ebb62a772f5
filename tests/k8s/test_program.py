"""The manifests fit the program: commands, variables, ports and files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry
from starlette.routing import Route

from exporter import cli as exporter_cli
from exporter.monitor.shard import shard
from ingest.runtime.auth import security
from ingest.runtime.errors import SettingsError
from ingest.runtime.http import application
from ingest.runtime.settings.configuration import CONFIG_VARIABLE, load
from ingest.runtime.settings.reload import LiveSettings
from ingest.runtime.settings.settings import Settings, keys
from ingest.runtime.version import __version__
from k8s.__main__ import FOLDER
from k8s.manifest import Manifest
from tests.k8s.overlays import (
    ROOT,
    Render,
    containers,
    half_of,
    halves,
    labels_of,
    of_kind,
    pods,
    selects,
)

PORTS = {"ingest": exporter_cli.INGEST_PORT, "exporter": exporter_cli.PORT}


TOKENS = f"[{{name: clients, sha256: {'f' * 64}, scopes: [write]}}]"


def environment(container: dict[str, object]) -> dict[str, str]:
    variables = container["env"]
    assert isinstance(variables, list)
    return {variable["name"]: variable["value"] for variable in variables}


def configuration(objects: list[Manifest], workload: Manifest, folder: Path) -> Settings:
    """Load the settings as a pod does, with its files in a folder."""
    files = {
        "/run/secrets/embedding-drift-database/connection_string": "postgresql://db/embeddings",
        "/run/secrets/embedding-drift-tokens/tokens.yaml": TOKENS,
    }
    [volume] = [v for v in workload["spec"]["template"]["spec"]["volumes"] if "configMap" in v]
    for config in of_kind(objects, "ConfigMap"):
        if config["metadata"]["name"] == volume["configMap"]["name"]:
            files |= {f"/etc/embedding-drift/{name}": text for name, text in config["data"].items()}
    for path, text in files.items():
        (folder / Path(path).name).write_text(text)
    variables = {
        name: str(folder / Path(value).name) if value in files else value
        for name, value in environment(containers(workload)[-1]).items()
    }
    return load(Path(variables[CONFIG_VARIABLE]), variables)


def test_every_container_runs_a_command_of_the_program_in_the_image_of_this_version(
    objects: list[Manifest],
) -> None:
    for workload in halves(objects):
        for container in containers(workload):
            assert container["args"][0] in exporter_cli.main.commands
            assert container["image"] == f"embedding-drift-exporter:{__version__}"


def test_the_program_reads_every_variable(objects: list[Manifest]) -> None:
    known = {CONFIG_VARIABLE} | {key.variable for key in keys()}
    known |= {f"{key.variable}_FILE" for key in keys() if key.is_secret}
    for workload in halves(objects):
        for container in containers(workload):
            assert set(environment(container)) <= known


def test_the_program_accepts_its_configuration_and_listens_on_the_ports_of_the_pod(
    objects: list[Manifest], tmp_path: Path
) -> None:
    for workload in halves(objects):
        settings = configuration(objects, workload, tmp_path)
        requires_credentials = security.read(settings.server).guard.schemes != ()
        assert requires_credentials == (half_of(workload) == "ingest")
        container = containers(workload)[-1]
        [port] = container["ports"]
        assert settings.server.host == "0.0.0.0"
        assert port["containerPort"] == (settings.server.port or PORTS[container["args"][0]])
        assert settings.database.connection_string is not None


def test_every_file_named_by_a_variable_is_mounted(objects: list[Manifest]) -> None:
    for workload in halves(objects):
        for container in containers(workload):
            mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            files = [Path(v) for v in environment(container).values() if v.startswith("/")]
            assert files
            volumes = {v["name"] for pod in pods(workload) for v in pod["volumes"]}
            assert {mounted[str(file.parent)] for file in files} <= volumes


def test_a_missing_secret_is_named_by_the_program_instead_of_waited_for(
    objects: list[Manifest], tmp_path: Path
) -> None:
    for workload in halves(objects):
        secrets = [v["secret"] for pod in pods(workload) for v in pod["volumes"] if "secret" in v]
        assert all(secret["optional"] for secret in secrets)
        for container in containers(workload):
            assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
            file = environment(container)["EMBEDDING_DRIFT_DATABASE_CONNECTION_STRING_FILE"]
            assert Path(file).parent.name == "embedding-drift-database"
            missing = {"EMBEDDING_DRIFT_DATABASE_CONNECTION_STRING_FILE": file}
            with pytest.raises(SettingsError, match=f"{file} cannot be read: No such file"):
                load(None, missing)
    [ingest] = [workload for workload in halves(objects) if half_of(workload) == "ingest"]
    tokens = environment(containers(ingest)[-1])["EMBEDDING_DRIFT_SERVER_TOKENS_FILE"]
    assert Path(tokens).parent.name == "embedding-drift-tokens"
    with pytest.raises(SettingsError, match=f"{tokens} .server.tokens_file. cannot be read"):
        security.read(Settings().server.model_copy(update={"tokens_file": tokens}))


def test_no_password_is_committed(objects: list[Manifest]) -> None:
    assert of_kind(objects, "Secret") == []


def test_each_half_has_a_service_of_its_name_and_port(
    objects: list[Manifest],
) -> None:
    services = {found["metadata"]["name"]: found for found in of_kind(objects, "Service")}
    for half in halves(objects):
        service = services[half["metadata"]["name"]]
        [port] = service["spec"]["ports"]
        assert selects({"matchLabels": service["spec"]["selector"]}, half)
        assert port["port"] == PORTS[half_of(half)]
        assert port["targetPort"] in {p["name"] for p in containers(half)[-1]["ports"]}


def test_pods_run_as_an_existing_service_account(objects: list[Manifest]) -> None:
    accounts = {found["metadata"]["name"] for found in of_kind(objects, "ServiceAccount")}
    for half in halves(objects):
        [pod] = pods(half)
        assert pod["serviceAccountName"] in accounts


def test_services_budgets_and_scalers_find_their_pods(objects: list[Manifest]) -> None:
    pods = [labels_of(workload) for workload in of_kind(objects, "Deployment", "StatefulSet")]
    for manifest in of_kind(objects, "Service", "PodDisruptionBudget"):
        selector = manifest["spec"]["selector"]
        wanted = selector.get("matchLabels", selector).items()
        assert len([pod for pod in pods if wanted <= pod.items()]) == 1, manifest["metadata"]
    names = {(w["kind"], w["metadata"]["name"]) for w in halves(objects)}
    for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) in names


@pytest.mark.parametrize("overlay", ["prod", "sharded"])
def test_prometheus_scrapes_the_metrics_of_both_halves(overlay: str, render: Render) -> None:
    [monitor] = of_kind(render(overlay), "ServiceMonitor")
    selector = monitor["spec"]["selector"]
    wanted = selector["matchLabels"].items()
    [component] = selector["matchExpressions"]
    [endpoint] = monitor["spec"]["endpoints"]
    scraped = {
        service["metadata"]["name"]
        for service in of_kind(render(overlay), "Service")
        if wanted <= service["metadata"]["labels"].items()
        and service["metadata"]["labels"][component["key"]] in component["values"]
        and endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    }
    assert scraped == {"embedding-drift-ingest", "embedding-drift-exporter"}
    # Of the secret that README.md makes.
    wanted_by_ingest = endpoint["authorization"]["credentials"]
    assert wanted_by_ingest == {"name": "embedding-drift-tokens", "key": "scrape"}
    made = r"secret generic embedding-drift-tokens .*\n.*--from-file=scrape"
    assert re.search(made, (FOLDER / "README.md").read_text())
    routes = {
        route.path
        for route in application.application(CollectorRegistry(), LiveSettings(load)).routes
        if isinstance(route, Route)
    }
    assert endpoint["path"] in routes


def test_each_pod_of_the_sharded_exporter_follows_a_different_share(
    render: Render, tmp_path: Path
) -> None:
    objects = render("sharded")
    [workload] = of_kind(halves(objects), "StatefulSet")
    settings = configuration(objects, workload, tmp_path)
    name, replicas = workload["metadata"]["name"], workload["spec"]["replicas"]
    shares = [shard(settings.monitoring, f"{name}-{ordinal}") for ordinal in range(replicas)]
    assert [share.ordinal for share in shares] == list(range(replicas))
    assert {share.total for share in shares} == {replicas}


def test_each_pod_of_the_sharded_exporter_has_a_name_in_dns(render: Render) -> None:
    objects = render("sharded")
    [workload] = of_kind(halves(objects), "StatefulSet")
    [service] = [
        found["spec"]
        for found in of_kind(objects, "Service")
        if found["metadata"]["name"] == workload["spec"]["serviceName"]
    ]
    assert service["clusterIP"] == "None"
    assert selects({"matchLabels": service["selector"]}, workload)


@pytest.mark.parametrize(
    ("secret", "key"),
    [("embedding-drift-database", "connection_string"), ("embedding-drift-slack", "slack_webhook")],
)
def test_the_secrets_are_those_that_terraform_creates(
    secret: str, key: str, render: Render
) -> None:
    hand_over = (ROOT / "terraform" / "hand-over.sh.tftpl").read_text()
    made = re.search(rf"secret generic {secret} \\\n.*--from-file={key}=", hand_over)
    assert made
    text = yaml.dump(render("prod"))
    assert secret in text
    assert key in text
