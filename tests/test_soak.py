"""A service under mixed traffic for a long time neither grows nor keeps what is gone."""

from __future__ import annotations

import re
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import httpx2
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from tests.service import Service, command, metrics, serving, wait_for

CONFIG = """
monitoring:
  poll_interval: 0.5
  check_interval: 5
  slices: [tenant]
  baseline: {vectors: 400}
  windows: {fast: {seconds: 20}, slow: {seconds: 60}}
explanation: {texts: full}
server: {port: 0}
database: {data_directory: %s}
"""
MODELS = 12
"""Models that are there at a time. Every few seconds one is removed and another one comes."""
PATHS = (
    "/metrics",
    "/",
    "/drift",
    "/drift/{model}",
    "/drift/{model}?exact=true",
    "/drift/{model}?map=fast",
    "/drift/{model}/history",
    "/models/{model}/vectors",
)
TENANTS = ("acme", "globex", "initech")
GROWTH = 0.1
"""Share of its memory by which the service may be larger in the last third of the time than in the
third before, at the least. Fits, maps and explanations need a quarter more for seconds."""


@pytest.fixture
def config(folder: Path) -> Path:
    file = folder / "config.yaml"
    file.write_text(CONFIG % (folder / "data"))
    return file


class Traffic:
    """Threads that send, read and replace models until they are told to stop.

    Attributes
    ----------
    models : list of str
        Those that are there.
    answers : Counter of str
        Answers by method and status.
    """

    def __init__(self, service: Service, config: Path, sentences: NDArray[np.float32]) -> None:
        self.models = [f"soak-{number}" for number in range(MODELS)]
        self.answers: Counter[str] = Counter()
        self._service = service
        self._config = config
        self._sentences = sentences
        self._failures: list[Exception] = []
        self._stopping = threading.Event()
        self._chance = Random(0)

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Let it flow while entered, and raise what went wrong in it."""
        works = [self._send, self._send, self._read, self._read, self._replace]
        threads = [threading.Thread(target=self._repeat, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join()
        if self._failures:
            raise ExceptionGroup("the traffic failed", self._failures)

    def _repeat(self, work: Callable[[httpx2.Client], None]) -> None:
        with httpx2.Client(base_url=self._service.url, timeout=120) as client:
            while not self._stopping.is_set():
                try:
                    work(client)
                except Exception as error:
                    self._failures.append(error)
                    self._stopping.set()

    def _send(self, client: httpx2.Client) -> None:
        """Send 50 vectors: usual ones, of a drift that comes and goes, or nothing usable."""
        drifts = time.monotonic() % 60 > 40
        start = self._chance.randrange(4_000, 5_900) if drifts else self._chance.randrange(2_000)
        found = self._sentences[start : start + 50]
        body = {
            "model_name": self._chance.choice(self.models),
            "embeddings": found.tolist(),
            "metadata": [
                {"tenant": self._chance.choice(TENANTS), "text": f"text {start + n}"}
                for n in range(len(found))
            ],
        }
        fault = self._chance.random()
        if fault < 0.05:
            body["embeddings"] = [[1.0, 2.0]]
        elif fault < 0.1:
            body["unknown"] = True
        key = {"Idempotency-Key": uuid.uuid4().hex}
        self._count(client.post("/embeddings", json=body, headers=key))
        if fault > 0.9:
            self._count(client.post("/embeddings", json=body, headers=key))
        time.sleep(0.05)

    def _read(self, client: httpx2.Client) -> None:
        path = self._chance.choice(PATHS).format(model=self._chance.choice(self.models))
        accept = self._chance.choice(["text/html", "application/json", "*/*"])
        self._count(client.get(path, headers={"Accept": accept}))
        wanted = self._sentences[self._chance.randrange(6_000)].tolist()
        asked = {"model_name": self._chance.choice(self.models), "embedding": wanted}
        self._count(client.post("/search", json=asked))
        time.sleep(0.1)

    def _replace(self, client: httpx2.Client) -> None:
        """Remove the oldest model, which may get a few vectors more from a sender, and add one."""
        if self._stopping.wait(5):
            return
        oldest, newest = self.models[0], self.models[-1]
        self.models = [*self.models[1:], f"soak-{int(newest.removeprefix('soak-')) + 1}"]
        remove(self._config, oldest)

    def _count(self, answer: httpx2.Response) -> None:
        self.answers[f"{answer.request.method} {answer.status_code}"] += 1


def remove(config: Path, model_name: str) -> None:
    arguments = command(config, "model", "remove", model_name, "--yes")
    subprocess.run(arguments, capture_output=True, check=False)


def resident(service: Service) -> int:
    """Bytes of the service and its workers, without PostgreSQL."""
    own = psutil.Process(service.process.pid)
    total = 0
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            if "postgres" not in process.name():
                total += process.memory_info().rss
    return total


def named(service: Service) -> set[str]:
    """Models that have a series of any kind."""
    page = metrics(service.url)
    return set(re.findall(r'[{,]model_name="([^"]*)"', page))


def test_a_service_neither_grows_nor_keeps_series_of_removed_models(
    config: Path, sentences: NDArray[np.float32], pytestconfig: pytest.Config
) -> None:
    minutes = pytestconfig.getoption("--soak")
    if not minutes:
        pytest.skip("it takes half an hour; make soak")
    bytes_then = []
    with serving(config) as service:
        traffic = Traffic(service, config, sentences)
        with traffic.flowing():
            begun = time.monotonic()
            while time.monotonic() - begun < 60 * minutes:
                assert service.process.poll() is None
                bytes_then.append(resident(service))
                time.sleep(5)
        for name in [*traffic.models, *named(service)]:
            remove(config, name)
        wait_for(lambda: not named(service), "the end of all series of models")
        files = psutil.Process(service.process.pid).num_fds()
    _, middle, last = np.array_split(bytes_then, 3)
    by_tenths = [f"{part.min() / 1e6:.0f}" for part in np.array_split(bytes_then, 10)]
    print(
        f"{minutes:g} minutes, {traffic.models[-1].removeprefix('soak-')} models came,"
        f" answers: {dict(sorted(traffic.answers.items()))}; {files} open files at the end;"
        f" least MB in each tenth of the time: {', '.join(by_tenths)}"
    )
    assert not {name for name in traffic.answers if name[-3:] >= "500"}
    assert last.min() < (1 + GROWTH) * middle.min()
    assert files < 100
