"""The chart follows its values, and rejects those that it does not know."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter import cli as exporter_cli
from ingest.runtime.settings import document
from ingest.runtime.settings.configuration import load
from k8s.helm import CHART, NAME, render
from k8s.manifest import Manifest
from k8s.manifest import load as read
from rules.render import render as render_rules
from tests.k8s.overlays import containers, halves, of_kind, pods, selects

pytestmark = pytest.mark.usefixtures("helm")

Chart = Callable[..., list[Manifest]]


@pytest.fixture
def chart(tmp_path: Path) -> Chart:
    """Render the chart with values."""

    def rendered(values: dict[str, Any], **names: str) -> list[Manifest]:
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        return render(file, **names)

    return rendered


@pytest.fixture
def hooks(helm: str, tmp_path: Path) -> Chart:
    """Render what `helm test` creates, with values."""

    def rendered(values: dict[str, Any]) -> list[Manifest]:
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        command = [helm, "template", NAME, str(CHART), "--kube-version=1.34.0", f"--values={file}"]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        return [
            found
            for found in read(answer.stdout)
            if found["metadata"].get("annotations", {}).get("helm.sh/hook") == "test"
        ]

    return rendered


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"exporter": {"shard": 3}}, "'shard' not allowed"),
        ({"config": {"server": {"prot": 1}}}, "'prot' not allowed"),
        ({"image": {"pullPolicy": "never"}}, "'Always', 'IfNotPresent', 'Never'"),
        ({"ingress": {"enabled": True}}, "need externalUrl"),
        ({"config": {"server": {"port": 8080}}}, "config.server.port: the chart sets the ports"),
        (
            {"config": {"database": {"connection_string": "postgresql://x"}}},
            "config.database.connection_string: the configuration is no secret",
        ),
        (
            {"config": {"alerting": {"slack_webhook": "https://hooks.slack.com/services/x"}}},
            "config.alerting.slack_webhook: the configuration is no secret",
        ),
        ({"config": {"monitoring": {"shard": 0}}}, "config.monitoring.shard: the chart sets"),
        (
            {"config": {"monitoring": {"total_shards": 3}}},
            "config.monitoring.total_shards: the chart sets the shards; use exporter.shards",
        ),
        (
            {"externalUrl": "https://drift.example.org", "httpRoute": {"enabled": True}},
            "httpRoute.parentRefs: name the gateway",
        ),
        *(
            ({"externalUrl": url, half: {"enabled": True, **more}}, f"cannot use the host of {url}")
            for half, more in (("ingress", {}), ("httpRoute", {"parentRefs": [{"name": "a"}]}))
            for url in (
                "https://[2001:db8::1]:8443",
                "https://192.0.2.10",
                "https://drift_a.example.org",
                "https://drift.example.org.",
                f"https://{'a' * 64}.example.org",
            )
        ),
        *(
            (
                {half: {"podLabels": {label: "other"}}},
                f"{half}.podLabels: {label} is set by the chart",
            )
            for half in ("ingest", "exporter")
            for label in (
                "app.kubernetes.io/name",
                "app.kubernetes.io/instance",
                "app.kubernetes.io/component",
            )
        ),
        ({"networkPolicy": {"databasePorts": []}}, "/networkPolicy/databasePorts"),
        ({"scheme": "HTTPS"}, "'http', 'https'"),
        (
            {"database": {"connectionString": "postgresql://x", "trial": {"enabled": True}}},
            "only one of existingSecret, connectionString, trial and cnpg",
        ),
        *(
            ({"database": {"cnpg": {"parameters": {"a": value}}}}, "/database/cnpg/parameters/a")
            for value in ({"b": 1}, [1])
        ),
        *(
            ({override: name}, f'{name.replace(".", "-")}" is no prefix')
            for override in ("nameOverride", "fullnameOverride")
            for name in ("My.Drift", "a_b")
        ),
    ],
)
def test_a_wrong_value_is_an_error_that_names_it(
    values: dict[str, Any], message: str, chart: Chart
) -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        chart(values)
    assert message in error.value.stderr


@pytest.mark.parametrize(
    ("values", "expected"),
    [({}, None), ({"scaleDown": {"stabilizationWindowSeconds": 30}},) * 2],
    ids=["default", "own"],
)
def test_the_autoscaler_has_the_behavior_of_kubernetes_or_the_one_given(
    values: dict[str, Any], expected: dict[str, Any] | None, chart: Chart
) -> None:
    objects = chart({"autoscaling": {"behavior": values}})
    [autoscaler] = of_kind(objects, "HorizontalPodAutoscaler")
    assert autoscaler["spec"].get("behavior") == expected


RULES_CONFIG = {
    "alerting": {
        "exporter_url": "https://drift.example.org",
        "dashboard_url": "https://grafana.example.org/d/model?orgId=1",
        "alert_threshold": 0.35,
        "watchdog": True,
        "escalation": {"info_after": 7200},
    },
    "monitoring": {
        "drift_threshold": 0.123,
        "baseline": {"vectors": 50_000},
        "models": {"a": {"drift_threshold": 0.3, "alert_threshold": 0.6}, "b": {}},
    },
}


@pytest.mark.parametrize("config", [{}, RULES_CONFIG], ids=["defaults", "own"])
def test_the_alert_rules_are_those_that_the_program_renders(
    config: dict[str, Any], chart: Chart, tmp_path: Path
) -> None:
    objects = chart({"config": config, "prometheusRule": {"enabled": True}})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    files = render_rules(load(tmp_path / "config.yaml"), tmp_path / "rules")
    expected = {
        file.name.removesuffix(".rules.yaml"): yaml.safe_load(file.read_text())["groups"]
        for file in files
        if file.name.endswith(".rules.yaml")
    }
    for groups in expected.values():
        for rule in (rule for group in groups for rule in group["rules"]):
            if "alert" in rule:
                rule["labels"]["namespace"] = NAME
    assert len(expected) == 4 + bool(config)
    found = {
        rule["metadata"]["name"].removeprefix(f"{NAME}-"): rule["spec"]["groups"]
        for rule in of_kind(objects, "PrometheusRule")
    }
    assert {name: list(map(plain, groups)) for name, groups in found.items()} == {
        name: list(map(plain, groups)) for name, groups in expected.items()
    }


def plain(group: dict[str, Any]) -> dict[str, Any]:
    """Order the rules, and write thresholds as numbers: Go writes 3600.0 as 3600."""

    def expression(text: str) -> str:
        found = re.fullmatch(r"vector\((.*)\)", text)
        return f"vector({float(found[1])})" if found else text

    rules = [rule | {"expr": expression(rule["expr"])} for rule in group["rules"]]
    if "thresholds" in group["name"]:
        rules.sort(key=lambda rule: json.dumps(rule, sort_keys=True))
    return group | {"rules": rules}


def test_promtool_accepts_the_rules(
    chart: Chart, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    for rule in of_kind(chart({"prometheusRule": {"enabled": True}}), "PrometheusRule"):
        file = tmp_path / "rules.yaml"
        file.write_text(yaml.safe_dump(rule["spec"]))
        answer = subprocess.run([tool("promtool"), "check", "rules", file], capture_output=True)
        assert answer.returncode == 0, answer.stdout + answer.stderr


def test_alerts_have_the_namespace_of_the_release_and_every_name_its_prefix(chart: Chart) -> None:
    everything = {
        "prometheusRule": {"enabled": True},
        "alertmanagerConfig": {"enabled": True},
        "serviceMonitor": {"enabled": True},
        "dashboards": {"enabled": True},
        "database": {"trial": {"enabled": True}},
        "fullnameOverride": "search",
    }
    objects = chart(everything, namespace="embeddings")
    assert {found["metadata"]["namespace"] for found in objects} == {"embeddings"}
    names = {found["metadata"]["name"] for found in objects}
    assert {name for name in names if re.match(r"search(-|$)", name)} == names
    labels = {
        rule["labels"]["namespace"]
        for manifest in of_kind(objects, "PrometheusRule")
        for group in manifest["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    assert labels == {"embeddings"}
    text = yaml.safe_dump(of_kind(objects, "AlertmanagerConfig"))
    assert "search-slack" in text
    assert "embedding-drift-slack" not in text


def test_two_releases_select_only_their_own_pods(chart: Chart) -> None:
    def selectors(release: str) -> set[str]:
        objects = chart({"serviceMonitor": {"enabled": True}}, release=release)
        return {
            repr(found["spec"].get("selector") or found["spec"].get("podSelector"))
            for found in of_kind(
                objects, "Service", "Deployment", "NetworkPolicy", "PodDisruptionBudget"
            )
        }

    ours, theirs = selectors("ours"), selectors("theirs")
    assert ours.isdisjoint(theirs)
    assert all("'ours'" in selector for selector in ours)


def test_a_release_with_dots_in_its_name_has_services_without_them(chart: Chart) -> None:
    everything = {
        "exporter": {"shards": 2},
        "database": {"trial": {"enabled": True}},
        "ingress": {"enabled": True},
        "externalUrl": "https://drift.example.org",
    }
    objects = chart(everything, release="v1.drift")
    services = {found["metadata"]["name"]: found for found in of_kind(objects, "Service")}
    prefix = "v1-drift-embedding-drift"
    assert services.keys() == {
        f"{prefix}-{suffix}" for suffix in ("ingest", "exporter", "exporter-pods", "postgresql")
    }
    workloads = of_kind(objects, "Deployment", "StatefulSet")
    for service in services.values():
        selector = {"matchLabels": service["spec"]["selector"]}
        assert [found for found in workloads if selects(selector, found)]
    for workload in workloads:
        assert selects(workload["spec"]["selector"], workload)
        assert workload["spec"].get("serviceName", f"{prefix}-ingest") in services
    [ingress] = of_kind(objects, "Ingress")
    [path] = ingress["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"]["name"] in services


def test_a_release_whose_name_no_service_may_have_is_refused(chart: Chart) -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        chart({}, release="2024.drift")
    assert '"2024-drift-embedding-drift" is no prefix' in error.value.stderr
    found = chart({"fullnameOverride": "drift-2024"}, release="2024.drift")
    assert of_kind(found, "Service")[0]["metadata"]["name"].startswith("drift-2024-")
    found = chart({"fullnameOverride": "drift--"})
    assert of_kind(found, "Service")[0]["metadata"]["name"].startswith("drift-exporter")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1GB", "1GB"),
        ("0755", "0755"),
        (300, "300"),
        (1_000_000, "1000000"),
        (12_345_678_901, "12345678901"),
        (1234567.5, "1234567.5"),
        (0.9, "0.9"),
        (True, "true"),
        (False, "false"),
    ],
)
def test_parameters_of_cloudnativepg_are_texts(value: object, expected: str, chart: Chart) -> None:
    values = {"enabled": True, "parameters": {"pg_stat_statements.max": value}}
    [cluster] = of_kind(chart({"database": {"cnpg": values}}), "Cluster")
    assert cluster["spec"]["postgresql"]["parameters"] == {
        "max_connections": "200",
        "shared_buffers": "1GB",
        "pg_stat_statements.max": expected,
    }


def test_an_upgrade_keeps_tokens_that_were_added_to_the_secret(chart: Chart) -> None:
    hashes = {name: name[0] * 64 for name in ("clients", "prometheus", "extra", "flow")}

    def entry(name: str) -> dict[str, Any]:
        return {"name": name, "sha256": hashes[name], "scopes": [f"write:{name}", "metrics"]}

    def kept(text: str) -> Any:
        # Helm reads the old secret only from a cluster.
        names = '(list "clients" "prometheus")'
        include = (
            f'include "embedding-drift.addedTokens" (dict "file" {json.dumps(text)} "made" {names})'
        )
        config_map = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "kept"},
            "data": {"text": f"{{{{ {include} | toJson }}}}"},
        }
        text = yaml.safe_dump(config_map, width=10_000).replace("'{{", "{{").replace("}}'", "}}")
        [found] = [
            found
            for found in chart({"extraManifests": [text]})
            if found["metadata"]["name"] == "kept"
        ]
        return yaml.safe_load(found["data"]["text"])

    made, added = [entry("clients"), entry("prometheus")], [entry("extra"), entry("flow")]
    assert kept(yaml.safe_dump(made)) is None
    assert kept("") is None
    assert kept(yaml.safe_dump(made + added)) == added
    # As `embedding-drift token` writes them.
    assert kept("".join(f"- {json.dumps(each)}\n" for each in made + added)) == added
    for broken in ("a: 1", "- [", "- clients"):
        with pytest.raises(subprocess.CalledProcessError) as error:
            kept(broken)
        assert "correct the secret" in error.value.stderr


@pytest.mark.parametrize(
    ("ingest", "expected"),
    [
        # The ratio may also come from a variable of ingest.
        ({}, {"helm-test": {"sample_ratio": 1}}),
        ({"ids": "once"}, {"helm-test": {"sample_ratio": 1}}),
        ({"sample_ratio": 0.1}, {"helm-test": {"sample_ratio": 1}}),
        (
            {"sample_ratio": 0.1, "models": {"a": {"sample_ratio": 0.5}}},
            {"a": {"sample_ratio": 0.5}, "helm-test": {"sample_ratio": 1}},
        ),
        (
            {"sample_ratio": 0.1, "models": {"helm-test": {"sample_ratio": 0.2}}},
            {"helm-test": {"sample_ratio": 0.2}},
        ),
    ],
)
def test_the_vector_of_helm_test_is_stored_whatever_the_share_of_the_others(
    ingest: dict[str, Any], expected: dict[str, Any], chart: Chart, tmp_path: Path
) -> None:
    [config] = of_kind(chart({"config": {"ingest": ingest}}), "ConfigMap")
    text = config["data"]["config.yaml"]
    assert yaml.safe_load(text)["ingest"]["models"] == expected
    (tmp_path / "config.yaml").write_text(text)
    settings = load(tmp_path / "config.yaml", {"EMBEDDING_DRIFT_INGEST_SAMPLE_RATIO": "0.1"})
    ratio = expected["helm-test"]["sample_ratio"]
    assert settings.ingest.models["helm-test"].sample_ratio == ratio


def test_dashboards_have_file_names_of_their_release(chart: Chart) -> None:
    values = {"dashboards": {"enabled": True}, "fullnameOverride": "search"}
    [dashboards] = [
        found["data"]
        for found in of_kind(chart(values), "ConfigMap")
        if found["metadata"]["name"] == "search-dashboards"
    ]
    files = sorted((CHART / "files" / "dashboards").glob("*.json"))
    assert {key: json.loads(text) for key, text in dashboards.items()} == {
        f"search-{file.name}": json.loads(file.read_text()) for file in files
    }


def test_a_change_of_the_configuration_replaces_the_pods(chart: Chart) -> None:
    def checksums(config: dict[str, Any]) -> set[str]:
        return {
            half["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
            for half in halves(chart({"config": config}))
        }

    before, after = checksums({}), checksums({"monitoring": {"drift_threshold": 0.3}})
    assert len(before) == len(after) == 1
    assert before != after


def test_the_program_reads_a_small_number_as_helm_writes_it(chart: Chart) -> None:
    models = {"search": {"sample_ratio": 1e-5}}
    [config] = of_kind(chart({"config": {"ingest": {"models": models}}}), "ConfigMap")
    written = config["data"]["config.yaml"]
    assert "sample_ratio: 1e-05" in written
    assert document.parse(written).values["ingest"]["models"].items() >= models.items()


def test_one_address_gives_an_ingress_a_route_and_the_links_in_alerts(chart: Chart) -> None:
    objects = chart(
        {
            "externalUrl": "https://Drift.example.org:8443",
            "ingress": {"enabled": True, "tlsSecret": "certificate"},
            "httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}]},
            "alertmanagerConfig": {"enabled": True},
        }
    )
    [ingress] = of_kind(objects, "Ingress")
    [rule] = ingress["spec"]["rules"]
    assert rule["host"] == "drift.example.org"
    assert ingress["spec"]["tls"][0]["hosts"] == ["drift.example.org"]
    [route] = of_kind(objects, "HTTPRoute")
    assert route["spec"]["hostnames"] == ["drift.example.org"]
    [config] = of_kind(objects, "ConfigMap")
    alerting = yaml.safe_load(config["data"]["config.yaml"])["alerting"]
    assert alerting["exporter_url"] == "https://Drift.example.org:8443"
    assert "port-forward" not in yaml.safe_dump(of_kind(objects, "AlertmanagerConfig"))


def test_without_an_address_messages_say_how_to_forward_the_port_of_the_links(
    chart: Chart,
) -> None:
    objects = chart({"alertmanagerConfig": {"enabled": True}}, namespace="embeddings")
    [routing] = of_kind(objects, "AlertmanagerConfig")
    [service] = [
        found["metadata"]["name"]
        for found in of_kind(objects, "Service")
        if found["metadata"]["name"].endswith("-exporter")
    ]
    command = f"kubectl port-forward --namespace embeddings service/{service} {exporter_cli.PORT}"
    footers = {
        slack["footer"]
        for receiver in routing["spec"]["receivers"]
        for slack in receiver.get("slackConfigs", [])
    }
    assert len(footers) == 1
    assert footers.pop().endswith(command)
    [config] = of_kind(objects, "ConfigMap")
    url = yaml.safe_load(config["data"]["config.yaml"])["alerting"]["exporter_url"]
    assert url == f"http://127.0.0.1:{exporter_cli.PORT}"


@pytest.mark.parametrize("half", ["ingest", "exporter"])
def test_what_kubernetes_defines_goes_into_the_pods_as_it_is(half: str, chart: Chart) -> None:
    values: dict[str, Any] = {
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 2}],
        "priorityClassName": "high",
    }
    extra: dict[str, Any] = {
        "podAnnotations": {"a": "1"},
        "podLabels": {"b": "2"},
        "extraEnv": [{"name": "A", "value": "1"}],
        "extraVolumes": [{"name": "more", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
        "resources": {"requests": {"cpu": "2"}},
    }
    objects = chart(
        {
            half: values | extra,
            "image": {"registry": "registry.example.org", "digest": f"sha256:{'a' * 64}"},
            "imagePullSecrets": [{"name": "pull"}],
        }
    )
    [workload] = [
        found for found in halves(objects) if found["metadata"]["name"].endswith(f"-{half}")
    ]
    [pod], container = pods(workload), containers(workload)[-1]
    assert {key: pod[key] for key in values} == values
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert container["image"] == (
        f"registry.example.org/embedding-drift-exporter@sha256:{'a' * 64}"
    )
    assert extra["extraEnv"][0] in container["env"]
    assert extra["extraVolumes"][0] in pod["volumes"]
    assert extra["extraVolumeMounts"][0] in container["volumeMounts"]
    assert container["resources"]["requests"]["cpu"] == "2"
    template = workload["spec"]["template"]["metadata"]
    assert template["annotations"].items() >= extra["podAnnotations"].items()
    assert template["labels"].items() >= extra["podLabels"].items()


def test_more_objects_are_templates(chart: Chart) -> None:
    more = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-x"}}
    objects = chart({"extraManifests": [more, yaml.safe_dump(more).replace("-x", "-y")]})
    names = {found["metadata"]["name"] for found in of_kind(objects, "ConfigMap")}
    assert {f"{NAME}-x", f"{NAME}-y"} <= names


def test_every_value_is_described() -> None:
    found = (CHART / "README.md").read_text()
    lines = (CHART / "values.yaml").read_text().splitlines()
    leaves = [
        line
        for before, line in itertools.pairwise(lines)
        if re.fullmatch(r" *[A-Za-z]+: .*", line) and not before.lstrip().startswith("#")
    ]
    # Only within values that Kubernetes defines.
    assert {line.split(":")[0].strip() for line in leaves} <= {
        "requests",
        "limits",
        "runAsNonRoot",
        "runAsUser",
        "runAsGroup",
        "fsGroup",
        "seccompProfile",
        "allowPrivilegeEscalation",
        "readOnlyRootFilesystem",
        "capabilities",
        "shared_buffers",
    }
    assert found.count("\n| `") > 80


def test_the_pod_of_helm_test_may_connect_to_both_halves_while_it_runs(hooks: Chart) -> None:
    found = hooks({})
    [pod] = of_kind(found, "Pod")
    labels = pod["metadata"]["labels"]
    leaving, entering = of_kind(found, "NetworkPolicy")
    assert leaving["spec"]["podSelector"]["matchLabels"] == labels
    [to] = leaving["spec"]["egress"]
    [to_pods] = to["to"]
    assert entering["spec"]["podSelector"] == to_pods["podSelector"]
    [into] = entering["spec"]["ingress"]
    assert into["from"] == [{"podSelector": {"matchLabels": labels}}]
    for half in halves(render()):
        assert selects(to_pods["podSelector"], half)
        assert not selects({"matchLabels": labels}, half)


def test_the_pod_of_helm_test_runs_where_ingest_does_with_its_files_and_variables(
    hooks: Chart,
) -> None:
    trusted = {"name": "SSL_CERT_FILE", "value": "/authority/ca.crt"}
    mount = {"name": "authority", "mountPath": "/authority"}
    volume = {"name": "authority", "secret": {"secretName": "authority"}}
    where: dict[str, Any] = {
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
    }
    values = {"extraEnv": [trusted], "extraVolumeMounts": [mount], "extraVolumes": [volume]}
    [pod] = of_kind(hooks({"ingest": values | where}), "Pod")
    [container] = containers(pod)
    assert trusted in container["env"]
    assert mount in container["volumeMounts"]
    assert volume in pod["spec"]["volumes"]
    assert {field: pod["spec"][field] for field in where} == where


def test_https_reaches_probes_scrapes_links_and_helm_test(chart: Chart, hooks: Chart) -> None:
    authority = {"ca": {"secret": {"name": "authority", "key": "ca.crt"}}}
    user = {
        "username": {"name": "scrape", "key": "username"},
        "password": {"name": "scrape", "key": "password"},
    }
    values = {
        "scheme": "https",
        "serviceMonitor": {"enabled": True, "tlsConfig": authority, "basicAuth": user},
        "alertmanagerConfig": {"enabled": True},
    }
    objects = chart(values)
    asked = [
        containers(half)[-1][f"{probe}Probe"]["httpGet"]["scheme"]
        for half in halves(objects)
        for probe in ("startup", "liveness", "readiness")
    ]
    assert asked == 6 * ["HTTPS"]
    [monitor] = of_kind(objects, "ServiceMonitor")
    [endpoint] = monitor["spec"]["endpoints"]
    assert (endpoint["scheme"], endpoint["tlsConfig"]) == ("https", authority)
    # Prometheus accepts only one way to authenticate.
    assert endpoint["basicAuth"] == user
    assert "authorization" not in endpoint
    [config] = of_kind(objects, "ConfigMap")
    url = yaml.safe_load(config["data"]["config.yaml"])["alerting"]["exporter_url"]
    assert url == f"https://127.0.0.1:{exporter_cli.PORT}"
    assert "port-forward" in yaml.safe_dump(of_kind(objects, "AlertmanagerConfig"))
    [pod] = of_kind(hooks(values), "Pod")
    urls = [each["value"] for each in containers(pod)[0]["env"] if "://" in each.get("value", "")]
    assert [found.split(":")[0] for found in urls] == ["https", "https"]


def test_a_database_may_have_several_ports(chart: Chart) -> None:
    objects = chart({"networkPolicy": {"databasePorts": [6432, 5432]}})
    [egress] = [
        policy["spec"]["egress"]
        for policy in of_kind(objects, "NetworkPolicy")
        if "egress" in policy["spec"]
    ]
    assert egress[-1] == {"ports": [{"protocol": "TCP", "port": port} for port in (6432, 5432)]}


@pytest.mark.parametrize("own", ["trial", "cnpg"])
def test_other_ports_do_not_keep_the_pods_from_the_database_of_the_chart(
    own: str, chart: Chart
) -> None:
    objects = chart(
        {"database": {own: {"enabled": True}}, "networkPolicy": {"databasePorts": [6432]}}
    )
    [egress] = [
        policy["spec"]["egress"]
        for policy in of_kind(objects, "NetworkPolicy")
        if policy["spec"].get("egress")
    ]
    _, database = egress
    assert database["ports"] == [{"protocol": "TCP", "port": 5432}]
    assert [list(peer) for peer in database["to"]] == [["podSelector"]]


@pytest.mark.parametrize(
    ("own", "ports"), [("trial", ["postgresql"]), ("cnpg", [5432, 9187])], ids=["trial", "cnpg"]
)
def test_others_may_connect_to_the_database_of_the_chart(
    own: str, ports: list[int | str], chart: Chart
) -> None:
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    objects = chart(
        {"database": {own: {"enabled": True}}, "networkPolicy": {"databaseFrom": [peer]}}
    )
    [policy] = [
        found["spec"]
        for found in of_kind(objects, "NetworkPolicy")
        if found["metadata"]["name"] in ("embedding-drift-postgresql", "embedding-drift-store")
    ]
    [rule] = [rule for rule in policy["ingress"] if peer in rule["from"]]
    assert [port["port"] for port in rule["ports"]] == ports


def test_an_empty_list_of_peers_allows_nobody(chart: Chart) -> None:
    objects = chart({"networkPolicy": {"exporterFrom": []}})
    [policy] = [
        each
        for each in objects
        if each["metadata"]["name"] == "embedding-drift-exporter"
        and each["kind"] == "NetworkPolicy"
    ]
    assert policy["spec"]["ingress"] == []


def test_the_migration_has_the_variables_and_volumes_of_ingest(chart: Chart) -> None:
    owner = {"name": "EMBEDDING_DRIFT_DATABASE_ADMIN_CONNECTION_STRING_FILE", "value": "/own/owner"}
    mount = {"name": "own", "mountPath": "/own"}
    values = {"ingest": {"extraEnv": [owner], "extraVolumeMounts": [mount]}}
    [pod] = [
        each["spec"]["template"]["spec"]
        for each in chart(values)
        if each["kind"] == "Deployment" and each["metadata"]["name"].endswith("ingest")
    ]
    for container in (*pod["initContainers"], *pod["containers"]):
        assert owner in container["env"]
        assert mount in container["volumeMounts"]
        assert {"name": "EMBEDDING_DRIFT_CONFIG", "value": "/etc/embedding-drift/config.yaml"} in (
            container["env"]
        )


def test_an_exporter_answers_only_names_by_which_it_is_called(chart: Chart) -> None:
    def names(values: dict[str, Any]) -> list[str] | None:
        [exporter] = [
            each
            for each in chart(values)
            if each["kind"] in ("Deployment", "StatefulSet")
            and each["metadata"]["name"].endswith("exporter")
        ]
        [container] = exporter["spec"]["template"]["spec"]["containers"]
        found = {each["name"]: each.get("value") for each in container["env"]}
        listed = found.get("EMBEDDING_DRIFT_SERVER_ALLOWED_HOSTS")
        return None if listed is None else json.loads(listed)

    service = "embedding-drift-exporter"
    suffixes = (
        "",
        ".embedding-drift",
        ".embedding-drift.svc",
        ".embedding-drift.svc.cluster.local",
    )
    assert names({}) == [service + suffix for suffix in suffixes]
    assert "drift.example.org" in (names({"externalUrl": "https://Drift.example.org:8443"}) or [])
    # Addresses are always answered, and the setting takes names only.
    assert names({"externalUrl": "https://[2001:db8::1]:8443"}) == names({})
    sharded = names({"exporter": {"shards": 2}}) or []
    assert f"{service}-1.{service}-pods.embedding-drift.svc" in sharded
    assert names({"config": {"server": {"allowed_hosts": ["drift"]}}}) is None
