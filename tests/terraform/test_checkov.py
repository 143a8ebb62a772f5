from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.programs import find

ROOT = Path(__file__).parents[2]


def test_checkov_finds_only_the_documented_exceptions() -> None:
    checkov = find("checkov", "; make tools-checkov")
    answer = subprocess.run(
        [checkov, "--directory", "terraform", "--config-file", "terraform/.checkov.yaml"],
        cwd=ROOT,
        env=os.environ | {"LOG_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "Passed checks: 0" not in answer.stdout
    assert "Passed checks" in answer.stdout, answer.stdout
