"""The workflows of the forge are valid and pinned, and use commands that exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingest.runtime.version import __version__

ROOT = Path(__file__).parent.parent
WORKFLOWS = {file.stem: file for file in sorted((ROOT / ".github" / "workflows").glob("*.yaml"))}
MATRIX = ROOT / ".ci" / "matrix"
MAKE = re.compile(r"\bmake ([a-z-]+)")


def steps(workflow: str) -> Iterator[dict[str, Any]]:
    for job in yaml.safe_load(WORKFLOWS[workflow].read_text())["jobs"].values():
        yield from job.get("steps", [])


def commands(text: str) -> set[str]:
    return set(MAKE.findall(text))


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_the_workflow_is_valid(workflow: str) -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    answer = subprocess.run(
        [*check, "vendor.github-workflows", WORKFLOWS[workflow]], capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_every_make_command_exists(workflow: str) -> None:
    called = commands("\n".join(step.get("run", "") for step in steps(workflow)))
    assert called
    assert called <= targets()


def test_the_workflow_runs_every_command_of_ci_run() -> None:
    called = commands("\n".join(step.get("run", "") for step in steps("ci")))
    assert commands((ROOT / ".ci" / "run").read_text()) <= called


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_every_action_is_pinned_to_a_commit_and_a_comment_has_its_version(workflow: str) -> None:
    used = re.findall(r"uses: (.+)", WORKFLOWS[workflow].read_text())
    assert used
    for action in used:
        pinned = re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)
        assert pinned or action.startswith("./"), action


def test_every_python_and_postgresql_that_the_readme_names_is_tested() -> None:
    readme = (ROOT / "README.md").read_text()
    jobs = yaml.safe_load(WORKFLOWS["ci"].read_text())["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    python = re.search(r"Python 3\.(\d+) to 3\.(\d+)", readme)
    postgresql = re.search(r"PostgreSQL \((\d+) to (\d+)", readme)
    assert python
    assert postgresql
    versions = [f"3.{minor}" for minor in span(python)]
    assert matrix["python"] == versions
    assert jobs["lint"]["strategy"]["matrix"]["python"] == versions
    assert f"\nfor version in {' '.join(versions)}; do\n" in MATRIX.read_text()
    assert matrix["postgresql"] == [str(major) for major in span(postgresql)]


@pytest.mark.parametrize("folder", [".", "client"])
def test_a_registry_shows_every_python_that_the_readme_names(folder: str) -> None:
    named = re.search(r"Python 3\.(\d+) to 3\.(\d+)", (ROOT / "README.md").read_text())
    assert named
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: "
    shown = [text for text in project["classifiers"] if text.startswith(prefix)]
    assert shown == [f"{prefix}3.{minor}" for minor in span(named)]


@pytest.mark.parametrize(("ci", "status"), [("", 0), ("true", 1)])
def test_a_python_that_cannot_be_had_is_passed_over_but_not_on_the_forge(
    tmp_path: Path, ci: str, status: int
) -> None:
    (tmp_path / ".ci").mkdir()
    matrix = Path(shutil.copy(MATRIX, tmp_path / ".ci"))
    (tmp_path / ".ci" / "python").symlink_to("/bin/false")
    (tmp_path / "requirements.lock").touch()
    answer = subprocess.run([matrix], env=os.environ | {"CI": ci}, capture_output=True, text=True)
    assert answer.stderr == "not tested: Python 3.11 3.12 3.13 3.14\n"
    assert answer.returncode == status


def name_image(tag: str, environment: Path) -> subprocess.CompletedProcess[str]:
    """Run the release step that checks the tag and names the image."""
    [script] = [
        step["run"] for step in steps("release") if "GITHUB_REF_NAME#" in step.get("run", "")
    ]
    given = {
        "GITHUB_REF_NAME": tag,
        "GITHUB_ENV": str(environment),
        "IMAGE_REPOSITORY": "registry.example.org/embedding-drift-exporter",
    }
    return subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=ROOT,
        env=os.environ | given,
        capture_output=True,
        text=True,
    )


def test_a_released_image_has_the_tag_of_the_manifests(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    answer = name_image(f"v{__version__}", environment)
    assert answer.returncode == 0, answer.stderr
    chart = yaml.safe_load((ROOT / "k8s/chart/Chart.yaml").read_text())
    values = yaml.safe_load((ROOT / "k8s/chart/values.yaml").read_text())
    written = environment.read_text().strip()
    name = values["image"]["repository"]
    assert written == f"IMAGE=registry.example.org/{name}:{chart['appVersion']}"
    assert chart["version"] == chart["appVersion"]


def test_a_tag_that_differs_from_the_version_is_not_released(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    assert name_image("v99.0.0", environment).returncode != 0
    assert not environment.exists()


def test_the_package_of_the_chart_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        subprocess.run([ROOT / ".ci" / "chart", tmp_path / folder], check=True)
    [one], [other] = (list((tmp_path / folder).iterdir()) for folder in ("one", "other"))
    assert one.name == other.name == f"embedding-drift-chart-{__version__}.tgz"
    assert one.read_bytes() == other.read_bytes()
    with tarfile.open(one) as package:
        kinds = {member.name: member.issym() for member in package}
    # The rules are links in the checkout; a package needs the files.
    assert kinds["embedding-drift/files/drift.rules.yaml"] is False


def span(found: re.Match[str]) -> range:
    return range(int(found[1]), int(found[2]) + 1)
