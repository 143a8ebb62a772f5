from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from demo import stack
from ingest.runtime.settings.configuration import load
from rules.render import render

# Starts a child, prints its process id when it runs, and waits to be killed.
# Shells start background jobs with SIGINT ignored, so the default handler is set explicitly.
PARENT = """
import signal, sys, time
from pathlib import Path
from demo.stack import child
signal.signal(signal.SIGINT, signal.default_int_handler)
log = Path(sys.argv[1])
with child(["sh", "-c", "echo up; exec sleep 600"], log) as process:
    while not log.read_text():
        time.sleep(0.01)
    print(process.pid, flush=True)
    time.sleep(600)
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("seconds", "first"), [(1, "[2s]"), (3, "[6s]")])
def test_minutes_of_the_rules_become_seconds(tmp_path: Path, seconds: int, first: str) -> None:
    render(load(), tmp_path)
    stack.shorten_waits(tmp_path, seconds)
    rules = (tmp_path / "drift.rules.yaml").read_text()
    assert f"min_over_time(model_window:embedding_drift_score:max{first})" in rules
    assert "embedding_drift_score:max[1h]" in rules


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux stops the child")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_child_outlives_its_parent(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    root = str(Path(__file__).parent.parent.parent)
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        os.kill(parent.pid, number)
        parent.wait()
        deadline = time.monotonic() + 240
        while is_running(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_running(pid)


def test_a_child_that_ends_at_once_raises_an_error_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "grumpy.log"
    command = [sys.executable, "-c", "print('not today'); raise SystemExit(3)"]
    with (
        pytest.raises(stack.ChildFailed, match=r"grumpy ended with 3; its log:\nnot today"),
        stack.child(command, log) as process,
    ):
        stack.wait_ready("http://127.0.0.1:9/", process, log)
