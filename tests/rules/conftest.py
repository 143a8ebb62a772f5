from __future__ import annotations

from pathlib import Path

import pytest

from exporter.rules import render
from ingest.runtime.settings import Settings


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """Return a folder with everything rendered from the default settings."""
    render(Settings(), tmp_path)
    return tmp_path
