"""Logs: one format for all records."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


CONTROLS = """
import logging
from ingest.runtime import logs
from ingest.runtime.settings.settings import LogSettings
logs.configure(LogSettings(format={format!r}))
text = "".join(map(chr, [*range(32), *range(127, 160), 0x2028, 0x2029]))
logging.getLogger("a").warning("say " + text, extra={{"path": text}})
"""


@pytest.mark.parametrize("format_", ["logfmt", "json"])
def test_a_record_is_one_line_without_control_characters(format_: str) -> None:
    program = CONTROLS.format(format=format_)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True)
    line = ran.stderr.decode()
    assert line.endswith("\n")
    assert line[:-1].isprintable()


def test_logfmt_shows_what_it_escapes() -> None:
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            CONTROLS.format(format="logfmt").replace("text =", "text = 'a\\rb' or"),
        ],
        capture_output=True,
        text=True,
    )
    assert r"path=a\x0db" in ran.stderr


INTERRUPTED = """
import sys
from ingest.runtime import logs
from ingest.runtime.settings.settings import LogSettings
from ingest.store.connection import connect
logs.configure(LogSettings())
with connect(sys.argv[1]) as connection, connection.transaction():
    connection.pgconn.send_query(b"select 1")
    sys.exit("interrupted")
"""


def test_an_interrupt_between_a_statement_and_its_answer_is_told_alone(store: str) -> None:
    ran = subprocess.run([sys.executable, "-c", INTERRUPTED, store], capture_output=True, text=True)
    assert ran.stderr == "interrupted\n"
