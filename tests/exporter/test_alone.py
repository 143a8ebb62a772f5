"""The detector and the statistics are a library: numpy and scipy are all that they need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest where nothing but numpy, scipy, pytest and hypothesis can be imported."""
    command = [sys.executable, "-m", "pytest", "-p", "tests.exporter.alone", "-q", *arguments]
    environment = os.environ | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": str(ROOT),
        "PYTEST_ADDOPTS": "",
    }
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )


def test_the_detector_works_without_any_other_library() -> None:
    """``tests/test_architecture.py`` tests that no module of it imports another library."""
    result = run("tests/exporter/detector/test_detector.py")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "passed" in result.stdout
    assert "skipped" not in result.stdout


@pytest.mark.parametrize("module", ["psycopg", "statsmodels", "ingest", "exporter.monitor"])
def test_other_modules_cannot_be_imported_there(module: str, tmp_path: Path) -> None:
    (tmp_path / "test_import.py").write_text(f"def test_import():\n    import {module}\n")
    result = run(str(tmp_path))
    assert result.returncode == 1
    assert f"No module named '{module}'" in result.stdout
