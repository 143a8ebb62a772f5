"""The program: a signal ends each command without a traceback, and without a server left behind."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.service import command, postmaster_of, wait_for

SIGNALS = pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name
)


@SIGNALS
def test_a_signal_while_the_program_starts_ends_it_without_a_word(
    folder: Path, number: signal.Signals
) -> None:
    with start(folder, "migrate") as program:
        maps = Path(f"/proc/{program.pid}/maps")
        wait_for(lambda: "/psycopg_binary" in maps.read_text(), "the imports")
        program.send_signal(number)
        assert program.communicate(timeout=60) == ("", "")
    assert program.returncode == -number
    assert not (folder / "data").exists()


@SIGNALS
def test_a_signal_while_a_command_runs_stops_what_it_started(
    folder: Path, number: signal.Signals
) -> None:
    with start(folder, "migrate") as program:
        server = psutil.Process(postmaster_of(folder / "data"))
        program.send_signal(number)
        assert program.communicate(timeout=60) == ("", "\nAborted!\n")
    assert program.returncode == 1
    assert not server.is_running()


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    config = folder / "config.yaml"
    config.write_text(f"database: {{data_directory: {folder / 'data'}}}\n")
    return subprocess.Popen(
        command(config, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
