"""Fitting: the first baseline of a model is pinned beside the tail, once, and tried again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from exporter.monitor.fitting import Fitting
from ingest.store import pins
from ingest.store.connection import connect
from ingest.store.pool import Pool
from tests.service import wait_for, waits_for_a_lock

Vectors = NDArray[np.float32]
Send = Callable[..., None]


@contextmanager
def fitting(pool: Pool, clock: list[float]) -> Iterator[Fitting]:
    made = Fitting(pool, monotonic=lambda: clock[0])
    yield made
    made.stop()


def versions(connection: psycopg.Connection, model_name: str) -> list[int]:
    return [found["version"] for found in pins.versions(connection, model_name)]


def test_the_first_vectors_of_a_model_become_its_baseline(
    pool: Pool, send: Send, vectors: Vectors, connection: psycopg.Connection
) -> None:
    send(vectors[:300])
    with fitting(pool, [0.0]) as made:
        for _ in range(5):
            made.request("m", 250)
        wait_for(lambda: versions(connection, "m") == [1], "the baseline")
    assert versions(connection, "m") == [1]


def test_a_fit_that_failed_is_tried_again_a_minute_later(
    pool: Pool,
    send: Send,
    vectors: Vectors,
    connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def failures() -> int:
        return sum(record.message.startswith("baseline not pinned") for record in caplog.records)

    clock = [0.0]
    send(vectors[:50])
    with fitting(pool, clock) as made:
        made.request("m", 250)
        wait_for(lambda: failures() == 1, "the failure")
        send(vectors[50:300])
        clock[0] = 59.0
        made.request("m", 250)
        assert versions(connection, "m") == []
        clock[0] = 60.0
        made.request("m", 250)
        wait_for(lambda: versions(connection, "m") == [1], "the baseline")
    [failure] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert not failure.exc_info
    assert "at least 100" in failure.__dict__["error"]


def test_a_fit_that_waits_for_the_server_does_not_keep_the_service_from_stopping(
    pool: Pool, send: Send, vectors: Vectors, connection: psycopg.Connection, store: str
) -> None:
    send(vectors[:300])
    made = Fitting(pool)
    stopping = threading.Thread(target=made.stop, daemon=True)
    with connect(store) as other, other.transaction():
        other.execute("lock table baseline")
        made.request("m", 250)
        wait_for(lambda: waits_for_a_lock(connection), "the fit")
        stopping.start()
        stopping.join(20)
        assert not stopping.is_alive()
    assert versions(connection, "m") == []
