"""The program: a signal ends each command without a traceback, and without a server left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.service import command, get, postmaster_of

SIGNALS = pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name
)


@SIGNALS
def test_a_signal_while_the_program_starts_ends_it_without_a_word(
    folder: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    with importing(folder, monkeypatch, "migrate") as program:
        program.send_signal(number)
        assert program.communicate(timeout=60) == ("", "")
    assert program.returncode == -number
    assert not (folder / "data").exists()


@pytest.mark.parametrize("service", ["serve", "ingest", "exporter", "watch --table docs"])
def test_a_service_that_starts_is_not_ended_by_the_signal_to_reload(
    folder: Path, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with importing(folder, monkeypatch, *service.split()) as program:
        program.send_signal(signal.SIGHUP)
        program.terminate()
        program.communicate(timeout=60)
    assert program.returncode == -signal.SIGTERM


def test_a_reload_asked_for_while_a_service_starts_is_done_when_it_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ["--set", "server.port=0", "--set", "log.level=info"]
    with importing(folder, monkeypatch, "serve", *chosen) as program:
        program.send_signal(signal.SIGHUP)
        assert program.stdin is not None
        assert program.stderr is not None
        program.stdin.write("\n")
        program.stdin.flush()
        log = ""
        while 'msg="configuration reloaded"' not in log:
            line = program.stderr.readline()
            assert line, log
            log += line
        found = re.search(r"msg=listening.* url=(\S+)", log)
        assert found is not None
        assert get(f"{found[1]}/-/healthy").status_code == 200
        program.terminate()
        program.communicate(timeout=60)
    assert program.returncode == 0


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


@contextmanager
def importing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> Iterator[subprocess.Popen[str]]:
    """Start a program whose imports wait for a line: they may be over before a signal comes."""
    (folder / "psycopg_pool.py").write_text(
        "import sys\n"
        'print("importing", flush=True)\n'
        "sys.stdin.readline()\n"
        f"sys.path.remove({str(folder)!r})\n"
        "del sys.modules[__name__]\n"
        "import psycopg_pool\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    with start(folder, *arguments) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "importing\n"
        yield program


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
