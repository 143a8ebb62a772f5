from __future__ import annotations

from pathlib import Path

import pytest

from exporter.rules import render
from ingest.runtime.configuration import load


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """Return a folder with everything that can be rendered, from settings else the default ones."""
    render(load(flags={"alerting.watchdog": True}), tmp_path)
    return tmp_path
