"""The tail takes baselines, adopts those of others, and says when it cannot read one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from threading import Event

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from exporter.monitor import baseline, reporting
from exporter.monitor.model import Model, Models
from exporter.monitor.report import Drift
from exporter.monitor.tail import Tail
from ingest.store import baselines
from ingest.store.changes import is_sampled
from ingest.store.pool import Pool, sync_pool
from ingest.store.selection import Selection
from tests.exporter.monitor.polling import SETTINGS, Vectors, held, poll_until, verdict


def told(model: Model, now: float) -> Drift:
    """What is reported of a model, but for when it was followed last."""
    found = reporting.detail(model.snapshot(now))
    found.following.followed_at = datetime.fromtimestamp(now, UTC)
    return found


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


def age(connection: psycopg.Connection, hours: float, vectors: int) -> None:
    """Let the model be so old, and its vectors have come evenly since."""
    connection.execute("create table past partition of embedding default")
    connection.execute("update model set created_at = now() - %s * interval '1 hour'", (hours,))
    connection.execute(
        "update embedding set received_at = now() - (%s - seq * %s) * interval '1 hour'",
        (hours, hours / vectors),
    )


def test_after_a_week_a_fifth_of_the_vectors_is_enough_for_the_first_baseline(
    pool: Pool,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    send(vectors[:200])
    age(connection, 170, 200)
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    tail.poll()
    poll_until(tail, lambda: models.by_name["m"].baseline is not None)
    found = models.by_name["m"].baseline
    assert found is not None
    assert (found.source, found.stage, found.matures) == ("first 200", "weekly", True)
    tail.stop()


@pytest.mark.parametrize(
    ("vectors_sent", "hours", "mature"), [(199, 170, True), (200, 160, True), (200, 170, False)]
)
def test_a_younger_model_or_one_with_fewer_vectors_waits_for_all_of_them(
    pool: Pool,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    connection: psycopg.Connection,
    vectors_sent: int,
    hours: int,
    mature: bool,
) -> None:
    send(vectors[:vectors_sent])
    age(connection, hours, vectors_sent)
    chosen = SETTINGS.baseline.model_copy(update={"mature": mature})
    models = Models()
    tail = Tail(pool, models, SETTINGS.model_copy(update={"baseline": chosen}))
    tail.poll()
    assert tail._fitting._early == {}
    send(vectors[vectors_sent:1_000])
    poll_until(tail, lambda: models.by_name["m"].baseline is not None)
    found = models.by_name["m"].baseline
    assert found is not None
    assert found.source == "first 1000"
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


def test_a_pinned_baseline_does_not_wait_until_the_fits_of_others_are_done(
    pool: Pool,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    connection: psycopg.Connection,
) -> None:
    models, others_done = Models(), Event()
    tail = Tail(pool, models, SETTINGS)
    send(vectors[:1_100])
    # The first baseline of the model waits its turn behind a long fit.
    tail._fitting._threads.submit(others_done.wait)
    try:
        tail.poll()
        assert baseline.pin(connection, "m", Selection(last=600)) == 1
        tail.poll()
        pinned = models.by_name["m"].baseline
        assert pinned is not None
        assert pinned.source == "last 600"
    finally:
        others_done.set()
        tail.stop()


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
        version = baseline.pin(connection, "m", Selection(first=pinned))
        # Not while the tail still works on the baseline before.
        poll_until(tail, lambda: verdict(models, "slow").baseline_version == version)  # noqa: B023
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
    sampled = int(np.count_nonzero(is_sampled(np.arange(501, 2_601), 14)))
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
    # Also the one that the model has still.
    baselines.use(connection, "m", 1)
    tail.poll()
    assert verdict(models, "fast").state == "ok"
    baseline.pin(connection, "m", Selection(first=580))
    tail.poll()
    assert verdict(models, "fast").baseline_version == 3


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
        return [
            vars(r)["error"] for r in caplog.records if r.message.startswith("baseline not pinned")
        ]

    absurd = vectors[:1_000].copy()
    absurd[4:] = 3e38
    send(absurd)
    tail = Tail(pool, Models(), SETTINGS)
    poll_until(tail, lambda: len(errors()) == 1)
    assert errors() == ["a reference needs at least 100 vectors, got 4"]
    assert [vars(r)["left_out"] for r in caplog.records if "left out" in r.message] == [996]
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
    now[0] += 3_600
    poll_until(tail, lambda: verdict(models, "fast").baseline_version == 2)
    send(vectors[1_300:1_500])
    tail.poll()
    found = verdict(models, "fast")
    assert found.state == "ok"
    assert found.measurement is not None
    assert found.measurement.score < 2
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


def test_a_person_may_choose_the_baseline_that_is_in_use(
    pool: Pool, send: Callable[[Vectors], None], vectors: Vectors, connection: psycopg.Connection
) -> None:
    send(vectors[:1_200])
    baseline.pin_first(pool.borrow, "m", 1_000)
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    poll_until(tail, lambda: models.by_name["m"].maturing is not None)
    tail.stop()
    baselines.use(connection, "m", 1)
    tail.poll()
    model = models.by_name["m"]
    assert model.baseline is not None
    assert not model.baseline.matures
    assert model.maturing is None  # so nobody is told of a next one
    adopted = model.standing
    tail.poll()
    assert model.standing is adopted


def test_a_first_baseline_whose_vectors_have_expired_is_of_fewer_that_fill_a_week(
    pool: Pool, send: Callable[[Vectors], None], vectors: Vectors, connection: psycopg.Connection
) -> None:
    send(vectors[:1_000])
    age(connection, 700, 1_000)
    connection.execute("delete from embedding where seq <= 500")
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    poll_until(tail, lambda: models.by_name["m"].baseline is not None)
    tail.stop()
    found = models.by_name["m"].baseline
    assert found is not None
    assert (found.source, found.stage) == ("first 500", "weekly")


def test_two_exporters_pin_one_baseline(
    pool: Pool, send: Callable[[Vectors], None], vectors: Vectors, connection: psycopg.Connection
) -> None:
    send(vectors[:1_000])
    assert baseline.pin_first(pool.borrow, "m", 1_000) == 1
    assert baseline.pin_first(pool.borrow, "m", 1_000) is None


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
    with sync_pool(reads, 2) as replica:
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
