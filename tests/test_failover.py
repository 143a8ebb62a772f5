"""No acknowledged vector is lost when a synchronous standby is promoted.

``pytest tests/test_failover.py --long -s`` does 20 failovers and prints the numbers.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np
from numpy.typing import NDArray

from ingest.store.connection import connect
from ingest.store.migrate import migrate
from tests.replication import cluster, one, synchronise
from tests.service import post, serving, wait_for

_SENDERS = 4
_BATCH = 10


class Load:
    """Sends vectors with ids of their own until it is told to stop."""

    def __init__(self, url: str, vectors: NDArray[np.float32]) -> None:
        self.acknowledged: set[str] = set()
        self.unavailable = 0
        self.done = threading.Event()
        self._url, self._vectors = url, vectors

    def run(self, sender: int) -> None:
        for number in range(1_000_000):
            if self.done.is_set():
                return
            ids = [f"{sender}-{number}-{n}" for n in range(_BATCH)]
            while not self._send(ids) and not self.done.is_set():
                time.sleep(0.1)

    def _send(self, ids: list[str]) -> bool:
        body = {"model_name": "m", "ids": ids, "embeddings": self._vectors[:_BATCH].tolist()}
        answer = httpx2.post(f"{self._url}/embeddings", json=body, timeout=60)
        assert answer.status_code in (201, 503), answer.text
        if answer.status_code == 201:
            self.acknowledged.update(ids)
            return True
        self.unavailable += 1
        return False


def test_no_acknowledged_vector_is_lost_in_a_failover_to_a_synchronous_standby(
    folder: Path, sentences: NDArray[np.float32], long: bool
) -> None:
    failovers = 20 if long else 2
    with cluster(folder) as (primary, standby):
        with connect(primary.string) as connection:
            migrate(connection)
        synchronise(primary, "ANY 1 (*)")
        # A copy from before would not wait for another when it is promoted.
        standby.kill()
        standby.follow(primary)
        string = (
            f"host={folder},{folder} port={primary.port},{standby.port} user=postgres"
            " dbname=postgres target_session_attrs=read-write"
        )
        config = folder / "config.yaml"
        settings = {"server": {"port": 0}, "database": {"connection_string": string}}
        config.write_text(json.dumps(settings))
        with serving(config, "ingest") as service, ThreadPoolExecutor(_SENDERS) as threads:
            load = Load(service.url, sentences)
            senders = [threads.submit(load.run, number) for number in range(_SENDERS)]
            try:
                for _ in range(failovers):
                    before = len(load.acknowledged)
                    wait_for(lambda: len(load.acknowledged) > before + 200, "a load")  # noqa: B023
                    primary.kill()
                    standby.promote()
                    primary, standby = standby, primary
                    # Commits wait until there is a second copy again.
                    standby.follow(primary)
                before = len(load.acknowledged)
                wait_for(lambda: len(load.acknowledged) > before, "the last recovery")
            finally:
                load.done.set()
            for sender in senders:
                sender.result()
        with connect(primary.string) as connection:
            stored = {name for (name,) in connection.execute("select id from embedding")}
            assert one(connection, "select sync_state from pg_stat_replication") == "quorum"
    lost = load.acknowledged - stored
    print(
        f"{failovers} failovers: {len(load.acknowledged)} vectors acknowledged, {len(lost)} lost,"
        f" {load.unavailable} requests answered 503"
    )
    assert not lost


def test_what_an_asynchronous_standby_has_not_got_is_lost_though_it_was_acknowledged(
    folder: Path, sentences: NDArray[np.float32]
) -> None:
    """The loss that EmbeddingDriftReplicationAsynchronous warns of."""
    with cluster(folder) as (primary, standby):
        config = folder / "config.yaml"
        settings = {"server": {"port": 0}, "database": {"connection_string": primary.string}}
        config.write_text(json.dumps(settings))
        with serving(config, "ingest") as service:
            assert post(service.url, sentences[:100]).status_code == 201
            with connect(primary.string) as connection, connect(standby.string) as copy:
                wait_for(lambda: one(copy, "select count(*) from embedding") == 100, "the copy")
                sender = one(connection, "select pid from pg_stat_replication")
                os.kill(int(str(sender)), signal.SIGSTOP)
                assert post(service.url, sentences[100:200]).status_code == 201
            primary.kill()
            standby.promote()
        with connect(standby.string) as connection:
            assert one(connection, "select count(*) from embedding") == 100
