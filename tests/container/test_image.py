"""The built images in containers without rights, on a root that cannot be written.

``make image-check`` builds them and runs these tests.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import httpx2
import numpy as np
import pytest

from demo.stack import free_port
from exporter import cli as exporter_cli
from ingest.runtime.version import __version__
from tests.service import post, wait_for

IMAGE = os.environ.get("TEST_IMAGE", "")
ENGINE = shlex.split(os.environ.get("TEST_ENGINE", "docker"))
pytestmark = pytest.mark.skipif(not IMAGE, reason="TEST_IMAGE names no image; make image-check")

ALL_IN_ONE = f"{IMAGE}-embedded"
"""The image with the embedded database."""

FOLDER = "/var/lib/embedding-drift"
# The same restrictions as in compose.yaml.
RESTRICTED = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
if "podman" in ENGINE:
    # A read-only container of Docker has no writable folders either.
    RESTRICTED.append("--read-only-tmpfs=false")
UNGUARDED = "--env=EMBEDDING_DRIFT_SERVER_ALLOW_UNAUTHENTICATED=true"
# The embedded server of `serve`, for containers that share its volume.
EMBEDDED = f"postgresql://postgres@/postgres?host={FOLDER}/data/postgresql"


def engine(*arguments: str) -> str:
    answer = subprocess.run([*ENGINE, *arguments], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def run(*arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the image until it ends."""
    command = [*ENGINE, "run", "--rm", *RESTRICTED, *options, IMAGE, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def shell(script: str, *options: str) -> str:
    answer = run("-c", script, options=("--entrypoint=sh", *options))
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def is_healthy(container: str) -> bool:
    """Run the health check of the image in the container."""
    check = [*ENGINE, "exec", container, *healthcheck()[1:]]
    return subprocess.run(check, capture_output=True).returncode == 0


@contextmanager
def running(role: str, volume: str, *options: str, image: str = IMAGE) -> Iterator[tuple[str, str]]:
    """Run a role on the network of this machine; give the name and the URL of the container."""
    name = f"embedding-drift-{uuid.uuid4().hex}"
    port = free_port()
    place = [f"--volume={volume}:{FOLDER}", "--network=host"]
    setting = f"--env=EMBEDDING_DRIFT_SERVER_PORT={port}"
    engine(
        "run", "--detach", f"--name={name}", *RESTRICTED, *place, UNGUARDED, setting, *options,
        image, role,
    )  # fmt: skip
    try:
        wait_for(lambda: is_healthy(name), f"health of {role}")
        yield name, f"http://127.0.0.1:{port}"
    finally:
        engine("rm", "--force", name)


@pytest.fixture
def volume() -> Iterator[str]:
    name = f"embedding-drift-{uuid.uuid4().hex}"
    engine("volume", "create", name)
    yield name
    engine("volume", "rm", name)


@cache
def inspected() -> dict[str, Any]:
    [image] = json.loads(engine("image", "inspect", IMAGE))
    return dict(image)


def healthcheck() -> list[str]:
    """Return the command: Docker's place for it is inside the configuration, Podman's beside."""
    image = inspected()
    return list((image.get("Healthcheck") or image["Config"]["Healthcheck"])["Test"])


def metric(url: str, sample: str) -> str | None:
    page = httpx2.get(f"{url}/metrics", timeout=60).text
    found = re.search(rf"^{re.escape(sample)} (\S+)$", page, re.MULTILINE)
    return found and found[1]


def test_it_is_this_version() -> None:
    answer = run("--version")
    assert answer.stdout == f"embedding-drift, version {__version__}\n", answer.stderr


def test_it_runs_serve_as_an_unprivileged_user() -> None:
    config = inspected()["Config"]
    assert config["User"] == "65534:65534"
    assert config["WorkingDir"] == FOLDER
    assert set(config["ExposedPorts"]) == {
        f"{exporter_cli.PORT}/tcp",
        f"{exporter_cli.INGEST_PORT}/tcp",
    }
    assert config["Entrypoint"] == ["embedding-drift"]
    assert config["Cmd"] == ["serve"]
    assert healthcheck()[0] == "CMD"


def test_it_has_no_compiler() -> None:
    programs = "cc c++ gcc g++ clang tcc as ld make cargo rustc embedding-drift"
    found = shell(f"for program in {programs}; do command -v $program; done; true")
    assert found == "/opt/embedding-drift/bin/embedding-drift\n"


def test_its_files_take_at_most_350_mebibytes() -> None:
    sizes = shell("find / -xdev -type f -printf '%s\n' 2>/dev/null; true", "--user=0").split()
    print(f"{sum(map(int, sizes)) / 2**20:.0f} MiB")
    assert sum(map(int, sizes)) <= 350 * 2**20


IMPORTS = """
import importlib, pkgutil
for top in ("embedding_drift_client", "exporter", "ingest"):
    package = importlib.import_module(top)
    for module in pkgutil.walk_packages(package.__path__, f"{top}."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                print(error.name)
"""


def test_its_modules_only_lack_the_libraries_of_extras() -> None:
    answer = run("-c", IMPORTS, options=("--entrypoint=python",))
    assert answer.returncode == 0, answer.stderr
    of_extras = {"confluent_kafka", "dask", "distributed", "h5py", "pyarrow", "qdrant_client"}
    assert set(answer.stdout.split()) <= of_extras


def test_it_has_no_traces_of_its_build() -> None:
    look = "find / -xdev -name pip.conf -o -path /source -o -name healthcheck.py 2>/dev/null; true"
    assert shell(look, "--user=0") == "/opt/healthcheck.py\n"
    assert not [name for name in inspected()["Config"]["Env"] if name.startswith("PIP_")]


def test_only_its_folder_is_writable() -> None:
    kernels = r"\( -path /proc -o -path /sys -o -path /dev \) -prune"
    look = f"find / {kernels} -o -writable ! -type l -print 2>/dev/null; true"
    assert shell(look) == ""
    assert shell(look, f"--volume={FOLDER}").split() == [FOLDER]


def test_it_has_no_rights() -> None:
    status = shell("id -u; grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status").split()
    assert status == ["65534", "CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1"]


def test_it_does_not_serve_other_addresses_without_credentials() -> None:
    answer = run("serve")
    assert answer.returncode == 2
    assert "server.allow_unauthenticated" in answer.stderr


def test_the_health_check_fails_if_nothing_answers() -> None:
    assert run("/opt/healthcheck.py", options=("--entrypoint=python",)).returncode == 1


def test_without_a_database_of_its_own_it_says_what_to_set() -> None:
    answer = run("serve", options=(UNGUARDED, f"--volume={FOLDER}"))
    assert answer.returncode == 2
    assert "not installed: set database.connection_string" in answer.stderr


def test_everything_runs_in_one_container_and_its_volume_stays(volume: str) -> None:
    stored = 'embedding_drift_vectors_total{model_name="m"}'
    with running("serve", volume, image=ALL_IN_ONE) as (container, url):
        assert post(url, np.ones((3, 4), np.float32)).status_code == 201
        wait_for(lambda: metric(url, stored) == "3.0", "the vectors in the metrics")
        engine("stop", container)
        assert engine("inspect", "--format={{.State.ExitCode}}", container).strip() == "0"
    with running("serve", volume, image=ALL_IN_ONE) as (container, url):
        wait_for(lambda: metric(url, stored) == "3.0", "the vectors after the restart")


def test_both_halves_run_on_one_database(volume: str) -> None:
    store = f"--env=EMBEDDING_DRIFT_DATABASE_CONNECTION_STRING={EMBEDDED}"
    with (
        running("serve", volume, image=ALL_IN_ONE),
        running("ingest", volume, store) as (_, ingest),
        running("exporter", volume, store) as (_, exporter),
    ):
        assert post(ingest, np.ones((2, 4), np.float32)).status_code == 201
        assert metric(ingest, 'embedding_drift_ingest_vectors_total{model_name="m"}') == "2.0"
        stored = 'embedding_drift_vectors_total{model_name="m"}'
        wait_for(lambda: metric(exporter, stored) == "2.0", "the vectors in the exporter's metrics")


def test_prometheus_and_alertmanager_can_read_the_rendered_files(volume: str) -> None:
    place = f"--volume={volume}:{FOLDER}"
    webhook = "--env=EMBEDDING_DRIFT_ALERTING_SLACK_WEBHOOK=https://hooks.example.org/secret"
    answer = run("rules", "render", "--output", FOLDER, options=(place, webhook))
    assert answer.returncode == 0, answer.stderr
    files = shell(f"stat --format='%n %u %a' {FOLDER}/*", f"{place}:ro")
    assert f"{FOLDER}/slack_webhook 65534 600\n" in files
    assert f"{FOLDER}/alertmanager.yml 65534 " in files
    assert ".rules.yaml 65534 " in files
