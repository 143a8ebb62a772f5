"""The tail: windows follow the store, baselines are taken, failures are survived."""

from __future__ import annotations

import asyncio
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg.conninfo import make_conninfo

from exporter.monitor import baseline, reporting
from exporter.monitor.model import Model, Models
from exporter.monitor.report import Drift
from exporter.monitor.tail import Tail, _is_complete
from exporter.monitor.verdict import Revisions, Verdict
from ingest.runtime import worker
from ingest.runtime.errors import StoreUnavailable
from ingest.runtime.settings.settings import (
    BaselineSettings,
    MonitoringSettings,
    WindowSettings,
    WindowsSettings,
)
from ingest.store.batch import Batch
from ingest.store.changes import is_sampled, sampled_ratio
from ingest.store.connection import AsyncConnection, connect
from ingest.store.migrate import migrate
from ingest.store.models import remove
from ingest.store.pool import Pool, open_sync
from ingest.store.selection import Selection
from ingest.store.vectors import Stored, insert
from tests.service import wait_for

Vectors = NDArray[np.float32]

SETTINGS = MonitoringSettings(
    baseline=BaselineSettings(vectors=1_000),
    windows=WindowsSettings(
        fast=WindowSettings(seconds=900, max_vectors=1_000),
        slow=WindowSettings(seconds=21_600, max_vectors=1_000),
    ),
)


def held(model: Model, window_name: str) -> Vectors:
    return model.windows.arrivals(window_name).vectors


def verdict(models: Models, window_name: str) -> Verdict:
    [found] = [
        each.verdict
        for each in models.by_name["m"].snapshot(models.now()).series
        if each.series.window == window_name
    ]
    return found


def told(model: Model, now: float) -> Drift:
    """What is reported of a model, but for when it was followed last."""
    found = reporting.detail(model.snapshot(now))
    found.following.followed_at = datetime.fromtimestamp(now, UTC)
    return found


def poll_until(tail: Tail, condition: Callable[[], bool]) -> None:
    def is_met() -> bool:
        tail.poll()
        return condition()

    wait_for(is_met, "what was waited for")


def make_yesterday(connection: psycopg.Connection) -> None:
    """Make the partition of the day before: some hours ago may have been then."""
    connection.execute(
        "do $$ declare today timestamptz := date_trunc('day', clock_timestamp(), 'UTC'); begin"
        " execute format('create table yesterday partition of embedding for values from (%L) to"
        " (%L)', today - interval '1 day', today); end $$"
    )


def test_windows_hold_the_newest_vectors_of_the_store(
    pool: Pool, send: Callable[[Vectors], None], vectors: Vectors
) -> None:
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    send(vectors[:30])
    tail.poll()
    send(vectors[30:150])
    send(vectors[150:160])
    tail.poll()
    model = models.by_name["m"]
    np.testing.assert_array_equal(held(model, "fast"), vectors[:160])
    np.testing.assert_array_equal(held(model, "slow"), vectors[:160])


def test_a_new_process_rebuilds_the_same_windows(
    pool: Pool, send: Callable[[Vectors], None], vectors: Vectors
) -> None:
    first, second = Models(), Models()
    following = Tail(pool, first, SETTINGS)
    for at in range(0, 600, 60):
        send(vectors[at : at + 60])
        following.poll()
    Tail(pool, second, SETTINGS).poll()
    for name in ("fast", "slow"):
        np.testing.assert_array_equal(
            held(first.by_name["m"], name), held(second.by_name["m"], name)
        )


def test_a_window_spans_its_seconds_at_any_rate(
    pool: Pool,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    """Four times as many as fit, read one by one or at once; then the traffic gets less."""
    settings = SETTINGS.model_copy(
        update={"windows": WindowsSettings(slow=WindowSettings(seconds=21_600, max_vectors=200))}
    )
    first, second = Models(), Models()
    following = Tail(pool, first, settings)
    make_yesterday(connection)
    for at in range(0, 900, 50):
        send(vectors[at : at + 50])
        following.poll()
    Tail(pool, second, settings).poll()
    numbers = np.arange(1, 901)
    for models in (first, second):
        view = models.by_name["m"].windows.views["slow"]
        assert 0.4 * 200 < len(view.window) <= 200
        expected = vectors[:900][is_sampled(numbers, view.stream.level)]
        np.testing.assert_array_equal(held(models.by_name["m"], "slow"), expected)
        assert verdict(models, "slow").sampled_ratio == sampled_ratio(view.stream.level) < 0.3
    # As if all but the last had come seven hours ago.
    connection.execute(
        "update embedding set received_at = received_at - interval '7 hours' where seq < 850"
    )
    view = first.by_name["m"].windows.views["slow"]
    view.stream.ring._kept.times[view.stream.ring._kept.seqs < 850] -= 7 * 3_600
    following.poll()
    np.testing.assert_array_equal(held(first.by_name["m"], "slow"), vectors[849:900])
    assert verdict(first, "slow").sampled_ratio == 1


def test_what_is_too_old_for_a_window_is_not_read(
    pool: Pool,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    make_yesterday(connection)
    send(vectors[:10])
    connection.execute("update embedding set received_at = received_at - interval '1 hour'")
    send(vectors[10:20])
    models = Models()
    Tail(pool, models, SETTINGS).poll()
    np.testing.assert_array_equal(held(models.by_name["m"], "fast"), vectors[10:20])
    np.testing.assert_array_equal(held(models.by_name["m"], "slow"), vectors[:20])


def test_a_store_clock_that_stepped_back_loses_no_vector(
    pool: Pool,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    make_yesterday(connection)
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    send(vectors[:10])
    tail.poll()
    send(vectors[10:20])
    connection.execute(
        "update embedding set received_at = received_at - interval '9 hours' where seq between 13"
        " and 15"
    )
    tail.poll()
    assert models.by_name["m"].windows.seen_seq == 20
    assert len(models.by_name["m"].windows.arrivals("slow")) == 20


def test_windows_go_by_arrival_whatever_clients_say_of_time(
    pool: Pool, send: Callable[..., None], vectors: Vectors
) -> None:
    """Late, out of order, twice the same, and a day ahead."""
    now = time.time()
    days: list[float | None] = [-40, 0, -1, -1, 1, None, -3, -2, 0.5, 0]
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    send(vectors[:10], timestamps=[None if d is None else now + 86_400 * d for d in days])
    tail.poll()
    send(vectors[10:20], timestamps=[now - 3_600] * 10)
    tail.poll()
    np.testing.assert_array_equal(held(models.by_name["m"], "fast"), vectors[:20])


def test_the_first_vectors_become_the_baseline_by_themselves(
    pool: Pool, send: Callable[[Vectors], None], vectors: Vectors
) -> None:
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    send(vectors[:999])
    tail.poll()
    assert verdict(models, "fast").state == "no_baseline"
    send(vectors[999:1_200])
    tail.poll()
    model = models.by_name["m"]
    poll_until(tail, lambda: model.baseline is not None)
    assert model.baseline is not None
    assert (model.baseline.version, model.baseline.source) == (1, "first 1000")
    assert model.baseline.detector.n_reference == 1_000
    assert verdict(models, "fast").state == "ok"
    np.testing.assert_array_equal(held(model, "fast"), vectors[1_000:1_200])
    tail.stop()


def test_a_pinned_baseline_is_taken_up_at_the_next_poll(
    pool: Pool,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    send(vectors[:800])
    tail.poll()
    assert baseline.pin(connection, "m", Selection(last=600)) == 1
    tail.poll()
    model = models.by_name["m"]
    assert verdict(models, "slow").state == "too_few_vectors"
    assert baseline.pin(connection, "m", Selection(first=600)) == 2
    tail.poll()
    assert model.baseline is not None
    assert (model.baseline.version, model.baseline.source) == (2, "first 600")
    np.testing.assert_array_equal(held(model, "slow"), vectors[600:800])


def test_windows_grow_and_shrink_with_the_baseline_as_after_a_restart(
    pool: Pool,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    for at in range(0, 2_600, 200):
        send(vectors[at : at + 200])
        tail.poll()
    # Of 2,100 after the first 500 only 250 may be in a window: the sample of level 14.
    for pinned, level in ((500, 14), (2_000, 0), (2_450, 0), (500, 14)):
        baseline.pin(connection, "m", Selection(first=pinned))
        tail.poll()
        restarted = Models()
        Tail(pool, restarted, SETTINGS).poll()
        for model in (models.by_name["m"], restarted.by_name["m"]):
            newer = np.arange(pinned + 1, 2_601)
            expected = vectors[newer[is_sampled(newer, level)] - 1]
            np.testing.assert_array_equal(held(model, "slow"), expected)
            np.testing.assert_array_equal(held(model, "fast"), expected)
        now = models.now()
        one, other = (each.by_name["m"] for each in (models, restarted))
        assert told(one, now) == told(other, now)


def test_a_scrape_sees_no_windows_half_read(
    pool: Pool,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    def scrape() -> None:
        while not done.is_set():
            found = verdict(models, "slow")
            seen.add((found.baseline_version, found.vectors))

    models, done = Models(), threading.Event()
    seen: set[tuple[int | None, int]] = set()
    before = 1, np.count_nonzero(is_sampled(np.arange(501, 2_601), 14))
    tail = Tail(pool, models, SETTINGS)
    send(vectors[:2_600])
    baseline.pin(connection, "m", Selection(first=500))
    tail.poll()
    baseline.pin(connection, "m", Selection(first=2_000))
    with ThreadPoolExecutor(1) as thread:
        scraping = thread.submit(scrape)
        try:
            wait_for(lambda: before in seen, "a scrape before")
            tail.poll()
            wait_for(lambda: (2, 600) in seen, "a scrape after")
        finally:
            done.set()
        scraping.result()
    assert seen == {before, (2, 600)}


def test_a_baseline_whose_windows_cannot_be_read_is_adopted_at_the_next_poll(
    pool: Pool,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    send(vectors[:2_600])
    baseline.pin(connection, "m", Selection(first=500))
    tail.poll()
    baseline.pin(connection, "m", Selection(first=2_000))
    connection.execute("alter table embedding rename to gone")
    with pytest.raises(ExceptionGroup, match="some models could not be read from the store"):
        tail.poll()
    found = verdict(models, "slow")
    sampled = np.count_nonzero(is_sampled(np.arange(501, 2_601), 14))
    assert (found.state, found.baseline_version, found.vectors) == ("ok", 1, sampled)
    connection.execute("alter table gone rename to embedding")
    tail.poll()
    found = verdict(models, "slow")
    assert (found.state, found.baseline_version, found.vectors) == ("ok", 2, 600)


@pytest.mark.parametrize("change", ["detector = 'of tomorrow'", """quality = '{"beauty": 1}'"""])
def test_an_unreadable_baseline_is_reported_once_and_the_model_goes_on(
    change: str,
    pool: Pool,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    send(vectors[:600])
    baseline.pin(connection, "m", Selection(first=500))
    tail.poll()
    baseline.pin(connection, "m", Selection(first=550))
    connection.execute(f"update baseline set {change} where version = 2".encode())
    for at in range(600, 630, 10):
        send(vectors[at : at + 10])
        tail.poll()
    messages = [record.message for record in caplog.records]
    assert messages.count("baseline not readable") == 1
    found = verdict(models, "fast")
    assert (found.baseline_version, found.vectors) == (1, 130)
    baseline.pin(connection, "m", Selection(first=580))
    tail.poll()
    assert verdict(models, "fast").baseline_version == 3


def test_a_removed_model_is_dropped_at_the_next_poll(
    pool: Pool,
    send: Callable[..., None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    send(vectors[:10])
    send(vectors[:10], model_name="other")
    tail.poll()
    remove(connection, "m")
    tail.poll()
    assert list(models.by_name) == ["other"]
    send(vectors[10:15])
    tail.poll()
    np.testing.assert_array_equal(held(models.by_name["m"], "fast"), vectors[10:15])


def test_a_model_that_was_removed_and_came_again_between_polls_is_a_new_one(
    pool: Pool,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    send(vectors[:600])
    baseline.pin(connection, "m", Selection(last=600))
    tail.poll()
    remove(connection, "m")
    send(vectors[600:610])
    tail.poll()
    model = models.by_name["m"]
    assert model.baseline is None
    np.testing.assert_array_equal(held(model, "slow"), vectors[600:610])


def test_a_model_that_only_a_replica_does_not_show_stays(
    pool: Pool,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    empty_database: str,
) -> None:
    models = Models()
    send(vectors[:10])
    Tail(pool, models, SETTINGS).poll()
    with connect(empty_database) as connection:
        migrate(connection)
    with open_sync(empty_database, 1) as behind:
        Tail(behind, models, SETTINGS, primary=pool).poll()
    np.testing.assert_array_equal(held(models.by_name["m"], "fast"), vectors[:10])


def test_one_unreadable_model_does_not_stop_the_others(
    pool: Pool,
    send: Callable[..., None],
    vectors: Vectors,
    connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The model a comes first, and somebody has damaged its row."""
    send(vectors[:10], model_name="a")
    send(vectors[:10])
    connection.execute("update model set dimension = 7 where model_name = 'a'")
    models = Models()
    tail = Tail(pool, models, SETTINGS.model_copy(update={"poll_interval": 0.05}))
    with pytest.raises(ExceptionGroup, match="some models could not be read from the store"):
        tail.poll()
    tail.start()
    assert tail.followed.wait(60)
    wait_for(lambda: tail.status.failures > 2, "some more polls")
    tail.stop()
    assert tail.status.up
    np.testing.assert_array_equal(held(models.by_name["m"], "fast"), vectors[:10])
    logged = [r for r in caplog.records if r.message.startswith("some models could not")]
    assert len(logged) == 1


def test_a_store_that_is_away_is_an_error_and_windows_stay(
    pool: Pool,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    send(vectors[:10])
    tail.poll()
    connection.execute("alter table model rename to gone")
    with pytest.raises(StoreUnavailable, match="embedding-drift migrate"):
        tail.poll()
    assert len(models.by_name["m"].windows.arrivals("fast")) == 10


def test_the_thread_reports_failure_and_recovery(
    pool: Pool, connection: psycopg.Connection
) -> None:
    settings = SETTINGS.model_copy(update={"poll_interval": 0.05})
    tail = Tail(pool, Models(), settings, clock=lambda: 123.0)
    tail.start()
    wait_for(lambda: tail.status.up, "the first poll")
    assert tail.status.timestamp == 123.0
    connection.execute("alter table model rename to gone")
    wait_for(lambda: not tail.status.up, "a failure")
    assert tail.status.failures >= 1
    assert tail.status.timestamp == 123.0
    connection.execute("alter table gone rename to model")
    wait_for(lambda: tail.status.up, "recovery")
    tail.stop()


@contextmanager
def locked(connection: psycopg.Connection, table: str) -> Iterator[Callable[[], bool]]:
    """Lock a table; what is given tells whether somebody waits for it."""
    with connection.transaction():
        connection.execute(f"lock table {table} in access exclusive mode".encode())
        waiting = "select from pg_locks where relation = %s::regclass and not granted"
        yield lambda: bool(connection.execute(waiting, [table]).fetchall())


def test_the_store_is_not_followed_while_a_poll_does_not_end(
    pool: Pool, connection: psycopg.Connection
) -> None:
    now = [0.0]
    settings = SETTINGS.model_copy(update={"poll_interval": 0.05})
    tail = Tail(pool, Models(), settings, monotonic=lambda: now[0])
    tail.start()
    wait_for(lambda: tail.status.up, "the first poll")
    with locked(connection, "model") as waited_for:
        wait_for(waited_for, "the poll")
        now[0] += 9
        assert tail.status.up
        now[0] += 2
        assert not tail.status.up
        assert tail.status.failures == 0
    wait_for(lambda: tail.status.up, "the end of the poll")
    tail.stop()


@pytest.mark.parametrize("table", ["model", "baseline_embedding"])
def test_a_poll_or_fit_that_waits_for_the_store_is_cut_off_at_the_end(
    pool: Pool,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    connection: psycopg.Connection,
    table: str,
) -> None:
    send(vectors[:1_100])
    tail = Tail(pool, Models(), SETTINGS)
    stopping = threading.Thread(target=tail.stop, daemon=True)
    with locked(connection, table) as waited_for:
        tail.start()
        wait_for(waited_for, "the poll or the fit")
        stopping.start()
        stopping.join(240)
        assert not stopping.is_alive()


def test_the_last_poll_may_find_vectors_for_a_baseline(
    pool: Pool,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # However late this machine lets the poll go on, it is not cut.
    monkeypatch.setattr(worker, "_PATIENCE_SECONDS", 240.0)
    send(vectors[:1_100])
    tail = Tail(pool, Models(), SETTINGS)
    stopping = threading.Thread(target=tail.stop)
    with locked(connection, "model") as waited_for:
        tail.start()
        wait_for(waited_for, "the poll")
        stopping.start()
        time.sleep(0.2)
    stopping.join()
    assert tail.status.up
    assert not any(record.message == "poll failed" for record in caplog.records)


def test_a_baseline_that_cannot_be_pinned_is_tried_again_after_a_minute(
    pool: Pool,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def failures() -> int:
        return sum(record.message.startswith("baseline not pinned") for record in caplog.records)

    now = [0.0]
    models = Models()
    tail = Tail(pool, models, SETTINGS, monotonic=lambda: now[0])
    send(vectors[:1_100])
    connection.execute("alter table baseline_embedding rename to gone")
    poll_until(tail, lambda: failures() == 1)
    for _ in range(5):
        tail.poll()
    assert failures() == 1
    connection.execute("alter table gone rename to baseline_embedding")
    now[0] += 61
    poll_until(tail, lambda: models.by_name["m"].baseline is not None)
    tail.stop()


def test_a_reason_why_no_baseline_can_be_fitted_is_logged(
    pool: Pool,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def errors() -> list[str]:
        return [r.error for r in caplog.records if r.message.startswith("baseline not pinned")]

    absurd = vectors[:1_000].copy()
    absurd[4:] = 3e38
    send(absurd)
    tail = Tail(pool, Models(), SETTINGS)
    poll_until(tail, lambda: len(errors()) == 1)
    assert errors() == ["a reference needs at least 100 vectors, got 4"]
    assert [r.left_out for r in caplog.records if "left out" in r.message] == [996]
    tail.stop()


@pytest.mark.parametrize("stuck", [0.0, 1.0])
def test_a_baseline_of_equal_vectors_gives_way_to_one_of_vectors_that_differ(
    pool: Pool, send: Callable[[Vectors], None], vectors: Vectors, stuck: float
) -> None:
    equal = np.full_like(vectors[:1_000], stuck)
    send(equal)
    models, now = Models(), [0.0]
    tail = Tail(pool, models, SETTINGS, monotonic=lambda: now[0])
    tail.poll()
    poll_until(tail, lambda: verdict(models, "fast").baseline_version == 1)
    send(vectors[:300])
    tail.poll()
    found = verdict(models, "fast")
    assert (found.state, found.measurement) == ("baseline_constant", None)
    send(equal[:700])
    send(vectors[300:1_300])
    now[0] += SETTINGS.check_interval
    poll_until(tail, lambda: verdict(models, "fast").baseline_version == 2)
    send(vectors[1_300:1_500])
    tail.poll()
    found = verdict(models, "fast")
    assert found.state == "ok"
    assert found.measurement is not None
    assert found.measurement.score < 2
    tail.stop()


def test_an_absurd_vector_in_a_window_leaves_every_number_finite(
    pool: Pool, send: Callable[[Vectors], None], vectors: Vectors, connection: psycopg.Connection
) -> None:
    send(vectors[:1_000])
    baseline.pin(connection, "m", Selection(first=1_000))
    absurd = vectors[1_000:1_300].copy()
    absurd[7] = 3e38
    absurd[8, 3] = -3e38
    send(absurd)
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    tail.poll()
    measured = verdict(models, "fast").measurement
    assert measured is not None
    numbers = [measured.score, measured.cosine_similarity, *measured.components.values()]
    numbers += [*measured.ks.values(), *measured.wasserstein.values()]
    assert np.isfinite(numbers).all()
    tail.stop()


def test_a_baseline_that_spans_a_week_knows_the_season(
    send: Callable[[Vectors], None], vectors: Vectors, connection: psycopg.Connection
) -> None:
    send(vectors[:2_000])
    assert baseline.pin(connection, "m", Selection(first=1_000)) == 1
    assert baseline.load(connection, "m", 1).detector.seasons == ()
    connection.execute("create table old (like embedding including all)")
    connection.execute(
        "alter table embedding attach partition old for values from (minvalue) to ('2020-01-01')"
    )
    connection.execute(
        "update embedding set received_at = '2019-01-01'::timestamptz + seq * interval '10 min'"
    )
    assert baseline.pin(connection, "m", Selection(first=1_500)) == 2
    assert baseline.load(connection, "m", 2).detector.seasons == ("daily", "weekly")


def test_windows_keep_the_time_zone_of_their_baseline(
    pool: Pool, send: Callable[[Vectors], None], vectors: Vectors
) -> None:
    """A changed setting never mixes a season in local time with windows in UTC."""
    kolkata = SETTINGS.model_copy(update={"time_zone": "Asia/Kolkata"})
    send(vectors[:1_000])
    first = Models()
    tail = Tail(pool, first, kolkata)
    tail.poll()
    poll_until(tail, lambda: first.by_name["m"].baseline is not None)
    tail.stop()
    send(vectors[1_000:1_200])
    second = Models()
    Tail(pool, second, SETTINGS).poll()
    model = second.by_name["m"]
    assert model.baseline is not None
    assert model.baseline.zone.key == "Asia/Kolkata"
    arrivals = model.windows.arrivals("fast")
    sums = model.windows.views["fast"].window.sums
    assert sums is not None
    expected = model.baseline.detector.sums(arrivals.vectors, arrivals.times + 19_800)
    np.testing.assert_array_equal(sums.mean_waves, expected.mean_waves)


def test_two_exporters_pin_one_baseline(
    send: Callable[[Vectors], None], vectors: Vectors, connection: psycopg.Connection
) -> None:
    send(vectors[:1_000])
    assert baseline.pin_first(connection, "m", 1_000) == 1
    assert baseline.pin_first(connection, "m", 1_000) is None


def test_a_model_that_cannot_be_read_leaves_ok_and_says_why(
    pool: Pool,
    send: Callable[..., None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    """A row of another dimension, written past ingest; the other model goes on."""
    for name in ("m", "other"):
        send(vectors[:400], name)
        baseline.pin(connection, name, Selection(first=300))
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    tail.poll()
    assert verdict(models, "fast").state == "ok"
    send(vectors[400:410])
    send(vectors[400:410], "other")
    connection.execute(
        "update embedding set embedding = '[1,2]' where model_name = 'm' and seq = 405"
    )
    for _ in range(3):
        with pytest.raises(ExceptionGroup, match="some models could not be read from the store"):
            tail.poll()
    snapshot = models.by_name["m"].snapshot(models.now())
    assert {each.verdict.state for each in snapshot.series} == {"not_followed"}
    assert {each.verdict.measurement for each in snapshot.series} == {None}
    assert snapshot.not_followed == "vectors_unreadable"
    assert snapshot.following.behind == 10
    assert snapshot.following.detail is not None
    assert "dimension" in snapshot.following.detail
    other = models.by_name["other"].snapshot(models.now())
    assert {each.verdict.state for each in other.series} == {"ok"}
    connection.execute("delete from embedding where model_name = 'm' and seq = 405")
    send(vectors[410:420])
    tail.poll()
    assert verdict(models, "fast").state == "ok"


def test_windows_age_though_new_vectors_cannot_be_read(
    pool: Pool, send: Callable[..., None], vectors: Vectors, connection: psycopg.Connection
) -> None:
    make_yesterday(connection)
    send(vectors[:50])
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    tail.poll()
    model = models.by_name["m"]
    # As if they had come a quarter of an hour earlier.
    model.windows.views["fast"].stream.ring._kept.times[:] -= 1_000
    send(vectors[50:60])
    connection.execute("update embedding set embedding = '[1,2]' where seq = 55")
    with pytest.raises(ExceptionGroup):
        tail.poll()
    assert len(model.windows.arrivals("fast")) == 0
    assert len(model.windows.arrivals("slow")) == 50


def set_back(connection: psycopg.Connection, last_seq: int) -> None:
    """Do to the store what a restore to a point in time does."""
    connection.execute("delete from embedding where seq > %s", [last_seq])
    connection.execute(
        "update model set last_seq = %s, last_received_at = (select max(received_at) from"
        " embedding where embedding.model_name = model.model_name)",
        [last_seq],
    )


@pytest.mark.parametrize("new", [10, 100], ids=["fewer than before", "more than before"])
def test_a_store_that_was_set_back_is_reloaded(
    pool: Pool,
    send: Callable[..., None],
    vectors: Vectors,
    connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
    new: int,
) -> None:
    send(vectors[:200])
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    tail.poll()
    set_back(connection, 150)
    send(vectors[300 : 300 + new])
    tail.poll()
    expected = np.concatenate([vectors[:150], vectors[300 : 300 + new]])
    np.testing.assert_array_equal(held(models.by_name["m"], "slow"), expected)
    assert models.by_name["m"].row.last_seq == 150 + new
    assert tail.status.rewinds == 1
    [record] = [r for r in caplog.records if r.message.startswith("store set back")]
    assert record.__dict__["vectors_before"] == 200
    send(vectors[500:520])
    tail.poll()
    assert tail.status.rewinds == 1


def test_a_set_back_store_is_measured_against_the_baseline_it_has(
    pool: Pool, send: Callable[..., None], vectors: Vectors, connection: psycopg.Connection
) -> None:
    send(vectors[:500])
    baseline.pin(connection, "m", Selection(first=300))
    baseline.pin(connection, "m", Selection(first=450))
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    tail.poll()
    set_back(connection, 400)
    connection.execute("delete from baseline where version = 2")
    tail.poll()
    assert verdict(models, "slow").baseline_version == 1
    np.testing.assert_array_equal(held(models.by_name["m"], "slow"), vectors[300:400])


def test_a_baseline_that_cannot_be_read_is_a_state(
    pool: Pool, send: Callable[..., None], vectors: Vectors, connection: psycopg.Connection
) -> None:
    send(vectors[:400])
    baseline.pin(connection, "m", Selection(first=300))
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    tail.poll()
    assert verdict(models, "fast").state == "ok"
    baseline.pin(connection, "m", Selection(first=310))
    connection.execute("update baseline set detector = 'of the future' where version = 2")
    for _ in range(3):
        tail.poll()
    snapshot = models.by_name["m"].snapshot(models.now())
    assert snapshot.not_followed == "baseline_unreadable"
    assert {each.verdict.state for each in snapshot.series} == {"not_followed"}
    assert snapshot.following.detail == "baseline 2: not a detector"
    baseline.pin(connection, "m", Selection(first=320))
    tail.poll()
    assert verdict(models, "fast").state == "ok"
    assert verdict(models, "fast").baseline_version == 3


def test_an_outdated_detector_is_fitted_again_while_the_tail_goes_on(
    pool: Pool,
    store: str,
    send: Callable[..., None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    send(vectors[:400])
    baseline.pin(connection, "m", Selection(first=300))
    earlier = b"embedding-drift detector\n1\n"
    connection.execute("update baseline set detector = %s", [earlier])
    models = Models()
    # As a replica, what the tail reads from cannot be written.
    reads = make_conninfo(store, options="-c default_transaction_read_only=on")
    with open_sync(reads, 2) as replica:
        tail = Tail(replica, models, SETTINGS, primary=pool)
        with connection.transaction():
            connection.execute("lock table baseline_embedding")
            tail.poll()
            assert verdict(models, "fast").state == "no_baseline"
            assert len(held(models.by_name["m"], "fast")) == 400
        poll_until(tail, lambda: verdict(models, "fast").state == "ok")
        assert verdict(models, "fast").vectors == 100
        tail.stop()
    assert connection.execute("select detector from baseline").fetchone() != (earlier,)


def test_whether_a_sample_is_complete_is_told_in_little_memory() -> None:
    last, level = 10_000_000, 40
    seqs = np.concatenate(
        [
            numbers[is_sampled(numbers, level)]
            for numbers in (np.arange(at, at + 1_000_000) for at in range(1, last, 1_000_000))
        ]
    )
    tracemalloc.start()
    assert _is_complete(seqs, last, level)
    assert not _is_complete(np.delete(seqs, 50), last, level)
    assert not _is_complete(seqs[::-1], last, level)
    assert not _is_complete(seqs[:-1], last, level)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_failure_that_comes_back_is_logged_again(
    pool: Pool,
    send: Callable[..., None],
    vectors: Vectors,
    connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def failures() -> int:
        return sum(
            r.message.startswith("some models could not be read from the store")
            for r in caplog.records
        )

    send(vectors[:10])
    tail = Tail(pool, Models(), SETTINGS.model_copy(update={"poll_interval": 0.05}))
    tail.start()
    for expected in (1, 2):
        send(vectors[10:20])
        connection.execute("update embedding set embedding = '[1]' where seq > 10")
        wait_for(lambda expected=expected: failures() == expected, "the failure")
        connection.execute("update embedding set embedding = '[1,1,1,1,1,1,1,1]' where seq > 10")
        wait_for(lambda: tail._last_partial_failure == "", "a good poll")
    tail.stop()


def test_vectors_under_known_ids_are_followed_with_their_cosine_to_the_earlier_ones(
    pool: Pool, store: str, vectors: Vectors
) -> None:
    ids: list[str | None] = [f"doc-{number}" for number in range(40)]
    turned = vectors[:40].copy()
    turned[:, 0] *= -1

    async def run(*batches: Batch) -> None:
        async with await AsyncConnection.connect(store, autocommit=True) as own:
            for batch in batches:
                assert isinstance((await insert(own, [batch], 10))[0], Stored)

    models = Models()
    tail = Tail(pool, models, SETTINGS)
    asyncio.run(run(Batch("m", vectors[:40], ids=ids)))
    tail.poll()
    fast = models.by_name["m"].snapshot(models.now()).series[0]
    assert fast.revisions == Revisions(0, None)
    # A retry is a duplicate, and stored once.
    asyncio.run(run(Batch("m", vectors[:40], ids=ids), Batch("m", turned, ids=ids)))
    tail.poll()
    fast = models.by_name["m"].snapshot(models.now()).series[0]
    lengths = np.square(vectors[:40]).sum(axis=1)
    cosines = (vectors[:40] * turned).sum(axis=1) / lengths
    assert fast.verdict.vectors == 80
    assert fast.revisions.vectors == 40
    assert fast.revisions.median_cosine == pytest.approx(np.median(cosines), abs=1e-5)
