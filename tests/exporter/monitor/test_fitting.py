"""Fitting: the first baseline of a model is pinned in the background, once, and tried again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from exporter.monitor.fitting import Fitting
from ingest.store import baselines
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
    return [found["version"] for found in baselines.versions(connection, model_name)]


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
    send(vectors[:300])
    connection.execute("update embedding set embedding = '[1]' where seq = 7")
    with fitting(pool, clock) as made:
        made.request("m", 250)
        wait_for(lambda: failures() == 1, "the failure")
        connection.execute("update embedding set embedding = '[1,1,1,1,1,1,1,1]' where seq = 7")
        clock[0] = 59.0
        tried = made._fits["m"]
        wait_for(tried.future.done, "the end of the fit")
        made.request("m", 250)
        assert made._fits["m"] is tried
        clock[0] = 60.0
        made.request("m", 250)
        wait_for(lambda: versions(connection, "m") == [1], "the baseline")
    [failure] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert not failure.exc_info
    assert "dimension 8" in failure.__dict__["error"]


def test_a_model_that_was_created_again_is_not_pinned_from_too_few_vectors(
    pool: Pool, send: Send, vectors: Vectors, connection: psycopg.Connection, store: str
) -> None:
    for name in ("m", "waits"):
        send(vectors[:300], name)
    with fitting(pool, [0.0]) as made, connect(store) as other:
        with other.transaction():
            # The first fit waits, so that the second is queued when its model is removed.
            other.execute("lock table baseline")
            made.request("waits", 250)
            made.request("m", 250)
            wait_for(lambda: waits_for_a_lock(connection), "the first fit")
            made.forget("m")
        send(vectors[:150], "new")
        made.request("new", 250)
        wait_for(lambda: versions(connection, "waits") == [1], "the first fit")
    assert versions(connection, "m") == []
    assert versions(connection, "new") == []


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
