"""The examiner: verdicts are recorded, and findings attached, whatever fails."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from exporter.detector.exact import compare
from exporter.monitor import baseline
from exporter.monitor.examiner import Examiner
from exporter.monitor.forecast import Forecast
from exporter.monitor.model import Model, Models
from exporter.monitor.monitor import examinations
from exporter.monitor.series import Series
from exporter.monitor.snapshot import ModelSnapshot
from exporter.monitor.tail import Tail
from ingest.runtime.errors import StoreLost, StoreUnavailable
from ingest.runtime.settings.settings import (
    MonitoringSettings,
    WindowSettings,
    WindowsSettings,
)
from ingest.store import baselines, history, reports
from ingest.store.connection import connect
from ingest.store.models import remove
from ingest.store.pool import Pool
from ingest.store.selection import Selection
from ingest.store.standbys import Standbys
from tests.exporter.explained import explained
from tests.exporter.monitor.polling import poll_until, unreadable
from tests.service import wait_for

Vectors = NDArray[np.float32]
Send = Callable[[Vectors], None]

SETTINGS = MonitoringSettings(
    windows=WindowsSettings(
        fast=WindowSettings(seconds=900, max_vectors=300),
        slow=WindowSettings(seconds=21_600, max_vectors=400),
    ),
)


def followed(pool: Pool) -> Models:
    models = Models()
    Tail(pool, models, SETTINGS).poll()
    return models


def examiner(
    pool: Pool, models: Models, monotonic: Callable[[], float] = time.monotonic
) -> Examiner:
    return Examiner(models, examinations(pool), pool, 300, threading.Event(), monotonic=monotonic)


class WithoutReplica:
    """An examination that reads from a replica which is away."""

    name = "exact"
    interval = 0.0

    def __init__(self) -> None:
        self.asked: list[str] = []

    def examine(self, model: ModelSnapshot) -> dict[str, object]:
        self.asked.append(model.row.model_name)
        raise StoreLost("the replica is away")

    def is_awaited(self, model: ModelSnapshot) -> bool:
        return False


def forecasts(model: Model) -> dict[str, Forecast | None]:
    return {name: found.forecast for name, found in model.standing.findings.items()}


def forecast(model: Model, window: str) -> Forecast:
    found = forecasts(model)[window]
    assert found is not None
    return found


def examined(model: Model, name: str) -> set[str]:
    """Windows of which an examination found something."""
    findings = model.standing.findings
    return {window for window in findings if getattr(findings[window], name) is not None}


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
    connection.execute(
        "update baseline_embedding set embedding = '[1]' where model_name = %s and seq = 1",
        [model_name],
    )


def test_every_window_gets_a_row_of_history(
    pool: Pool, models: Models, connection: psycopg.Connection
) -> None:
    examiner(pool, models).check()
    rows = connection.execute(
        "select model_name, window_name, state, vectors, baseline_version, score is not null,"
        " components ? 'mean', changed_ratio between changed_ratio_lower and changed_ratio_upper,"
        " norm from drift_history order by window_name"
    ).fetchall()
    norms = {
        name: found.quality.norm
        for name, found in models.by_name["m"].standing.findings.items()
        if found.quality is not None
    }
    assert rows == [
        ("m", "fast", "ok", 200, 1, True, True, True, norms["fast"]),
        ("m", "slow", "ok", 200, 1, True, True, True, norms["slow"]),
    ]


def test_a_window_that_cannot_tell_is_recorded_without_numbers(
    pool: Pool, send: Send, vectors: Vectors, connection: psycopg.Connection
) -> None:
    send(vectors[:60])
    examiner(pool, followed(pool)).check()
    rows = connection.execute("select distinct state, score, norm from drift_history").fetchall()
    assert rows == [("no_baseline", None, None)]


def test_a_window_that_cannot_tell_names_the_baseline_that_is_there(
    pool: Pool, send: Send, vectors: Vectors, connection: psycopg.Connection
) -> None:
    send(vectors[:605])
    baseline.pin(connection, "m", Selection(first=600))
    examiner(pool, followed(pool)).check()
    rows = connection.execute(
        "select distinct state, vectors, baseline_version from drift_history"
    ).fetchall()
    assert rows == [("too_few_vectors", 5, 1)]


def test_a_history_of_days_gives_season_and_band(
    pool: Pool, models: Models, connection: psycopg.Connection
) -> None:
    remember(connection, days=8)
    examiner(pool, models).check()
    assert forecast(models.by_name["m"], "slow") == Forecast("too_short")
    fast = forecast(models.by_name["m"], "fast")
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
    examiner(pool, models).check()
    assert forecast(models.by_name["m"], "fast") == Forecast("too_short")


def test_history_is_judged_once_an_hour(
    pool: Pool, models: Models, connection: psycopg.Connection
) -> None:
    now = [0.0]
    hourly = examiner(pool, models, lambda: now[0])
    hourly.check()
    remember(connection, days=8)
    now[0] += 3_599
    hourly.check()
    assert forecast(models.by_name["m"], "fast").state == "too_short"
    now[0] += 1
    hourly.check()
    assert forecast(models.by_name["m"], "fast").state == "daily"


def test_a_new_model_is_judged_at_the_next_check(
    pool: Pool, send: Send, vectors: Vectors, connection: psycopg.Connection
) -> None:
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    tail.poll()
    early = examiner(pool, models)
    early.check()
    send(vectors[:800])
    baseline.pin(connection, "m", Selection(first=600))
    remember(connection, days=8)
    tail.poll()
    early.check()
    assert forecast(models.by_name["m"], "fast").state == "daily"


def test_a_new_baseline_forgets_what_was_judged_against_the_old(
    pool: Pool, models: Models, connection: psycopg.Connection
) -> None:
    remember(connection, days=8)
    examiner(pool, models).check()
    model = models.by_name["m"]
    baseline.pin(connection, "m", Selection(last=500))
    Tail(pool, models, SETTINGS).poll()
    assert set(forecasts(model).values()) == {Forecast("too_short")}


def test_a_measurement_against_one_baseline_is_not_reused_for_the_next(
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
            " and database = (select oid from pg_database where datname = current_database())"
        )
        return connection.execute(locks).fetchone() is not None

    def version() -> int | None:
        found = models.by_name["m"].baseline
        return None if found is None else found.version

    send(vectors[800:900] + 1)
    tail = Tail(pool, models, SETTINGS)
    tail.poll()
    baseline.pin(connection, "m", Selection(last=500))
    with connect(store) as other, ThreadPoolExecutor(1) as thread:
        with other.transaction():
            other.execute("lock table baseline_embedding")
            checking = thread.submit(examiner(pool, models).check)
            wait_for(waits, "the check, to compare with the first baseline")
            # Not while the tail still works on what follows the first baseline.
            poll_until(tail, lambda: version() == 2)
        checking.result(60)
    assert version() == 2
    assert examined(models.by_name["m"], "exact") == set()
    rows = connection.execute("select baseline_version, score > 2 from drift_history").fetchall()
    assert rows == [(1, True)] * 2


def test_dimensions_of_a_surprising_window_are_compared_exactly(
    pool: Pool, models: Models, send: Send, vectors: Vectors
) -> None:
    examiner(pool, models).check()
    assert examined(models.by_name["m"], "exact") == set()
    send(vectors[800:900] + np.float32(3))
    drifted = followed(pool)
    examiner(pool, drifted).check()
    model: Model = drifted.by_name["m"]
    fast, _ = model.snapshot(drifted.now()).series
    measured, exact = fast.verdict.measurement, fast.findings.exact
    assert measured is not None
    assert exact is not None
    top = [moved.dimension for moved in measured.top_dimensions]
    current = np.concatenate([vectors[600:800], vectors[800:900] + np.float32(3)])
    expected = compare(vectors[:600], current)
    np.testing.assert_array_equal(exact.dimension, top)
    np.testing.assert_allclose(exact.ks, expected.ks[top])
    np.testing.assert_allclose(exact.wasserstein, expected.wasserstein[top])


def test_a_removed_model_does_not_fail_the_check(
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
    examiner(pool, drifted).check()
    assert connection.execute("select * from drift_history").fetchall() == []


def test_one_failing_model_does_not_stop_the_check(
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
    examiner(pool, followed_both).check()
    assert examined(followed_both.by_name["a"], "exact")
    damage(connection, "a")
    connection.execute("delete from drift_history")
    remember(connection, days=8)
    followed_both = followed(pool)
    failing = examiner(pool, followed_both)
    with pytest.raises(ValueError, match="not a binary COPY of vectors") as raised:
        failing.check()
    assert raised.value.__notes__ == ["Raised by the check of model a"]
    good, bad = followed_both.by_name["m"], followed_both.by_name["a"]
    assert examined(good, "quality") == examined(bad, "quality") == {"fast", "slow"}
    assert forecast(good, "fast").state == "daily"
    assert forecast(bad, "fast").state == "too_short"
    assert examined(bad, "exact") == set()
    successes = {name: status.success for name, status in failing.examined.items()}
    assert successes == {
        "quality": True,
        "magnitude": True,
        "exact": False,
        "forecast": True,
        "rise": True,
        "slices": True,
        "record": True,
    }
    rows = connection.execute(
        "select model_name, window_name, state, score is not null, norm is not null"
        " from drift_history where computed_at > now() - interval '5 minutes' order by 1, 2"
    ).fetchall()
    assert rows == [
        ("a", "fast", "ok", True, True),
        ("a", "slow", "ok", True, True),
        ("m", "fast", "ok", True, True),
        ("m", "slow", "ok", True, True),
    ]


def test_a_model_whose_statement_the_server_ends_leaves_the_examinations_of_the_others(
    pool: Pool,
    send: Callable[..., None],
    vectors: Vectors,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The model a comes first, and the server cannot read a block of its baseline."""
    for name in ("a", "m"):
        send(vectors[:600], name)
        baseline.pin(connection, name, Selection(first=600))
        send(vectors[600:800] + np.float32(3), name)
    models = followed(pool)
    monkeypatch.setattr(baselines, "vectors", unreadable(baselines.vectors))
    checking = examiner(pool, models)
    with pytest.raises(StoreUnavailable, match="could not read block 7") as raised:
        checking.check()
    assert raised.value.__notes__ == ["Raised by the check of model a"]
    assert examined(models.by_name["a"], "exact") == set()
    assert examined(models.by_name["m"], "exact") == {"fast", "slow"}
    assert not checking.examined["exact"].success


def test_a_statement_that_the_server_ends_leaves_what_was_found_before(
    pool: Pool,
    send: Callable[..., None],
    vectors: Vectors,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when a replica cancels the query of a long check."""
    send(vectors[:600], "a")
    baseline.pin(connection, "a", Selection(first=600))
    send(vectors[600:800] + np.float32(3), "a")
    models = followed(pool)
    checking = examiner(pool, models)
    checking.check()
    assert examined(models.by_name["a"], "exact") == {"fast", "slow"}
    monkeypatch.setattr(baselines, "vectors", unreadable(baselines.vectors))
    with pytest.raises(StoreUnavailable, match="could not read block 7"):
        checking.check()
    assert examined(models.by_name["a"], "exact") == {"fast", "slow"}


def test_one_model_that_cannot_be_reported_leaves_the_reports_of_the_others(
    pool: Pool, models: Models, send: Callable[..., None], vectors: Vectors
) -> None:
    """What was kept of the model a is of a release that writes it in another way."""
    send(vectors[:100], "a")
    followed_both = followed(pool)
    kept = explained(time.time(), "a", kind="unheard of")
    followed_both.by_name["a"].standing.explained = {Series("a", "fast"): kept}
    with pytest.raises(msgspec.ValidationError, match="unheard of"):
        examiner(pool, followed_both).check()
    with pool.connection() as connection:
        told = {each.model_name: each.text for each in reports.glances(connection)}
    assert told["a"] is None
    assert told["m"] is not None


def test_standbys_are_those_of_the_last_check_while_the_next_one_runs(
    pool: Pool, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    checking = examiner(pool, models)
    checking.check()
    assert checking.standbys == Standbys(0, 0, 0)
    seen: list[Standbys | None] = []

    def append(*_: object) -> None:
        seen.append(checking.standbys)
        raise StoreUnavailable("away")

    monkeypatch.setattr(history, "append", append)
    with pytest.raises(StoreUnavailable):
        checking.check()
    assert seen == [Standbys(0, 0, 0)]
    # After a check without an answer, nothing is known.
    assert checking.standbys is None


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
    hourly = examiner(pool, models, lambda: now[0])
    hourly.check()
    model = models.by_name["m"]
    judged = forecast(model, "fast")
    assert judged.state == "daily"
    assert examined(model, "exact") == examined(model, "quality") == {"fast", "slow"}
    damage(connection, "m")
    now[0] += 3_599
    fail()
    assert forecast(model, "fast") is judged
    assert examined(model, "quality") == {"fast", "slow"}
    assert examined(model, "exact") == set()
    connection.execute("delete from drift_history")
    now[0] += 1
    fail()
    assert forecast(model, "fast") == Forecast("too_short")


def test_a_store_that_is_away_is_an_error(
    pool: Pool, models: Models, connection: psycopg.Connection
) -> None:
    connection.execute("alter table drift_history rename to gone")
    failing = examiner(pool, models)
    with pytest.raises(StoreUnavailable):
        failing.check()
    assert not failing.examined["forecast"].success
    assert failing.examined["quality"].success
    assert failing.examined["quality"].duration > 0


def test_the_thread_waits_for_the_windows_and_survives_failures(
    pool: Pool,
    models: Models,
    connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def rows() -> int:
        [(count,)] = connection.execute("select count(*) from drift_history").fetchall()
        return int(count)

    ready = threading.Event()
    checking = Examiner(models, examinations(pool), pool, 0.05, ready, clock=lambda: 123.0)
    connection.execute("alter table drift_history rename to gone")
    checking.start()
    time.sleep(0.5)
    assert caplog.records == []
    ready.set()
    wait_for(lambda: any(r.message.startswith("check failed") for r in caplog.records), "a failure")
    # The message says all.
    assert {(r.levelname, r.exc_info) for r in caplog.records} == {("WARNING", None)}
    assert checking.status.timestamp is None
    wait_for(lambda: checking.status.failures >= 1, "its count")
    connection.execute("alter table gone rename to drift_history")
    wait_for(lambda: rows() > 0, "history")
    wait_for(lambda: checking.status.timestamp == 123.0, "a success")
    checking.stop(pool.cut)


def test_a_check_comes_soon_after_the_store_is_back_however_long_the_interval(
    pool: Pool,
    models: Models,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("exporter.monitor.examiner._AWAY_SECONDS", 0.05)
    ready = threading.Event()
    ready.set()
    checking = Examiner(models, examinations(pool), pool, 3_600, ready)
    # Only what records needs it: that an examination fails makes no check come soon.
    connection.execute("alter table report rename to gone")
    checking.start()
    wait_for(lambda: checking.status.failures > 1, "two failures")
    connection.execute("alter table gone rename to report")
    wait_for(lambda: checking.status.succeeded, "a success")
    failures, succeeded_at = checking.status.failures, checking.status.timestamp
    time.sleep(0.5)
    assert (checking.status.failures, checking.status.timestamp) == (failures, succeeded_at)
    checking.stop(pool.cut)


def test_a_replica_that_is_away_does_not_make_checks_more_frequent(
    pool: Pool, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.monitor.examiner._AWAY_SECONDS", 0.05)
    ready = threading.Event()
    ready.set()
    checking = Examiner(models, [WithoutReplica()], pool, 3_600, ready)
    checking.start()
    wait_for(lambda: checking.status.failures > 0, "a failure")
    time.sleep(0.5)
    assert checking.status.failures == 1
    checking.stop(pool.cut)


def test_it_stops_at_once_though_the_store_was_never_read(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = Examiner(Models(), examinations(pool), pool, 300, threading.Event())
    waiting.start()
    started = time.monotonic()
    waiting.stop(pool.cut)
    assert time.monotonic() - started < 60
    assert waiting.examined == {}
    assert caplog.records == []


def test_verdicts_are_recorded_though_an_examination_lost_its_replica(
    pool: Pool,
    models: Models,
    send: Callable[..., None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    send(vectors[:300], "z")
    models = followed(pool)
    exact = WithoutReplica()
    lost = Examiner(models, [exact, *examinations(pool)[:1]], pool, 300, threading.Event())
    with pytest.raises(StoreUnavailable, match="the replica is away"):
        lost.check()
    assert lost.examined["record"].success
    assert not lost.examined["exact"].success
    # Each would wait as long for the replica.
    assert exact.asked == ["m"]
    assert examined(models.by_name["z"], "quality") == {"fast", "slow"}
    rows = connection.execute("select model_name, window_name from drift_history order by 1, 2")
    assert rows.fetchall() == [("m", "fast"), ("m", "slow"), ("z", "fast"), ("z", "slow")]


def test_what_was_measured_of_a_model_is_not_recorded_of_another_one_of_its_name(
    pool: Pool,
    models: Models,
    send: Send,
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    checking = examiner(pool, models)
    remove(connection, "m")
    send(vectors[:300])
    checking.check()
    checking.catch_up()
    assert connection.execute("select * from drift_history").fetchall() == []
    [told] = reports.glances(connection)
    assert told.text is None


def test_a_model_that_was_made_again_is_reported_before_the_next_check(
    pool: Pool,
    models: Models,
    send: Callable[..., None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    catching_up = examiner(pool, models)
    catching_up.check()
    remove(connection, "m")
    send(vectors[:300])
    models.remove("m")
    for model in followed(pool).by_name.values():
        models.add(model)
    catching_up.catch_up()
    [told] = reports.glances(connection)
    assert told.text is not None


def test_reports_have_another_interval_before_the_next_check(
    pool: Pool, models: Models, connection: psycopg.Connection
) -> None:
    """Others would call them overdue by the one before."""
    checking = examiner(pool, models)
    checking.check()
    checking.reconfigure(3_600)
    checking.catch_up()
    rows = connection.execute("select check_interval_seconds from report").fetchall()
    assert rows == [(3_600,)]


def test_a_magnitude_that_is_missing_is_not_left_to_the_next_check(
    pool: Pool, models: Models, connection: psycopg.Connection
) -> None:
    model = models.by_name["m"]
    waiting = examiner(pool, models)
    waiting.catch_up()
    assert examined(model, "magnitude") == {"fast", "slow"}
    # Only what is awaited was run, and nothing recorded.
    assert examined(model, "quality") == set()
    assert connection.execute("select count(*) from drift_history").fetchone() == (0,)
    before = dict(model.standing.findings)
    waiting.catch_up()
    assert dict(model.standing.findings) == before


def test_a_snapshot_that_lacks_a_magnitude_wakes_the_examiner(
    pool: Pool, models: Models, vectors: Vectors
) -> None:
    model = models.by_name["m"]
    followed = threading.Event()
    followed.set()
    waiting = Examiner(models, examinations(pool), pool, 300, followed)
    waiting.start()
    try:
        wait_for(lambda: waiting.status.succeeded, "the first check")
        model.standing.attach("magnitude", {})
        waiting.notice([model.snapshot(models.now())])
        wait_for(lambda: examined(model, "magnitude") == {"fast", "slow"}, "the magnitude")
    finally:
        waiting.stop(lambda: None)
