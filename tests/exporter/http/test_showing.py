"""The half that only shows the fleet."""

from __future__ import annotations

import subprocess
import sys


def test_what_only_shows_the_fleet_does_not_import_what_measures() -> None:
    program = (
        "import sys, exporter.http.showing;"
        " print({'scipy', 'statsmodels', 'pandas', 'exporter.detector'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout.strip() == "set()", found.stderr
