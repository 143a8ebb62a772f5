"""The monitor: follows a store in its threads, and stops whatever the store does."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from exporter.monitor.model import Model
from exporter.monitor.monitor import Monitor
from exporter.monitor.snapshot import ModelSnapshot
from ingest.runtime.settings.configuration import load
from ingest.runtime.settings.settings import MonitoringSettings, Settings
from ingest.store.changes import ModelRow
from ingest.store.connection import connect
from tests.service import wait_for, waits_for_a_lock

Vectors = NDArray[np.float32]

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def settings() -> Settings:
    return load(
        flags={"monitoring.baseline.vectors": 250, "monitoring.check_interval": 1}
        | {"monitoring.poll_interval": 0.1}
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
    expected = {
        *("quality", "magnitude", "exact", "forecast", "rise", "slices", "record"),
        "explanation",
    }
    # The first check may have found no model.
    wait_for(lambda: set(monitor.snapshot().examinations) == expected, "each examination")
    snapshot = monitor.snapshot()
    assert snapshot.polls.up
    assert all(status.success for status in snapshot.examinations.values())
    assert monitor.model("m") is not None
    assert monitor.model("none") is None


def test_a_snapshot_has_the_interval_of_checks_that_was_configured_last(settings: Settings) -> None:
    monitor = Monitor("host=nowhere.example.org", settings)
    assert monitor.snapshot().check_interval == 1
    monitor.reconfigure(load(flags={"monitoring.check_interval": 3_600}))
    assert monitor.snapshot().check_interval == 3_600


def test_other_intervals_take_effect_at_once(
    store: str, send: Callable[..., None], vectors: Vectors
) -> None:
    rare = {"monitoring.poll_interval": 300, "monitoring.check_interval": 3_600}
    monitor = Monitor(store, load(flags=rare))
    monitor.start()
    try:
        wait_for(lambda: len(monitor.snapshot().examinations) > 1, "a look and a check")
        checked_at = monitor.snapshot().checks.timestamp
        send(vectors[:250])
        often = {"monitoring.poll_interval": 0.1, "monitoring.check_interval": 1}
        monitor.reconfigure(load(flags=often))
        wait_for(lambda: monitor.model("m") is not None, "the next poll")
        wait_for(lambda: monitor.snapshot().checks.timestamp != checked_at, "the next check")
    finally:
        monitor.stop()


class Odd(Model):
    """A model that does something while it is judged."""

    def __init__(self, name: str, act: Callable[[], object]) -> None:
        super().__init__(ModelRow(name, 8, 0, None, None, None, NOW), MonitoringSettings())
        self._act = act

    def snapshot(
        self, now: float, deadline: float = math.inf, with_vectors: bool = False
    ) -> ModelSnapshot:
        self._act()
        return super().snapshot(now, deadline, with_vectors)


def test_a_model_is_missing_if_it_cannot_be_judged_and_not_if_it_came_or_went_meanwhile(
    settings: Settings,
) -> None:
    monitor = Monitor("host=nowhere.example.org", settings)
    models = monitor.models
    models.add(Odd("leaving", lambda: models.remove("leaving")))
    found = monitor.snapshot()
    assert (len(found.models), found.missing) == (1, 0)
    models.add(Odd("first", lambda: models.add(Odd("second", lambda: None))))
    found = monitor.snapshot()
    assert (len(found.models), found.missing) == (1, 0)
    models.add(Odd("leaving", lambda: models.remove("leaving")))
    found = monitor.snapshot()
    assert (len(found.models), found.missing) == (3, 0)
    models.add(Odd("broken", lambda: 1 / 0))
    found = monitor.snapshot()
    assert (len(found.models), found.missing) == (2, 1)


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
