"""The service as a child process, for tests of the whole."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil
import psycopg
from numpy.typing import NDArray

STARTING = """
import os, sys
from pathlib import Path
from ingest.runtime.http import server
from ingest.store import embedded
server.exit_on_signals()
for user in map(int, sys.argv[2:]):
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
print("starting", flush=True)
with embedded.running(Path(sys.argv[1])) as string:
    print("started", flush=True)
    sys.stdin.read()
"""
"""A program that uses the embedded server until its input ends, as another user if given."""


@dataclass(frozen=True)
class Service:
    process: subprocess.Popen[str]
    url: str
    log: Path


def command(config: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "exporter", *arguments, "--config", str(config)]


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)


def wait_until_hung_up(server: int, client: socket.socket) -> None:
    """Wait until a process that has answered a client closes the connection.

    The client does not read meanwhile.
    """
    address = client.getsockname()
    process = psutil.Process(server)

    def is_hung_up() -> bool:
        return not any(found.raddr == address for found in process.net_connections("tcp"))

    wait_for(is_hung_up, "the end of the connection")


def waits_for_a_lock(connection: psycopg.Connection, statement: str = "") -> bool:
    """Whether a session of the connection's database waits for another.

    ``statement`` is the beginning of what it executes: a service does several things at once.
    """
    waiting = connection.execute(
        "select from pg_stat_activity where wait_event_type = 'Lock' and"
        " datname = current_database() and starts_with(query, %s)",
        [statement],
    )
    return waiting.fetchone() is not None


def postmaster_of(data: Path) -> int:
    """Process of the embedded server of a data directory, as soon as its file names one.

    PostgreSQL makes the file before it writes into it.
    """
    file = data / "postgresql" / "postmaster.pid"
    wait_for(lambda: file.exists() and file.read_text() != "", "the process of the server")
    return int(file.read_text().split()[0])


@contextmanager
def serving(
    config: Path, *arguments: str, environment: dict[str, str] | None = None
) -> Iterator[Service]:
    log = config.with_suffix(f".{time.monotonic_ns()}.log")
    with log.open("w") as stream:
        process = subprocess.Popen(
            command(config, *(arguments or ["serve"])),
            stderr=stream,
            text=True,
            env=os.environ | (environment or {}),
        )

    def address() -> str:
        assert process.poll() is None
        found = re.search(r"msg=listening.* url=(\S+)", log.read_text())
        return found[1] if found else ""

    try:
        wait_for(lambda: address() != "", "the address in the log")
        yield Service(process, address(), log)
    except AssertionError as error:
        error.add_note(log.read_text()[-8_000:])
        raise
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(240)


def get(url: str, **options: Any) -> httpx2.Response:
    """Ask with the patience that a busy machine needs: the default is 5 seconds."""
    return httpx2.get(url, timeout=60, **options)


def metrics(url: str) -> str:
    """The page that Prometheus scrapes."""
    return get(f"{url}/metrics").text


def drift(url: str, model_name: str = "m") -> dict[str, Any]:
    """What the service says of a model; nothing while it has not read the model yet."""
    answer = get(f"{url}/drift/{model_name}")
    if answer.status_code in {404, 503}:
        return {}
    told: dict[str, Any] = answer.raise_for_status().json()
    return told


def window(url: str, model_name: str = "m", name: str = "fast") -> dict[str, Any]:
    """What the service says of a window of a model; nothing while it is not known."""
    told: dict[str, Any] = drift(url, model_name).get("windows", {}).get(name, {})
    return told


def is_followed(page: str, model_name: str, moment: float) -> bool:
    """Whether a page says that the windows have all that was acknowledged before a moment.

    It counts vectors earlier.
    """
    sample = rf'^embedding_drift_followed_timestamp_seconds{{model_name="{model_name}"}} (\S+)$'
    found = re.search(sample, page, flags=re.MULTILINE)
    return found is not None and float(found[1]) > moment


def post(
    url: str,
    vectors: NDArray[np.float32],
    model_name: str = "m",
    timeout: float = 30,
    key: str | None = None,
) -> httpx2.Response:
    """Send vectors as a raw binary batch, with an idempotency key if one is given."""
    headers = {
        "Content-Type": "application/octet-stream",
        "X-Model-Name": model_name,
        "X-Dimension": str(vectors.shape[1]),
    }
    if key is not None:
        headers["Idempotency-Key"] = key
    body = vectors.astype("<f4").tobytes()
    return httpx2.post(f"{url}/embeddings", content=body, headers=headers, timeout=timeout)


def report(url: str, model_name: str = "m") -> dict[str, Any]:
    """What the service says of a model, but for what depends on when it was asked or checked.

    Before it has read the store, it says what was reported last. So this waits.
    """
    wait_for(lambda: get(f"{url}/-/ready").status_code == 200, "the first poll")
    exact = f"{url}/drift/{model_name}?exact=true"
    told: dict[str, Any] = get(exact).raise_for_status().json()
    for moment in ("computed_at", "following"):
        told.pop(moment)
    for window in told["windows"].values():
        for checked in ("quality", "top_dimensions_exact", "magnitude"):
            window.pop(checked, None)
    if told["baseline"] is not None:
        told["baseline"].pop("next")
    return told


def children(module: str) -> list[psutil.Process]:
    """The processes of this one that run a module."""
    found = []
    for process in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if module in process.cmdline():
                found.append(process)
    return found
