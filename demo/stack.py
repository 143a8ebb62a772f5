"""Run Prometheus and Alertmanager as child processes on free ports of loopback."""

from __future__ import annotations

import math
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml

from demo import tools

READY_WITHIN = 120.0
STOP_WITHIN = 120.0


class ChildFailed(RuntimeError):
    """A child process ended or did not become ready. The message ends with its log."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """The HTTP API of a running Prometheus."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the instant vector of an expression, as in the JSON of the API."""
        return self._get("query", query=expression)

    def value(self, expression: str) -> float:
        """Return the value of the first sample of an expression, or NaN."""
        samples = self.query(expression)
        return float(samples[0]["value"][1]) if samples else math.nan

    def query_range(
        self, expression: str, start: float, end: float, step: float = 1.0
    ) -> list[dict[str, Any]]:
        """Return the matrix of an expression between two times in seconds."""
        return self._get(
            "query_range", query=expression, start=str(start), end=str(end), step=str(step)
        )

    def _get(self, endpoint: str, **parameters: str) -> list[dict[str, Any]]:
        answer = httpx2.get(f"{self.url}/api/v1/{endpoint}", params=parameters, timeout=60)
        answer.raise_for_status()
        result: list[dict[str, Any]] = answer.json()["data"]["result"]
        return result


@contextmanager
def prometheus(folder: Path, rules: Path, target: str, alertmanager: str) -> Iterator[Prometheus]:
    """Run Prometheus, with a scrape and an evaluation every second.

    Parameters
    ----------
    folder : Path
        An empty folder for its configuration, data and log.
    rules : Path
        Folder of the rendered ``*.rules.yaml``.
    target, alertmanager : str
        URLs of the exporter and of Alertmanager.
    """
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules.resolve() / "*.rules.yaml")],
        "scrape_configs": [{"job_name": "embedding-drift", **_static(target)}],
        "alerting": {"alertmanagers": [_static(alertmanager)]},
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = [
        tools.find("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        f"--web.external-url=http://{address}",
    ]
    log = folder / "prometheus.log"
    with child(command, log) as process:
        wait_ready(f"http://{address}/-/ready", process, log)
        yield Prometheus(f"http://{address}")


@contextmanager
def alertmanager(folder: Path, file: Path) -> Iterator[str]:
    """Run Alertmanager with the rendered configuration ``file`` and yield its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    command = [
        tools.find("alertmanager"),
        f"--config.file={file}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address={address}",
        f"--web.external-url=http://{address}",
        "--cluster.listen-address=",
    ]
    log = folder / "alertmanager.log"
    with child(command, log) as process:
        wait_ready(f"http://{address}/-/ready", process, log)
        yield f"http://{address}"


def shorten_waits(rendered: Path, seconds: int = 1) -> None:
    """Change rendered files so that nobody has to wait.

    Alertmanager waits one and two seconds, and the rules look at the score of so many seconds
    instead of each minute.
    """
    file = rendered / "alertmanager.yml"
    configuration = yaml.safe_load(file.read_text(encoding="utf-8"))
    configuration["route"] |= {"group_wait": "1s", "group_interval": "2s"}
    file.write_text(yaml.safe_dump(configuration), encoding="utf-8")

    rules = rendered / "drift.rules.yaml"
    text = rules.read_text(encoding="utf-8")

    def shortened(found: re.Match[str]) -> str:
        return f"{found[1]}{int(found[2]) * seconds}s"

    short = re.sub(r"(score:max(?:\[| offset ))(\d+)m", shortened, text)
    rules.write_text(short, encoding="utf-8")


@contextmanager
def child(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program with its output in ``log``, and stop it at the end.

    Ctrl-C only reaches this process, which then stops the child. If this process is killed, the
    kernel of Linux stops the child, if setpriv is installed.
    """
    setpriv = shutil.which("setpriv")
    prefix = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
    with log.open("wb") as stream:
        process = subprocess.Popen(  # noqa: S603 - a fixed command
            [*prefix, *command],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until ``url`` answers 200.

    Raises
    ------
    ChildFailed
        If the process ends first, or does not answer in time.
    """
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.get(url, timeout=5).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    state = "did not become ready" if process.poll() is None else f"ended with {process.returncode}"
    raise ChildFailed(f"{log.stem} {state}; its log:\n{log.read_text(errors='replace')[-2000:]}")


def free_port() -> int:
    """Return a free port of loopback.

    It is below the range that the kernel uses for outgoing connections, so that none of those takes
    it before the child process does.
    """
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311 - no secret
        with socket.socket() as candidate:
            if candidate.connect_ex(("127.0.0.1", port)) != 0:
                return port


def _static(url: str) -> dict[str, Any]:
    return {"static_configs": [{"targets": [url.removeprefix("http://")]}]}
