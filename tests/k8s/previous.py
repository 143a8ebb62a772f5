"""The chart of the release before this one, from the history of the repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.programs import find, missing

_CHART = "k8s/chart"


def commit(repository: Path) -> str:
    """Return the commit of the last release before this commit.

    Before the first release, it is the commit with the first chart. Without the history, the test
    says how to get it.
    """
    if _git(repository, "rev-parse", "--is-shallow-repository") != b"false\n":
        missing("the history is not here: clone with git, and git fetch --unshallow --tags")
    tag = _git(repository, "describe", "--tags", "--abbrev=0", "--match=v*", "HEAD^")
    first = ("log", "--diff-filter=A", "--format=%H", "--reverse", "--", f"{_CHART}/Chart.yaml")
    return (tag or _git(repository, *first)).decode().split()[0]


def chart(repository: Path, folder: Path) -> Path:
    """Unpack the chart of that commit, with what its links lead to, into a folder."""
    packed = _git(repository, "archive", commit(repository))
    folder.mkdir(exist_ok=True)
    # Not by tarfile: Debian's Python 3.11.2 has no filters, and later ones warn without.
    subprocess.run(["tar", "--extract", "--directory", folder], input=packed, check=True)
    return folder / _CHART


def _git(repository: Path, *arguments: str) -> bytes:
    """Return the output of git; it is empty if git fails."""
    command = [find("git"), f"--git-dir={repository / '.git'}", *arguments]
    return subprocess.run(command, capture_output=True).stdout
