"""The monitor: follows a store in its threads, and stops whatever the store does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from exporter.monitor.monitor import Monitor
from ingest.runtime.settings.configuration import load
from ingest.runtime.settings.settings import Settings
from ingest.store.connection import connect
from tests.service import wait_for, waits_for_a_lock

Vectors = NDArray[np.float32]


@pytest.fixture
def settings() -> Settings:
    return load(
        flags={"monitoring.baseline.vectors": 250, "monitoring.check_interval": 1},
    )


@pytest.fixture
def monitor(store: str, settings: Settings) -> Iterator[Monitor]:
    monitor = Monitor(store, settings)
    monitor.start()
    yield monitor
    monitor.stop()


def test_a_snapshot_has_models_polls_checks_and_examinations(
    monitor: Monitor, send: Callable[..., None], vectors: Vectors
) -> None:
    send(vectors[:250])
    wait_for(lambda: monitor.has_followed, "the first poll")
    wait_for(lambda: any(m.baseline for m in monitor.snapshot().models), "the baseline")
    send(vectors[250:350])
    wait_for(lambda: monitor.snapshot().models[0].series[0].verdict.state == "ok", "a verdict")
    wait_for(lambda: monitor.snapshot().checks.succeeded, "a check")
    wait_for(lambda: "explanation" in monitor.snapshot().examinations, "a look")
    snapshot = monitor.snapshot()
    assert snapshot.polls.up
    assert set(snapshot.examinations) == {
        *("quality", "magnitude", "exact", "forecast", "rise", "slices", "record"),
        "explanation",
    }
    assert all(status.success for status in snapshot.examinations.values())
    assert monitor.model("m") is not None
    assert monitor.model("none") is None


def test_it_stops_though_the_store_does_not_answer(
    store: str, settings: Settings, connection: psycopg.Connection
) -> None:
    monitor = Monitor(store, settings)
    stopping = threading.Thread(target=monitor.stop, daemon=True)
    with connect(store) as other, other.transaction():
        other.execute("lock table model")
        monitor.start()
        wait_for(lambda: waits_for_a_lock(connection), "the tail")
        stopping.start()
        stopping.join(240)
        assert not stopping.is_alive()


def test_one_that_never_starts_has_nothing_to_close(settings: Settings) -> None:
    before = set(threading.enumerate())
    Monitor("host=nowhere.example.org", settings)
    assert set(threading.enumerate()) <= before
