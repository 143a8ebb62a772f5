from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import httpx2
import pytest

from demo.__main__ import MODEL, SWAPPED, _says_that_the_model_changed
from demo.slack import Message

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


def message(model_name: str, alert: str) -> Message:
    title = f"WARNING: The vectors of {model_name} changed"
    return Message(0.0, {"attachments": [{"title": title, "text": f"*{alert}* (fast window)"}]})


def test_only_the_alert_of_the_swapped_model_says_that_the_model_changed() -> None:
    assert _says_that_the_model_changed(message(SWAPPED, "EmbeddingModelChanged"))
    assert not _says_that_the_model_changed(message(MODEL, "EmbeddingModelChanged"))
    assert not _says_that_the_model_changed(message(SWAPPED, "EmbeddingDriftDetected"))


# A demo takes two minutes, so each release of Prometheus plays one, which ends in another way.
@pytest.mark.parametrize("release", ["installed"], indirect=True)
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
    assert_both_incidents_are_told(demo.stdout)
    assert "make demo KEEP=1" in demo.stdout
    assert_nothing_is_left(temporary)


@pytest.mark.parametrize("release", ["newest"], indirect=True)
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_kept_demo_answers_its_links_until_it_is_interrupted(
    tool: Callable[[str], str], temporary: Path
) -> None:
    tool("prometheus")
    tool("alertmanager")
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "demo", "--keep"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as demo:
        try:
            assert demo.stdout is not None
            told = read(demo.stdout)
            assert_both_incidents_are_told(told)
            links = re.findall(r"\| \[\w+\] (\S+)", told)
            assert len(links) == 2 * 3
            assert {httpx2.get(link, timeout=60).status_code for link in links} == {200}
            demo.send_signal(signal.SIGINT)
            assert demo.wait(240) == 0
        finally:
            demo.kill()  # does nothing if it has ended
    assert_nothing_is_left(temporary)


def read(stream: IO[str]) -> str:
    """Read what the demo says until it keeps running."""
    lines: list[str] = []
    while lines[-1:] == [] or "keeps running" not in lines[-1]:
        lines.append(stream.readline())
        assert lines[-1], "".join(lines)
    return "".join(lines)


def assert_both_incidents_are_told(told: str) -> None:
    # On a busy machine, the first alert may come before it is known what changed.
    assert re.search(r"\| (WARNING|CRITICAL): .*all-MiniLM-L6-v2", told)
    assert "after the first vector of the new topic" in told
    assert "The model seems to have changed." in told
    assert "| *EmbeddingModelChanged* (" in told
    assert "after the first vector of the other encoder" in told
    assert told.count("  what changed: all-MiniLM-L6-v2") == 2
    assert "  cause: model (" in told


def assert_nothing_is_left(temporary: Path) -> None:
    assert running_in(temporary) == []
    assert list(temporary.glob("drift-demo-*")) == []
