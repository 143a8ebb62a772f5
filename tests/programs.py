"""Programs that tests run: where they are, and what happens without one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parent.parent
NEWEST = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    / "embedding-drift"
    / "newest/usr/bin"
)
"""What ``make tools-newest`` fetches."""
CHECKOV = ROOT / ".venv-checkov" / "bin"
"""What ``make tools-checkov`` installs."""
MOTO = ROOT / ".venv-moto" / "bin" / "moto_server"
"""What ``make tools-moto`` installs."""


def missing(what: str) -> NoReturn:
    """Skip the test, and say what is missing. With CI=true the test fails instead."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def find(name: str, hint: str = "") -> str:
    """Return the path of a program; without it, the test says so and how to get it."""
    path = shutil.which(name, path=os.pathsep.join([str(CHECKOV), os.environ.get("PATH", "")]))
    return path or missing(f"{name} is not installed{hint}")
