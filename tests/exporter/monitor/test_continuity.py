"""Continuity: an exporter that ran all along says what one says that starts now."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg.conninfo import make_conninfo

from exporter.monitor import baseline
from exporter.monitor.model import Models
from exporter.monitor.tail import Tail
from ingest.runtime.settings.settings import MonitoringSettings
from ingest.store import partitions
from ingest.store.connection import connect
from ingest.store.pool import sync_pool
from tests.exporter.monitor import continuity
from tests.service import wait_for


@pytest.fixture
def moved(store: str) -> str:
    """Connection string of a store whose clock a test may set."""
    with psycopg.connect(store, autocommit=True) as owner:
        owner.execute(continuity.CLOCK.encode())
    return make_conninfo(store, options=f"-c search_path={continuity.SEARCH_PATH}")


@pytest.fixture
def connection(moved: str) -> Iterator[psycopg.Connection]:
    """To that store."""
    with connect(moved) as connection:
        yield connection


def test_an_exporter_that_ran_all_along_says_what_a_new_one_says(
    moved: str, connection: psycopg.Connection, vectors: NDArray[np.float32], long: bool
) -> None:
    continuity.run(moved, connection, vectors, long)


@pytest.mark.parametrize("steps", continuity.EXAMPLES.values(), ids=continuity.EXAMPLES)
def test_it_does_so_after_the_clock_of_the_store_was_ahead(
    moved: str,
    connection: psycopg.Connection,
    vectors: NDArray[np.float32],
    steps: tuple[continuity.Step, ...],
) -> None:
    continuity.replay(moved, connection, vectors, steps)


def test_the_next_baseline_is_due_as_usual_after_the_clock_of_the_store_was_ahead(
    moved: str, connection: psycopg.Connection, vectors: NDArray[np.float32]
) -> None:
    partitions.ensure(connection)
    baseline.pin_vectors(connection, "m", vectors[:300], time.time() + np.arange(300.0), "test")
    models, settings = Models(), MonitoringSettings(check_interval=1)
    with sync_pool(moved, 2) as pool:
        tail = Tail(pool, models, settings)

        def days() -> float:
            """Days from now, by the clock of this machine, until the next baseline is due."""
            tail.poll()
            planned = models.by_name["m"].maturing
            return math.nan if planned is None else (planned.due_at - time.time()) / 86_400

        wait_for(lambda: days() == pytest.approx(1, abs=0.1), "what comes next")
        connection.execute("update clock.moved set seconds = 40 * 86400")
        wait_for(lambda: days() == pytest.approx(40, abs=0.1), "another try")
        connection.execute("update clock.moved set seconds = 0")
        wait_for(lambda: days() == pytest.approx(1, abs=0.1), "what comes next")
        tail.stop()


def test_replicas_whose_clocks_differ_are_no_clock_that_went_back(
    moved: str, store: str, connection: psycopg.Connection, vectors: NDArray[np.float32]
) -> None:
    partitions.ensure(connection)
    baseline.pin_vectors(connection, "m", vectors[:300], time.time() + np.arange(300.0), "test")
    models, settings = Models(), MonitoringSettings(check_interval=1)
    with sync_pool(moved, 1) as replicas, sync_pool(store, 1) as primary:
        tail = Tail(replicas, models, settings, primary=primary)
        tail.poll()
        windows = models.by_name["m"].windows
        for behind in (20, 0, 20, 0):
            connection.execute("update clock.moved set seconds = -%s", [behind])
            tail.poll()
        assert models.by_name["m"].windows is windows
        tail.stop()
