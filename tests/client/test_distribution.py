"""The distribution brings one package, and needs numpy and one HTTP library only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import embedding_drift_client
from embedding_drift_client import errors
from embedding_drift_client.values import as_id
from ingest.formats import checks
from ingest.runtime import model_name
from ingest.runtime.version import __version__
from tests.network import Network, Shelf

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "client"
PROJECT = tomllib.loads((CLIENT / "pyproject.toml").read_text())
SERVER = tomllib.loads((ROOT / "pyproject.toml").read_text())
NEEDED = {Requirement(text).name for text in PROJECT["project"]["dependencies"]}

PROGRAM = """
import sys

allowed = {"embedding_drift_client", *sys.stdlib_module_names, *sys.argv[2:]}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(f"{name} is not installed with the client", name=name)

before = set(sys.modules)
sys.meta_path.insert(0, Blocker())

import asyncio
from embedding_drift_client import AsyncClient, Client, Sender

beside = {"ids": ["a"], "metadata": [{"n": {1}}], "timestamps": [7]}
with Client(sys.argv[1], "m", close_timeout=60) as client:
    client.add([[1.0, 2.0]], **beside)

async def run():
    async with AsyncClient(sys.argv[1], "m", close_timeout=60) as client:
        client.add([[1.0, 2.0]], **beside)
    return client.sent

with Sender(sys.argv[1], "m") as sender:
    answer = sender.send([[1.0, 2.0]], **beside)
print(client.sent, asyncio.run(run()), answer.stored)
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before} - allowed))
"""


def normalized(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def closure(names: set[str]) -> set[str]:
    """The distributions that pip installs for these."""
    found: set[str] = set()
    todo = {normalized(name) for name in names}
    while todo:
        name = todo.pop()
        found.add(name)
        wanted = map(Requirement, requires(name) or ())
        todo |= {
            normalized(requirement.name)
            for requirement in wanted
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        } - found
    return found


def test_the_client_needs_numpy_and_one_http_library() -> None:
    assert {"httpx2", "numpy"} == NEEDED


def test_the_client_runs_where_only_its_dependencies_are_installed(
    network: Network, shelf: Shelf, tmp_path: Path
) -> None:
    installed = closure(NEEDED)
    modules = [
        module
        for module, distributions in packages_distributions().items()
        if any(normalized(name) in installed for name in distributions)
    ]
    assert {"numpy", "httpx2"} <= set(modules)
    assert not {"msgspec", "ingest", "exporter", "pandas"} & set(modules)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, network.url, *modules],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(CLIENT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (done.stdout, done.stderr) == ("1 1 1\n\n", "")
    assert len(shelf) == 3


def test_the_wheel_has_one_package_with_types_and_a_license() -> None:
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packages == ["embedding_drift_client"]
    assert (CLIENT / "embedding_drift_client" / "py.typed").is_file()
    assert (CLIENT / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_client_and_server_have_the_same_version() -> None:
    assert PROJECT["project"]["version"] == __version__
    name = PROJECT["project"]["name"]
    assert f"{name}=={__version__}" in SERVER["project"]["dependencies"]
    assert PROJECT["project"]["requires-python"] == SERVER["project"]["requires-python"]


def test_every_public_name_is_there() -> None:
    public = embedding_drift_client.__all__
    assert sorted(public) == public
    assert all(hasattr(embedding_drift_client, name) for name in public)
    kinds = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.ClientError)
    }
    assert kinds <= set(public)
    assert all(f"── {name}" in (errors.__doc__ or "") for name in kinds - {"ClientError"})


@pytest.mark.parametrize(
    "id_", ["", "a", "a" * 255, "a" * 256, "\x1f", "\x7f", "\x9f", "\xa0", " "]
)
def test_the_client_allows_the_ids_that_the_service_allows(id_: str) -> None:
    try:
        allowed = as_id(id_) == id_
    except ValueError:
        allowed = False
    assert allowed == (checks.vector_id(id_) is None)


@pytest.mark.parametrize(
    "name",
    [
        *("", "a", "a" * 128, "a" * 129, "org/model:v1", "/a", "a/", "a b", "é", "a@b+c-d_e.f"),
        *(
            "a\n",
            "..",
            "a/../b",
            "\u6a21\u578b",
            "a\u200bb",
            'a"b',
            "a\\b",
            "<a>",
            "@cf/a",
            "\ufffd",
        ),
    ],
)
def test_the_client_allows_the_model_names_that_the_service_allows(name: str) -> None:
    try:
        embedding_drift_client.Sender("http://127.0.0.1:1", name)
        allowed = True
    except embedding_drift_client.PayloadError:
        allowed = False
    assert allowed == model_name.is_legal(name)
