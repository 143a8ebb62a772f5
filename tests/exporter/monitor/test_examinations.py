"""The check: verdicts are recorded, drifting dimensions compared exactly, histories judged."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg import sql

from exporter.detector.exact import compare
from exporter.monitor import baseline
from exporter.monitor.examinations import Check
from exporter.monitor.forecast import History
from exporter.monitor.model import Model, Models
from exporter.monitor.tail import Tail
from ingest.runtime.errors import StoreUnavailable
from ingest.runtime.settings.settings import (
    MonitoringSettings,
    WindowSettings,
    WindowsSettings,
)
from ingest.store.connection import connect
from ingest.store.models import remove
from ingest.store.pool import Pool
from ingest.store.selection import Selection
from tests.service import wait_for

Vectors = NDArray[np.float32]
Send = Callable[[Vectors], None]

SETTINGS = MonitoringSettings(
    windows=WindowsSettings(
        fast=WindowSettings(seconds=900, max_vectors=100),
        slow=WindowSettings(seconds=21_600, max_vectors=400),
    ),
)


def followed(pool: Pool) -> Models:
    models = Models()
    Tail(pool, models, SETTINGS).poll()
    return models


def check(pool: Pool, models: Models) -> Check:
    return Check(pool, models, 300, threading.Event())


@pytest.fixture
def models(pool: Pool, send: Send, vectors: Vectors, connection: psycopg.Connection) -> Models:
    """The model m with a baseline of 600 vectors, and 200 newer ones."""
    send(vectors[:800])
    baseline.pin(connection, "m", Selection(first=600))
    return followed(pool)


def remember(connection: psycopg.Connection, days: int, version: int = 1) -> None:
    """Write a history with a season of a day, a row every ten minutes up to now."""
    connection.execute(
        "insert into drift_history (model_name, window_name, computed_at, state, vectors,"
        " baseline_version, cosine_similarity) select 'm', 'fast', at, 'ok', 100, %s,"
        " 0.5 + 0.1 * sin(2 * pi() * extract(epoch from at) / 86400) + 0.01 * random()"
        " from generate_series(now() - make_interval(days => %s), now() - interval '1 s',"
        " '10 min') at",
        (version, days),
    )


def damage(connection: psycopg.Connection, model_name: str) -> None:
    """Cut off one of the baseline's vectors, so that nothing can be compared with it exactly."""
    for (index,) in connection.execute(
        "select indexname from pg_indexes where indexdef like '%USING hnsw%'"
    ).fetchall():
        connection.execute(sql.SQL("drop index {}").format(sql.Identifier(index)))
    connection.execute(
        "update baseline_embedding set embedding = '[1]' where model_name = %s and seq = 1",
        [model_name],
    )


def test_every_window_gets_a_row_of_history(
    pool: Pool, models: Models, connection: psycopg.Connection
) -> None:
    check(pool, models).check()
    rows = connection.execute(
        "select model_name, window_name, state, vectors, baseline_version, score is not null,"
        " components ? 'mean', magnitude >= 0, norm from drift_history order by window_name"
    ).fetchall()
    quality = models.by_name["m"].quality
    assert rows == [
        ("m", "fast", "ok", 100, 1, True, True, True, quality["fast"].norm),
        ("m", "slow", "ok", 120, 1, True, True, True, quality["slow"].norm),
    ]


def test_a_window_that_cannot_tell_is_recorded_without_numbers(
    pool: Pool, send: Send, vectors: Vectors, connection: psycopg.Connection
) -> None:
    send(vectors[:60])
    check(pool, followed(pool)).check()
    rows = connection.execute("select distinct state, score, norm from drift_history").fetchall()
    assert rows == [("no_baseline", None, None)]


def test_a_window_that_cannot_tell_names_the_baseline_that_is_there(
    pool: Pool, send: Send, vectors: Vectors, connection: psycopg.Connection
) -> None:
    send(vectors[:605])
    baseline.pin(connection, "m", Selection(first=600))
    check(pool, followed(pool)).check()
    rows = connection.execute(
        "select distinct state, vectors, baseline_version from drift_history"
    ).fetchall()
    assert rows == [("too_few_vectors", 5, 1)]


def test_a_history_of_days_tells_season_and_band(
    pool: Pool, models: Models, connection: psycopg.Connection
) -> None:
    remember(connection, days=8)
    check(pool, models).check()
    history = models.by_name["m"].standing.history
    assert history["slow"] == History("too_short")
    fast = history["fast"]
    assert fast.state == "daily"
    assert fast.lower is not None
    assert fast.expected is not None
    assert fast.upper is not None
    now = 0.505 + 0.1 * math.sin(2 * math.pi * (time.time() - 1_800) / 86_400)
    assert fast.expected == pytest.approx(now, abs=0.02)
    assert fast.lower < fast.expected < fast.upper


def test_history_against_another_baseline_does_not_count(
    pool: Pool, models: Models, connection: psycopg.Connection
) -> None:
    remember(connection, days=8, version=2)
    check(pool, models).check()
    assert models.by_name["m"].standing.history["fast"] == History("too_short")


def test_history_is_judged_once_an_hour(
    pool: Pool, models: Models, connection: psycopg.Connection
) -> None:
    now = [0.0]
    hourly = Check(pool, models, 300, threading.Event(), monotonic=lambda: now[0])
    hourly.check()
    remember(connection, days=8)
    now[0] += 3_599
    hourly.check()
    assert models.by_name["m"].standing.history["fast"].state == "too_short"
    now[0] += 1
    hourly.check()
    assert models.by_name["m"].standing.history["fast"].state == "daily"


def test_a_new_baseline_forgets_what_was_judged_against_the_old(
    pool: Pool, models: Models, connection: psycopg.Connection
) -> None:
    remember(connection, days=8)
    check(pool, models).check()
    model = models.by_name["m"]
    baseline.pin(connection, "m", Selection(last=500))
    Tail(pool, models, SETTINGS).poll()
    assert set(model.standing.history.values()) == {History("too_short")}


def test_what_was_measured_against_one_baseline_is_not_taken_for_the_next_ones(
    pool: Pool,
    models: Models,
    send: Send,
    vectors: Vectors,
    connection: psycopg.Connection,
    store: str,
) -> None:
    def waits() -> bool:
        locks = (
            "select from pg_locks where relation = 'baseline_embedding'::regclass and not granted"
        )
        return connection.execute(locks).fetchone() is not None

    send(vectors[800:900] + 1)
    tail = Tail(pool, models, SETTINGS)
    tail.poll()
    baseline.pin(connection, "m", Selection(last=500))
    with connect(store) as other, ThreadPoolExecutor(1) as thread:
        with other.transaction():
            other.execute("lock table baseline_embedding")
            checking = thread.submit(check(pool, models).check)
            wait_for(waits, "the check, to compare with the first baseline")
            tail.poll()
        checking.result(60)
    standing = models.by_name["m"].standing
    assert standing.baseline is not None
    assert (standing.baseline.version, standing.exact) == (2, {})
    rows = connection.execute("select baseline_version, score > 2 from drift_history").fetchall()
    assert rows == [(1, True)] * 2


def test_dimensions_of_a_surprising_window_are_compared_exactly(
    pool: Pool, models: Models, send: Send, vectors: Vectors
) -> None:
    checking = check(pool, models)
    checking.check()
    assert models.by_name["m"].standing.exact == {}
    send(vectors[800:900] + np.float32(3))
    drifted = followed(pool)
    check(pool, drifted).check()
    model: Model = drifted.by_name["m"]
    measured = model.verdict("fast", drifted.now()).measurement
    assert measured is not None
    top = [moved.dimension for moved in measured.top_dimensions]
    expected = compare(vectors[:600], vectors[800:900] + np.float32(3))
    np.testing.assert_array_equal(model.standing.exact["fast"].dimension, top)
    np.testing.assert_allclose(model.standing.exact["fast"].ks, expected.ks[top])
    np.testing.assert_allclose(model.standing.exact["fast"].wasserstein, expected.wasserstein[top])


def test_a_model_that_was_removed_since_the_last_poll_stops_no_check(
    pool: Pool,
    connection: psycopg.Connection,
    models: Models,
    send: Send,
    vectors: Vectors,
) -> None:
    assert "m" in models.by_name
    send(vectors[800:900] + np.float32(3))
    drifted = followed(pool)
    remove(connection, "m")
    check(pool, drifted).check()
    assert connection.execute("select * from drift_history").fetchall() == []


def test_a_model_that_cannot_be_checked_keeps_no_other_from_it(
    pool: Pool,
    models: Models,
    send: Callable[..., None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    """The model a comes first, drifts, and one of its baseline's vectors was cut off."""
    send(vectors[:600], "a")
    baseline.pin(connection, "a", Selection(first=600))
    send(vectors[600:800] + np.float32(3), "a")
    followed_both = followed(pool)
    checking = check(pool, followed_both)
    checking.check()
    assert followed_both.by_name["a"].standing.exact
    damage(connection, "a")
    connection.execute("delete from drift_history")
    remember(connection, days=8)
    with pytest.raises(ValueError, match="not a binary COPY of vectors") as raised:
        check(pool, followed_both).check()
    assert raised.value.__notes__ == ["Raised by the check of model a"]
    good, bad = followed_both.by_name["m"], followed_both.by_name["a"]
    assert set(good.quality) == {"fast", "slow"}
    assert good.standing.history["fast"].state == "daily"
    assert (bad.quality, bad.standing.exact) == ({}, {})
    assert bad.standing.history["fast"].state == "too_short"
    rows = connection.execute(
        "select model_name, window_name, state, score is not null, norm is not null"
        " from drift_history where computed_at > now() - interval '1 s' order by 1, 2"
    ).fetchall()
    assert rows == [
        ("a", "fast", "ok", True, False),
        ("a", "slow", "ok", True, False),
        ("m", "fast", "ok", True, True),
        ("m", "slow", "ok", True, True),
    ]


def test_a_check_that_fails_keeps_the_history_until_it_is_due_again(
    pool: Pool, models: Models, send: Send, vectors: Vectors, connection: psycopg.Connection
) -> None:
    def fail() -> None:
        with pytest.raises(ValueError, match="not a binary COPY of vectors"):
            hourly.check()

    remember(connection, days=8)
    send(vectors[800:900] + np.float32(3))
    Tail(pool, models, SETTINGS).poll()
    now = [0.0]
    hourly = Check(pool, models, 300, threading.Event(), monotonic=lambda: now[0])
    hourly.check()
    model = models.by_name["m"]
    judged = model.standing.history
    assert judged["fast"].state == "daily"
    assert set(model.standing.exact) == set(model.quality) == {"fast", "slow"}
    damage(connection, "m")
    now[0] += 3_599
    fail()
    assert model.standing.history is judged
    assert (model.quality, model.standing.exact) == ({}, {})
    connection.execute("delete from drift_history")
    now[0] += 1
    fail()
    assert model.standing.history["fast"] == History("too_short")


def test_a_store_that_is_away_is_an_error(
    pool: Pool, models: Models, connection: psycopg.Connection
) -> None:
    connection.execute("alter table drift_history rename to gone")
    with pytest.raises(StoreUnavailable):
        check(pool, models).check()


def test_the_thread_waits_for_the_windows_and_survives_failures(
    pool: Pool,
    models: Models,
    connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def wait_for(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def rows() -> int:
        [(count,)] = connection.execute("select count(*) from drift_history").fetchall()
        return int(count)

    ready = threading.Event()
    checking = Check(pool, models, 0.05, ready, clock=lambda: 123.0)
    connection.execute("alter table drift_history rename to gone")
    checking.start()
    assert caplog.records == []
    ready.set()
    wait_for(lambda: any(r.message.startswith("check failed") for r in caplog.records))
    assert checking.status.timestamp is None
    wait_for(lambda: checking.status.failures >= 1)
    connection.execute("alter table gone rename to drift_history")
    wait_for(lambda: rows() > 0)
    wait_for(lambda: checking.status.timestamp == 123.0)
    checking.stop()
