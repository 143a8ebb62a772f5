"""Tests that share something costly are in a group, which one process of pytest runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = """
import pytest

@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(8))
def test_it(number, worker_id):
    open(worker_id, "a").close()
"""


def test_the_tests_of_a_group_run_in_one_process(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "test_group.py").write_text(TESTS)
    run = [sys.executable, "-m", "pytest", "-p", "no:schemathesis"]
    run += ["--numprocesses", "2", "--dist", "loadgroup"]
    subprocess.run(run, cwd=tmp_path, capture_output=True, check=True)
    assert len(list(tmp_path.glob("gw*"))) == 1
