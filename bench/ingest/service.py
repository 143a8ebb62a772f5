"""The processes measured: the service on a PostgreSQL of its own, and an empty endpoint."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ingest.store import embedded


@dataclass(frozen=True)
class Service:
    """A running service."""

    url: str
    pid: int

    @property
    def peak_bytes(self) -> int:
        """Largest resident size so far."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return 1024 * int(found[1])


@contextmanager
def postgresql() -> Iterator[str]:
    """Start a server with its defaults; gives its connection string."""
    with (
        tempfile.TemporaryDirectory(prefix="embedding-drift-") as name,
        embedded.running(Path(name)) as string,
    ):
        yield string


@contextmanager
def serving(store: str, role: str) -> Iterator[Service]:
    """Run ``embedding-drift ROLE`` on a store."""
    with tempfile.TemporaryDirectory() as name:
        config = Path(name) / "config.yaml"
        settings = {"database": {"connection_string": store}, "server": {"port": 0}}
        config.write_text(yaml.safe_dump(settings))
        command = [sys.executable, "-m", "exporter.cli", role, "--config", str(config)]
        with _child(command, Path(name) / "log") as service:
            yield service


@contextmanager
def empty() -> Iterator[Service]:
    """Run a Starlette endpoint that does nothing, on the same server."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "bench.ingest.service"]
        with _child(command, Path(name) / "log") as service:
            yield service


@contextmanager
def _child(command: list[str], log: Path) -> Iterator[Service]:
    with log.open("w") as stream:
        process = subprocess.Popen(command, stderr=stream)
    try:
        deadline = time.monotonic() + 60
        while (found := re.search(r"(http://[\d.:]+\d)", log.read_text())) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text())
            time.sleep(0.05)
        yield Service(found[1], process.pid)
    finally:
        process.terminate()
        process.wait(60)


async def _nothing(request: Request) -> Response:
    await request.body()
    return Response(status_code=201)


def _serve_nothing() -> None:
    app = Starlette(routes=[Route("/embeddings", _nothing, methods=["POST"])])
    uvicorn.run(app, port=0, http="httptools", access_log=False, server_header=False)


if __name__ == "__main__":
    _serve_nothing()
