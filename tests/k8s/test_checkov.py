from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import yaml

from tests.k8s.overlays import OVERLAYS, OWN, Render
from tests.programs import find


def test_checkov_finds_only_the_documented_exceptions(render: Render, tmp_path: Path) -> None:
    checkov = find("checkov", "; make tools-checkov")
    for overlay in OVERLAYS:
        # One folder per overlay, because a network policy of one does not protect pods of another.
        (tmp_path / overlay).mkdir()
        (tmp_path / overlay / "all.yaml").write_text(yaml.safe_dump_all(render(overlay)))
        answer = subprocess.run(
            [checkov, "--directory", tmp_path / overlay, "--config-file", OWN / "checkov.yaml"],
            env=os.environ | {"LOG_LEVEL": "ERROR"},
            capture_output=True,
            text=True,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        passed = re.search(r"Passed checks: (\d+)", answer.stdout)
        assert passed, answer.stdout
        assert int(passed[1]) > 100
