"""The lock files have all that the image installs, in versions that the projects allow."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECTS = [
    tomllib.loads((ROOT / folder / "pyproject.toml").read_text()) for folder in (".", "client")
]
OURS = {project["project"]["name"] for project in PROJECTS}
"""Built from this tree, so not locked."""
WANTED = {
    "requirements.lock": [
        text
        for project in PROJECTS
        for text in project["project"]["dependencies"]
        if Requirement(text).name not in OURS
    ],
    "container/embedded.lock": PROJECTS[0]["project"]["optional-dependencies"]["embedded"],
    "container/build.lock": [
        text for project in PROJECTS for text in project["build-system"]["requires"]
    ],
}
MINORS = ("3.11", "3.12", "3.13", "3.14")


def entries(lock: str) -> list[str]:
    """One string a package: its requirement, and its hashes on the lines that follow."""
    text = (ROOT / lock).read_text()
    return [entry.replace("\\\n", "") for entry in re.findall(r"^\w(?:.*\\\n)*.*", text, re.M)]


def pinned(lock: str, python: str) -> dict[NormalizedName, Version]:
    """What pip installs from the lock with a version of Python on Linux."""
    found = {}
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "implementation_name": "cpython",
    }
    for entry in entries(lock):
        requirement = Requirement(entry.split(" --hash=")[0].strip())
        if requirement.marker is None or requirement.marker.evaluate(environment):
            [pin] = requirement.specifier
            assert pin.operator == "=="
            name = canonicalize_name(requirement.name)
            assert name not in found
            found[name] = Version(pin.version)
    return found


@pytest.mark.parametrize("python", MINORS)
@pytest.mark.parametrize("lock", WANTED)
def test_every_dependency_is_locked_in_a_version_that_is_allowed(lock: str, python: str) -> None:
    versions = pinned(lock, python)
    for text in WANTED[lock]:
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate({"python_version": python}):
            continue
        name = canonicalize_name(wanted.name)
        assert name in versions, f"{name} is not in {lock}; make lock"
        assert wanted.specifier.contains(versions[name]), f"{text}; make lock"


def test_our_own_distributions_are_not_locked() -> None:
    assert not OURS & pinned("requirements.lock", MINORS[0]).keys()


@pytest.mark.parametrize("lock", WANTED)
def test_every_locked_package_has_a_hash(lock: str) -> None:
    assert entries(lock)
    for entry in entries(lock):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry


@pytest.mark.parametrize("lock", WANTED)
def test_a_lock_names_neither_a_registry_nor_a_folder(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "make lock" in text
    assert not re.search(r"://|--index|--find-links|^-", text, re.M)
    assert not re.search(r"(?:^|\s)/\w", text)
