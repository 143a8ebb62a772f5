from __future__ import annotations

from pathlib import Path

import pytest

from ingest.runtime.settings.configuration import load
from rules.render import render


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """Return a folder with everything that can be rendered, from settings else the default ones."""
    render(load(flags={"alerting.watchdog": True}), tmp_path)
    return tmp_path
