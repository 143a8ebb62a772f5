"""The program: a signal ends each command without a traceback, and without a server left behind."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.service import command, postmaster_of

SIGNALS = pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name
)


@SIGNALS
def test_a_signal_while_the_program_starts_ends_it_without_a_word(
    folder: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The imports wait for the signal: they may be over before it comes.
    waiting = 'import sys\nprint("importing", flush=True)\nsys.stdin.read()\n'
    (folder / "psycopg_pool.py").write_text(waiting)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    with start(folder, "migrate") as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "importing\n"
        program.send_signal(number)
        assert program.communicate(timeout=60) == ("", "")
    assert program.returncode == -number
    assert not (folder / "data").exists()


@SIGNALS
def test_a_signal_while_a_command_runs_stops_what_it_started(
    folder: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The command waits for the signal: it tries for minutes to write.
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_read_only=on")
    with start(folder, "migrate") as program:
        server = psutil.Process(postmaster_of(folder / "data"))
        program.send_signal(number)
        assert program.communicate(timeout=60) == ("", "\nAborted!\n")
    assert program.returncode == 1
    assert not server.is_running()


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    config = folder / "config.yaml"
    # Why a command waits is a warning, which a late signal would find on standard error.
    config.write_text(f"database: {{data_directory: {folder / 'data'}}}\nlog: {{level: error}}\n")
    return subprocess.Popen(
        command(config, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
