from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Return a folder whose path is short enough for PostgreSQL's socket."""
    with tempfile.TemporaryDirectory(prefix="d") as folder:
        yield Path(folder)


def running_in(folder: Path) -> list[str]:
    commands = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # ended since
            continue
        if str(folder) in command:
            commands.append(command)
    return commands


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_the_demo_shows_the_alert_and_leaves_no_process_or_file(
    tool: Callable[[str], str], temporary: Path
) -> None:
    tool("prometheus")
    tool("alertmanager")
    environment = os.environ | {"TMPDIR": str(temporary)}
    command = [sys.executable, "-m", "demo"]
    demo = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "WARNING: Embeddings of all-MiniLM-L6-v2 are drifting" in demo.stdout
    assert "after the first vector of the new topic" in demo.stdout
    assert running_in(temporary) == []
    assert list(temporary.glob("drift-demo-*")) == []
