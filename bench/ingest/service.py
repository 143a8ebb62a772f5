"""Start what is measured: the service on its own PostgreSQL, and endpoints that do less."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simdjson
import uvicorn
import yaml
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Lifespan

from ingest.pipeline.metrics import IngestMetrics
from ingest.pipeline.writer import Writer
from ingest.runtime.settings.settings import IngestSettings
from ingest.store import embedded, partitions
from ingest.store.batch import Batch
from ingest.store.connection import connect
from ingest.store.migrate import migrate
from ingest.store.pool import async_pool


@dataclass(frozen=True)
class Service:
    """A running service."""

    url: str
    pid: int

    @property
    def peak_bytes(self) -> int:
        """Peak resident size so far, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return 1024 * int(found[1])


@contextmanager
def postgresql(folder: str | None = None) -> Iterator[str]:
    """Start a PostgreSQL with default settings in a new folder and give its connection string."""
    with (
        tempfile.TemporaryDirectory(prefix="embedding-drift-", dir=folder) as name,
        embedded.running(Path(name)) as string,
    ):
        yield string


def discard(store: str) -> None:
    """Discard all stored vectors, so that the disk holds those of one round rather than of all."""
    with connect(store) as connection:
        # One by one: the service may still write, and takes their locks in the other order.
        for table in ("embedding", "embedding_id"):
            connection.execute(f"truncate {table}".encode())


@contextmanager
def serving(
    store: str, role: str, settings: Mapping[str, object] | None = None
) -> Iterator[Service]:
    """Run ``embedding-drift ROLE`` on a database."""
    with tempfile.TemporaryDirectory() as name:
        config = Path(name) / "config.yaml"
        basic = {"database": {"connection_string": store}, "server": {"port": 0}}
        config.write_text(yaml.safe_dump(basic | dict(settings or {})))
        command = [sys.executable, "-m", "exporter", role, "--config", str(config)]
        with child(command, Path(name) / "log") as service:
            yield service


@contextmanager
def empty() -> Iterator[Service]:
    """Run a Starlette endpoint that only reads the body, on uvicorn."""
    with _endpoint() as service:
        yield service


@contextmanager
def bare(store: str) -> Iterator[Service]:
    """Run an endpoint that reads the numbers and commits them in groups, without checks."""
    with _endpoint(store) as service:
        yield service


@contextmanager
def _endpoint(*arguments: str) -> Iterator[Service]:
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "bench.ingest.service", *arguments]
        with child(command, Path(name) / "log") as service:
            yield service


@contextmanager
def child(command: list[str], log: Path) -> Iterator[Service]:
    """Run a service that logs its address."""
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


def _serve(
    answer: Callable[[Request], Awaitable[Response]], lifespan: Lifespan[Starlette] | None
) -> None:
    routes = [Route("/embeddings", answer, methods=["POST"])]
    app = Starlette(routes=routes, lifespan=lifespan)
    uvicorn.run(app, port=0, http="httptools", access_log=False, server_header=False)


def _serve_bare(store: str) -> None:
    with connect(store) as connection:
        migrate(connection)
        partitions.ensure(connection)
    pool = async_pool(store, 2)
    writer = Writer(pool, IngestSettings(), IngestMetrics(CollectorRegistry()), lambda: None)

    async def write(request: Request) -> Response:
        body = await request.body()
        numbers = simdjson.Parser().parse(body[body.index(b"[") : body.rindex(b"]") + 1])
        assert isinstance(numbers, simdjson.Array)
        vector = np.frombuffer(numbers.as_buffer(of_type="d")).astype(np.float32)
        await writer.write(Batch("bare", vector[np.newaxis]))
        return Response(status_code=201)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with pool, writer.running():
            yield

    _serve(write, lifespan)


if __name__ == "__main__":
    if sys.argv[1:]:
        _serve_bare(sys.argv[1])
    else:
        _serve(_nothing, None)
