from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.runtime.settings.configuration import load
from rules.render import render


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """Render everything, with default settings and the watchdog, and return the folder."""
    render(load(flags={"alerting.watchdog": True}), tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def tool(release: None, tool: Callable[[str], str]) -> Callable[[str], str]:
    """Find the programs of each release."""
    return tool
