"""Logs: one format for all records."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import warnings
from ingest.runtime import logs
from ingest.runtime.settings.settings import LogSettings
logs.configure(LogSettings())
warnings.warn("the value is ignored", RuntimeWarning)
"""


def test_warnings_of_libraries_are_log_lines() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    [line] = ran.stderr.splitlines()
    assert line.startswith("ts=")
    assert "level=warning logger=py.warnings" in line
    assert "the value is ignored" in line
