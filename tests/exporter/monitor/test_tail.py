"""The tail: windows follow the store, and failures are survived."""

from __future__ import annotations

import asyncio
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from exporter.monitor import baseline
from exporter.monitor.model import Models
from exporter.monitor.tail import Tail, _is_complete
from exporter.monitor.verdict import Revisions
from ingest.runtime import worker
from ingest.runtime.errors import StoreLost, StoreUnavailable
from ingest.runtime.settings.settings import (
    WindowSettings,
    WindowsSettings,
)
from ingest.store import changes
from ingest.store.batch import Batch
from ingest.store.changes import is_sampled, sampled_ratio
from ingest.store.connection import AsyncConnection, connect
from ingest.store.migrate import migrate
from ingest.store.models import remove
from ingest.store.pool import Pool, sync_pool
from ingest.store.selection import Selection
from ingest.store.vectors import Stored, insert
from tests.exporter.monitor.polling import SETTINGS, Vectors, held, unreadable, verdict
from tests.service import wait_for


def make_yesterday(connection: psycopg.Connection) -> None:
    """Make a partition for the day before: some hours ago may have been then.

    It is the default one: a session that began before midnight has one of that day.
    """
    connection.execute("create table yesterday partition of embedding default")


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
    before = 1, int(np.count_nonzero(is_sampled(np.arange(501, 2_601), 14)))
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
    with sync_pool(empty_database, 1) as behind:
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
    wait_for(lambda: tail.status.up, "a poll of the others")
    tail.stop()
    np.testing.assert_array_equal(held(models.by_name["m"], "fast"), vectors[:10])
    logged = [r for r in caplog.records if r.message.startswith("some models could not")]
    assert len(logged) == 1


def test_a_model_whose_statement_the_server_ends_does_not_stop_the_others(
    pool: Pool, send: Callable[..., None], vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model a comes first, and the server cannot read a block of its vectors."""
    send(vectors[:10], model_name="a")
    send(vectors[:10])
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    monkeypatch.setattr(changes, "vectors", unreadable(changes.vectors))
    for _ in range(2):
        with pytest.raises(ExceptionGroup, match="some models could not be read from the store"):
            tail.poll()
    np.testing.assert_array_equal(held(models.by_name["m"], "fast"), vectors[:10])
    snapshot = models.by_name["a"].snapshot(models.now())
    assert snapshot.not_followed == "vectors_unreadable"
    assert "could not read block 7" in str(snapshot.following.detail)


def test_a_store_that_is_lost_among_the_models_ends_the_poll(
    pool: Pool,
    send: Callable[..., None],
    vectors: Vectors,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send(vectors[:10], model_name="a")
    send(vectors[:10])
    models = Models()
    tail = Tail(pool, models, SETTINGS)

    def lost(connection: psycopg.Connection, *_: object) -> None:
        connection.execute("select pg_terminate_backend(pg_backend_pid())")

    with monkeypatch.context() as patch:
        patch.setattr(changes, "vectors", lost)
        with pytest.raises(StoreLost):
            tail.poll()
    assert list(models.by_name) == ["a"]
    tail.poll()
    assert list(models.by_name) == ["a", "m"]


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
    wait_for(lambda: tail.status.failures >= 1, "a failure")
    assert not tail.status.up
    assert tail.status.timestamp == 123.0
    connection.execute("alter table gone rename to model")
    wait_for(lambda: tail.status.up, "recovery")
    tail.stop()


def test_what_arrives_during_a_long_first_poll_is_followed_without_a_pause(
    pool: Pool, send: Callable[[Vectors], None], vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(vectors[:10])
    now, models, read = [0.0], Models(), changes.vectors

    def slow(*arguments: Any) -> NDArray[np.void]:
        found = read(*arguments)
        if now[0] == 0:
            now[0] = 20_000.0
            send(vectors[10:20])
        return found

    monkeypatch.setattr(changes, "vectors", slow)
    settings = SETTINGS.model_copy(update={"poll_interval": 3_600})
    tail = Tail(pool, models, settings, monotonic=lambda: now[0])
    tail.start()
    assert tail.followed.wait(60)
    np.testing.assert_array_equal(held(models.by_name["m"], "fast"), vectors[:20])
    tail.stop()


@contextmanager
def locked(connection: psycopg.Connection, table: str) -> Iterator[Callable[[], bool]]:
    """Lock a table; what is given tells whether somebody waits for it."""
    with connection.transaction():
        connection.execute(f"lock table {table} in access exclusive mode".encode())
        waiting = (
            "select from pg_locks where relation = %s::regclass and not granted"
            " and database = (select oid from pg_database where datname = current_database())"
        )
        yield lambda: bool(connection.execute(waiting, [table]).fetchall())


def test_the_store_is_not_followed_while_a_poll_does_not_end(
    pool: Pool, connection: psycopg.Connection, patience: pytest.MonkeyPatch
) -> None:
    patience.undo()
    now = [0.0]
    settings = SETTINGS.model_copy(update={"poll_interval": 0.05})
    tail = Tail(pool, Models(), settings, monotonic=lambda: now[0])
    tail.start()
    wait_for(lambda: tail.status.up, "the first poll")
    with locked(connection, "model") as waited_for:
        wait_for(waited_for, "the poll")
        # On a busy machine, the poll before may have taken long, and the next one may, too.
        late = max(10, 3 * (0.05 + (tail.status.duration or 0)))
        now[0] = late - 1
        early = tail.status
        assert early.up
        now[0] = late + 1
        assert not tail.status.up
        assert tail.status.failures == 0
    wait_for(lambda: tail.status.up, "the end of the poll")
    tail.stop()


def test_a_shorter_interval_takes_effect_at_once_and_the_last_poll_is_not_called_late(
    pool: Pool,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    connection: psycopg.Connection,
    patience: pytest.MonkeyPatch,
) -> None:
    patience.undo()
    send(vectors[:10])
    now, models = [0.0], Models()
    settings = SETTINGS.model_copy(update={"poll_interval": 3_600})
    tail = Tail(pool, models, settings, monotonic=lambda: now[0])
    tail.start()
    wait_for(lambda: tail.status.up, "the first poll")
    send(vectors[10:20])
    now[0] = 900.0
    with locked(connection, "model") as waited_for:
        tail.reconfigure(settings.model_copy(update={"poll_interval": 1}))
        wait_for(waited_for, "the next poll")
        during = tail.status
    assert during.up
    wait_for(lambda: len(held(models.by_name["m"], "fast")) == 20, "the newer vectors")
    tail.stop()


def test_a_longer_interval_takes_effect_at_once_and_no_model_is_called_late(
    pool: Pool, send: Callable[[Vectors], None], vectors: Vectors, patience: pytest.MonkeyPatch
) -> None:
    patience.undo()
    send(vectors[:10])
    models = Models()
    settings = SETTINGS.model_copy(update={"poll_interval": 300})
    tail = Tail(pool, models, settings)
    tail.start()
    wait_for(lambda: tail.status.up, "the first poll")
    tail.reconfigure(settings.model_copy(update={"poll_interval": 3_600}))
    ledger = models.by_name["m"].ledger
    wait_for(lambda: ledger.following.patience > 3_600, "patience for the longer interval")
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
    assert tail.status.timestamp is not None
    assert tail.status.failures == 0
    assert not any(record.message == "poll failed" for record in caplog.records)


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

    def fails(known: int) -> bool:
        # Again and again: a poll may come between the two, and then fail in another way.
        send(vectors[10:20])
        connection.execute("update embedding set embedding = '[1]' where seq > 10")
        return failures() > known

    send(vectors[:10])
    tail = Tail(pool, Models(), SETTINGS.model_copy(update={"poll_interval": 0.05}))
    tail.start()
    for _ in range(2):
        wait_for(partial(fails, failures()), "the failure")
        # It is logged before it is noted.
        wait_for(lambda: tail._last_partial_failure != "", "its note")
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
