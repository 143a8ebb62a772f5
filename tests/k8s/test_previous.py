"""Which release comes before this one, in repositories made here."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.k8s import previous
from tests.programs import find

Commit = Callable[[str], None]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def commit(repository: Path) -> Commit:
    """Commit a chart of a version."""
    (repository / "k8s/chart").mkdir(parents=True)
    git(repository, "init", "--quiet")

    def committed(version: str) -> None:
        (repository / "k8s/chart/Chart.yaml").write_text(version)
        git(repository, "add", ".")
        git(repository, "commit", "--quiet", "--message", version)

    return committed


def git(folder: Path, *arguments: str) -> None:
    someone = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
    subprocess.run([find("git"), "-C", folder, *someone, *arguments], check=True)


def version(repository: Path, folder: Path) -> str:
    return (previous.chart(repository, folder) / "Chart.yaml").read_text()


def test_it_is_the_last_release_before_this_commit(
    repository: Path, commit: Commit, tmp_path: Path
) -> None:
    commit("0.1.0")
    git(repository, "tag", "v0.1.0")
    commit("0.2.0")
    commit("0.2.1")
    git(repository, "tag", "v0.2.1")
    assert version(repository, tmp_path / "at_a_release") == "0.1.0"
    commit("0.3.0")
    assert version(repository, tmp_path / "after_a_release") == "0.2.1"


def test_before_the_first_release_it_is_the_first_chart(
    repository: Path, commit: Commit, tmp_path: Path
) -> None:
    commit("first")
    commit("second")
    commit("third")
    assert version(repository, tmp_path / "unpacked") == "first"


@pytest.mark.parametrize("history", ["shallow", "none"])
def test_without_the_history_a_test_fails_and_says_how_to_get_it(
    history: str, repository: Path, commit: Commit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit("first")
    commit("second")
    copy = tmp_path / "copy"
    if history == "shallow":
        git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repository}", str(copy))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="git fetch --unshallow --tags"):
        previous.commit(copy)
