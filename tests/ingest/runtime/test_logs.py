"""Logs: whatever speaks, in one format; and what a stranger can repeat, once a minute."""

from __future__ import annotations

import logging
import subprocess
import sys
from logging.handlers import BufferingHandler

from ingest.runtime.throttle import LogThrottle

PROGRAM = """
import warnings
from ingest.runtime import logs
from ingest.runtime.settings.settings import LogSettings
logs.configure(LogSettings())
warnings.warn("the ground is thin", RuntimeWarning)
"""


def test_warnings_of_libraries_are_log_lines_too() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    [line] = ran.stderr.splitlines()
    assert line.startswith("ts=")
    assert "level=warning logger=py.warnings" in line
    assert "the ground is thin" in line


def test_a_warning_passes_once_a_minute_and_says_how_often_it_did_not() -> None:
    times = iter([0.0, 1.0, 59.0, 60.0, 61.0, 61.0])
    logger, heard = logging.Logger("uvicorn.error"), BufferingHandler(100)
    logger.addHandler(heard)
    logger.addFilter(LogThrottle(times.__next__))
    for _ in range(5):
        logger.warning("invalid")
    logger.warning("another")
    for _ in range(2):
        logger.error("failed")
    said = [(record.msg, getattr(record, "left_out", None)) for record in heard.buffer]
    assert said == [
        ("invalid", None),
        ("invalid", 2),
        ("another", None),
        ("failed", None),
        ("failed", None),
    ]
