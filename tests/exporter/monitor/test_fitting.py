"""Fitting: automatic baselines are pinned in the background, once, and tried again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from exporter.monitor import baseline, fit_process
from exporter.monitor import fitting as fitting_module
from exporter.monitor.fit_process import Fitted
from exporter.monitor.fitting import Fitting, mature, note_suggestion
from exporter.monitor.maturing import Maturing
from exporter.monitor.model import Model, Models
from exporter.monitor.tail import Tail
from ingest.runtime.errors import FitFailed
from ingest.runtime.process import Process
from ingest.runtime.settings.settings import BaselineSettings, MonitoringSettings
from ingest.runtime.time_zone import UTC
from ingest.store import baselines
from ingest.store.connection import connect
from ingest.store.models import remove
from ingest.store.pool import Pool, sync_pool
from ingest.store.selection import Selection
from tests.service import children, wait_for, waits_for_a_lock

Vectors = NDArray[np.float32]
Send = Callable[..., None]


@contextmanager
def fitting(pool: Pool, clock: list[float]) -> Iterator[Fitting]:
    made = Fitting(pool, monotonic=lambda: clock[0])
    yield made
    made.stop()


def versions(connection: psycopg.Connection, model_name: str) -> list[int]:
    return [found.version for found in baselines.versions(connection, model_name)]


def test_the_first_vectors_of_a_model_become_its_baseline(
    pool: Pool, send: Send, vectors: Vectors, connection: psycopg.Connection
) -> None:
    send(vectors[:300])
    with fitting(pool, [0.0]) as made:
        for _ in range(5):
            made.request_first("m", 250, UTC)
        wait_for(lambda: versions(connection, "m") == [1], "the baseline")
    assert versions(connection, "m") == [1]


def test_what_comes_after_the_first_baseline_is_known_without_a_pause(
    pool: Pool, send: Send, vectors: Vectors, settings: MonitoringSettings
) -> None:
    send(vectors[:500])
    models = Models()
    tail = Tail(pool, models, settings)
    tail._fitting._monotonic = lambda: 0.0

    def is_planned() -> bool:
        tail.poll()
        return models.by_name["m"].maturing is not None

    wait_for(is_planned, "what comes next")
    tail.stop()


def test_nothing_is_kept_of_the_fits_of_models_that_were_removed(
    pool: Pool, send: Send, vectors: Vectors, connection: psycopg.Connection
) -> None:
    with fitting(pool, [0.0]) as made:
        for name in ("first", "second"):
            send(vectors[:300], model_name=name)
            made.request_first(name, 250, UTC)
            wait_for(made._works[name].future.done, "the end of the fit")
            made._suggestions[name] = made._slicings[name] = made._works[name]
            made._early[name] = made._works[name]
            made.forget(name)
        assert made._works == made._early == made._suggestions == made._slicings == {}
        assert made._forgotten == []


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
        made.request_first("m", 250, UTC)
        wait_for(lambda: failures() == 1, "the failure")
        connection.execute("update embedding set embedding = '[1,1,1,1,1,1,1,1]' where seq = 7")
        clock[0] = 59.0
        tried = made._works["m"]
        wait_for(tried.future.done, "the end of the fit")
        made.request_first("m", 250, UTC)
        assert made._works["m"] is tried
        clock[0] = 60.0
        made.request_first("m", 250, UTC)
        wait_for(lambda: versions(connection, "m") == [1], "the baseline")
    [failure] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert not failure.exc_info
    assert "dimension 8" in failure.__dict__["error"]


DAY = timedelta(days=1)


@pytest.fixture
def settings() -> MonitoringSettings:
    return MonitoringSettings(baseline=BaselineSettings(vectors=400, mature_vectors=600))


def spread(connection: psycopg.Connection, days: float) -> None:
    """Move what is stored so that it spans these days, and ended a minute ago."""
    connection.execute("create table past partition of embedding default")
    connection.execute(
        "update embedding set received_at = clock_timestamp() - interval '1 minute'"
        " - make_interval(secs => %s * 86400.0 * (m.last_seq - seq) / (m.last_seq - 1))"
        " from model as m where m.model_name = embedding.model_name",
        [days],
    )


@pytest.fixture
def day_and_a_half(
    pool: Pool, send: Send, vectors: Vectors, connection: psycopg.Connection
) -> None:
    """Store 1,500 vectors that arrived in this time; the first 400 are the baseline."""
    send(vectors[:1_500])
    spread(connection, 1.5)
    baseline.pin_first(pool.borrow, "m", 400)


def measured(connection: psycopg.Connection, score: float = 0) -> None:
    """Record a score every five minutes of the last nine days."""
    connection.execute(
        "insert into drift_history (model_name, window_name, computed_at, state, vectors,"
        " baseline_version, score) select 'm', 'slow', clock_timestamp() - at * interval"
        " '5 minutes', 'ok', 100, 1, %s from generate_series(0, 2592) as at",
        [score],
    )


def followed(pool: Pool, settings: MonitoringSettings) -> tuple[Models, Model]:
    models = Models()
    tail = Tail(pool, models, settings.model_copy(update={"baseline": BaselineSettings()}))
    tail.poll()
    tail.stop()
    found = models.by_name["m"]
    found.settings = settings
    return models, found


@pytest.mark.usefixtures("day_and_a_half")
@pytest.mark.parametrize(("automatic", "expected"), [(True, [2, 1]), (False, [1])])
def test_a_baseline_matures_by_itself_unless_the_settings_forbid_it(
    pool: Pool,
    connection: psycopg.Connection,
    automatic: bool,
    expected: list[int],
) -> None:
    allowed = BaselineSettings(vectors=400, mature_vectors=600, mature=automatic)
    measured(connection)
    models = Models()
    tail = Tail(pool, models, MonitoringSettings(baseline=allowed))
    tail.poll()  # takes up the baseline
    tail.poll()
    works = tail._fitting._works.values()
    wait_for(lambda: all(work.future.done() for work in works), "the fit")
    tail.stop()
    assert versions(connection, "m") == expected
    assert (models.by_name["m"].maturing is not None) == automatic


def test_another_weekly_baseline_is_suggested_once_an_hour(
    pool: Pool, send: Send, vectors: Vectors, connection: psycopg.Connection
) -> None:
    send(vectors[:1_500])
    spread(connection, 20)
    baseline.pin(connection, "m", Selection(first=900))
    assert baseline.load(connection, "m", 1).stage == "weekly"
    connection.execute("update baseline set pinned_at = pinned_at - interval '8 days'")
    measured(connection, 0.5)
    models, clock = Models(), [0.0]
    tail = Tail(pool, models, MonitoringSettings(), monotonic=lambda: clock[0])
    tail.poll()
    model, made = models.by_name["m"], tail._fitting

    def noted() -> Maturing | None:
        return model.maturing

    def look(score: float) -> Maturing | None:
        connection.execute("update drift_history set score = %s", [score])
        tail.poll()
        wait_for(made._suggestions["m"].future.done, "the look")
        return model.maturing

    assert look(0.5) is None
    clock[0] = 3_599
    assert look(1.5) is None
    clock[0] = 3_600
    suggested = look(1.5)
    assert suggested is not None
    assert suggested == Maturing("weekly", suggested.due_at, "person")
    assert suggested.due_at == pytest.approx(models.now(), abs=60)
    clock[0] = 7_200
    assert look(3.5) is None
    model.maturing = suggested
    tail.settings = MonitoringSettings(baseline=BaselineSettings(mature=False))
    tail.poll()
    assert noted() is None
    tail.stop()


def test_what_was_chosen_or_adopted_meanwhile_gets_no_suggestion(
    pool: Pool,
    send: Send,
    vectors: Vectors,
    connection: psycopg.Connection,
    settings: MonitoringSettings,
) -> None:
    send(vectors[:1_500])
    spread(connection, 20)
    baseline.pin(connection, "m", Selection(first=900))
    connection.execute("update baseline set pinned_at = pinned_at - interval '8 days'")
    measured(connection, 1.5)
    models, model = followed(pool, settings)

    def noted() -> Maturing | None:
        return model.maturing

    note_suggestion(pool.borrow, model, models.now())
    assert noted() is not None
    adopted = baseline.load(connection, "m", 1)

    def adopt(*_: object) -> dict[str, float]:
        model.adopt(adopted, model.windows)
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting_module, "_scores", adopt)
        note_suggestion(pool.borrow, model, models.now())
    assert noted() is None
    model.adopt(replace(adopted, matures=False), model.windows)
    note_suggestion(pool.borrow, model, models.now())
    assert noted() is None


@pytest.mark.usefixtures("day_and_a_half")
def test_a_day_of_vectors_becomes_the_next_baseline(
    pool: Pool, connection: psycopg.Connection, settings: MonitoringSettings
) -> None:
    measured(connection)
    models, model = followed(pool, settings)
    mature(pool.borrow, model, models.now())
    stored = baseline.load(connection, "m", 2)
    assert (stored.stage, stored.matures) == ("daily", True)
    assert stored.last_at - stored.first_at == pytest.approx(DAY, abs=DAY * 0.03)
    assert 580 < stored.detector.n_reference <= 600
    assert model.maturing is not None
    assert (model.maturing.stage, model.maturing.waits_for) == ("daily", None)


@pytest.mark.usefixtures("day_and_a_half")
def test_the_next_baseline_has_the_time_zone_of_the_settings(
    pool: Pool, connection: psycopg.Connection, settings: MonitoringSettings
) -> None:
    measured(connection)
    models, model = followed(pool, settings.model_copy(update={"time_zone": "Asia/Kolkata"}))
    mature(pool.borrow, model, models.now())
    assert baseline.load(connection, "m", 1).zone == UTC
    assert baseline.load(connection, "m", 2).zone.key == "Asia/Kolkata"
    with fitting(pool, [0.0]) as made:
        made.request_another(model)
        # The model has version 1 still, so there is nothing to replace.
        wait_for(made._works["m"].future.done, "the end of the fit")
        assert versions(connection, "m") == [2, 1]
        model.adopt(baseline.load(connection, "m", 2), model.windows)
        made.forget("m")
        made.request_another(model)
        wait_for(lambda: versions(connection, "m") == [3, 2, 1], "the baseline")
    assert baseline.load(connection, "m", 3).zone.key == "Asia/Kolkata"


@pytest.mark.parametrize(
    ("days", "sent", "waits_for"), [(0.5, 1_500, "time"), (5, 1_500, "vectors")]
)
def test_a_baseline_waits_for_time_and_vectors(
    pool: Pool,
    send: Send,
    vectors: Vectors,
    connection: psycopg.Connection,
    settings: MonitoringSettings,
    days: float,
    sent: int,
    waits_for: str,
) -> None:
    send(vectors[:sent])
    spread(connection, days)
    baseline.pin_first(pool.borrow, "m", 100)
    measured(connection)
    models, model = followed(pool, settings)
    mature(pool.borrow, model, models.now())
    assert versions(connection, "m") == [1]
    assert model.maturing is not None
    assert model.maturing.waits_for == waits_for


def test_a_baseline_that_a_person_chose_stays(
    pool: Pool,
    send: Send,
    vectors: Vectors,
    connection: psycopg.Connection,
    settings: MonitoringSettings,
) -> None:
    send(vectors[:1_500])
    spread(connection, 1.5)
    baseline.pin(connection, "m", Selection(first=400))
    baselines.use(connection, "m", 1)
    models, model = followed(pool, settings)
    mature(pool.borrow, model, models.now())
    assert versions(connection, "m") == [1]
    assert model.maturing is None


def test_the_next_baseline_has_no_vectors_from_before_the_one_that_a_person_pinned(
    pool: Pool,
    send: Send,
    vectors: Vectors,
    connection: psycopg.Connection,
    settings: MonitoringSettings,
) -> None:
    send(vectors[:1_500])
    spread(connection, 3)
    baseline.pin(connection, "m", Selection(last=250))
    send(vectors[1_500:1_600])
    models, model = followed(pool, settings)
    mature(pool.borrow, model, models.now())
    assert versions(connection, "m") == [1]
    assert model.maturing is not None
    assert model.maturing.waits_for == "time"
    assert model.maturing.due_at == pytest.approx(models.now() + 12 * 3_600, abs=900)


@pytest.mark.usefixtures("day_and_a_half")
def test_scores_that_were_drift_postpone_the_next_baseline(
    pool: Pool, connection: psycopg.Connection, settings: MonitoringSettings
) -> None:
    measured(connection)
    connection.execute(
        "update drift_history set score = 99 where computed_at"
        " between clock_timestamp() - interval '6 hours' and clock_timestamp() - interval '5 hours'"
    )
    models, model = followed(pool, settings)
    mature(pool.borrow, model, models.now())
    assert versions(connection, "m") == [1]
    assert model.maturing is not None
    assert model.maturing.waits_for == "drift"
    # Twelve hours after the second day ends, which comes first.
    assert model.maturing.due_at == pytest.approx(models.now() + 12 * 3_600, abs=600)


@pytest.mark.usefixtures("day_and_a_half")
def test_scores_that_were_not_recorded_postpone_it_too(
    pool: Pool, connection: psycopg.Connection, settings: MonitoringSettings
) -> None:
    models, model = followed(pool, settings)
    mature(pool.borrow, model, models.now())
    assert versions(connection, "m") == [1]
    assert model.maturing is not None
    assert model.maturing.waits_for == "scores"


@pytest.mark.usefixtures("day_and_a_half")
def test_a_window_that_drifts_now_keeps_the_baseline_from_maturing(
    pool: Pool,
    send: Send,
    vectors: Vectors,
    connection: psycopg.Connection,
    settings: MonitoringSettings,
) -> None:
    measured(connection)
    send(vectors[1_500:1_600] + np.float32(9))
    models, model = followed(pool, settings)
    mature(pool.borrow, model, models.now())
    assert versions(connection, "m") == [1]
    assert model.maturing is not None
    assert model.maturing.waits_for == "drift"
    assert model.maturing.due_at < models.now()  # so the next check looks again


@pytest.mark.usefixtures("day_and_a_half")
def test_another_exporter_may_have_pinned_the_next_baseline(
    pool: Pool, connection: psycopg.Connection, settings: MonitoringSettings
) -> None:
    measured(connection)
    models, model = followed(pool, settings)
    mature(pool.borrow, model, models.now())
    mature(pool.borrow, model, models.now())
    assert versions(connection, "m") == [2, 1]
    assert model.maturing is not None
    assert model.maturing.waits_for is None


def test_an_outdated_detector_is_fitted_again_and_stored(
    pool: Pool, send: Send, vectors: Vectors, connection: psycopg.Connection
) -> None:
    send(vectors[:300])
    baseline.pin_first(pool.borrow, "m", 300)
    [(current,)] = connection.execute("select detector from baseline").fetchall()
    connection.execute("update baseline set detector = 'embedding-drift detector\n1\n'")
    with fitting(pool, [0.0]) as made:
        made.request_again("m", 1)
        wait_for(made._works["m"].future.done, "the fit")
    assert connection.execute("select detector from baseline").fetchone() == (current,)


def test_a_first_baseline_of_vectors_that_expired_says_why_there_is_none(
    pool: Pool,
    send: Send,
    vectors: Vectors,
    connection: psycopg.Connection,
    settings: MonitoringSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    send(vectors[:300])
    connection.execute("delete from embedding where seq <= 100")
    now, (_, model) = [0.0], followed(pool, settings)
    with fitting(pool, now) as made:
        for _ in range(3):
            made.request_first("m", 250, UTC)
            wait_for(made._works["m"].future.done, "the attempt")
            made.request_early(model)
            wait_for(made._early["m"].future.done, "the other attempt")
            connection.execute("delete from embedding where seq = (select min(seq) from embedding)")
            now[0] += 3_600
    # It is tried again and again, but told once.
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.__dict__["error"] == "not all of the 250 vectors of a first baseline are stored"


def test_a_model_that_was_created_again_is_not_pinned_from_too_few_vectors(
    pool: Pool, send: Send, vectors: Vectors, connection: psycopg.Connection, store: str
) -> None:
    for name in ("m", "waits"):
        send(vectors[:300], name)
    with fitting(pool, [0.0]) as made, connect(store) as other:
        with other.transaction():
            # The first fit waits, so that the second is queued when its model is removed.
            other.execute("lock table baseline")
            made.request_first("waits", 250, UTC)
            made.request_first("m", 250, UTC)
            wait_for(lambda: waits_for_a_lock(connection), "the first fit")
            made.forget("m")
        send(vectors[:150], "new")
        made.request_first("new", 250, UTC)
        wait_for(lambda: versions(connection, "waits") == [1], "the first fit")
    assert versions(connection, "m") == []
    assert versions(connection, "new") == []


def test_a_model_that_is_made_again_while_its_first_baseline_is_fitted_does_not_get_that(
    pool: Pool,
    send: Send,
    vectors: Vectors,
    connection: psycopg.Connection,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fit = fit_process.fit

    def make_again(*arguments: Any) -> Fitted:
        fitted = fit(*arguments)
        with connect(store) as other:
            remove(other, "m")
        send(vectors[:300] + np.float32(5))
        return fitted

    monkeypatch.setattr(fit_process, "fit", make_again)
    send(vectors[:300])
    with fitting(pool, [0.0]) as made:
        made.request_first("m", 250, UTC)
        wait_for(made._works["m"].future.done, "the attempt")
    assert versions(connection, "m") == []
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.__dict__["error"].startswith("250 of the 250 vectors of a baseline of model m")


def test_a_pool_of_one_connection_serves_others_during_a_fit(
    send: Send,
    vectors: Vectors,
    connection: psycopg.Connection,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fit, under_way, ended = fit_process.fit, threading.Event(), threading.Event()

    def wait(*arguments: Any) -> Fitted:
        under_way.set()
        assert ended.wait(240)
        return fit(*arguments)

    monkeypatch.setattr(fit_process, "fit", wait)
    send(vectors[:300])
    with sync_pool(store, 1) as alone, fitting(alone, [0.0]) as made:
        made.request_first("m", 250, UTC)
        assert under_way.wait(240)
        with alone.borrow() as other:
            other.execute("select")
        ended.set()
        wait_for(lambda: versions(connection, "m") == [1], "the baseline")


def killed(*_: object) -> None:
    raise FitFailed("the process ended with SIGKILL")


def test_a_fit_whose_process_died_is_tried_again_an_hour_later(
    pool: Pool,
    send: Send,
    vectors: Vectors,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    send(vectors[:300])
    with fitting(pool, clock) as made:
        with monkeypatch.context() as patch:
            patch.setattr(fit_process, "fit", killed)
            made.request_first("m", 250, UTC)
            tried = made._works["m"]
            wait_for(tried.future.done, "the end of the fit")
        clock[0] = 3_599.0
        made.request_first("m", 250, UTC)
        assert made._works["m"] is tried
        clock[0] = 3_600.0
        made.request_first("m", 250, UTC)
        wait_for(lambda: versions(connection, "m") == [1], "the baseline")


def test_a_smaller_baseline_is_fitted_at_once_after_the_fit_of_another_has_died(
    pool: Pool,
    send: Send,
    vectors: Vectors,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send(vectors[:300])
    with fitting(pool, [0.0]) as made:
        with monkeypatch.context() as patch:
            patch.setattr(fit_process, "fit", killed)
            made.request_first("m", 300, UTC)
            wait_for(made._works["m"].future.done, "the end of the fit")
        made.request_first("m", 250, UTC)
        wait_for(lambda: versions(connection, "m") == [1], "the baseline")


def test_a_large_fit_does_not_keep_the_service_from_stopping(
    pool: Pool,
    send: Send,
    vectors: Vectors,
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Endless(Process):
        def __init__(self, module: str) -> None:
            super().__init__(module)
            os.kill(self.pid, signal.SIGSTOP)

    monkeypatch.setattr(fit_process, "SMALL", 0)
    monkeypatch.setattr(fit_process, "Process", Endless)
    caplog.set_level("INFO", "exporter.monitor.fitting")
    send(vectors[:300])
    made = Fitting(pool)
    made.request_first("m", 250, UTC)
    wait_for(lambda: len(children(fit_process.__name__)) == 1, "the fit")
    stopping = threading.Thread(target=made.stop, daemon=True)
    stopping.start()
    stopping.join(240)
    assert not stopping.is_alive()
    assert children(fit_process.__name__) == []
    assert versions(connection, "m") == []
    assert [(each.levelname, each.message) for each in caplog.records] == [
        ("INFO", "fit interrupted")
    ]


def test_a_fit_that_waits_for_the_server_does_not_keep_the_service_from_stopping(
    pool: Pool, send: Send, vectors: Vectors, connection: psycopg.Connection, store: str
) -> None:
    send(vectors[:300])
    made = Fitting(pool)
    stopping = threading.Thread(target=made.stop, daemon=True)
    with connect(store) as other, other.transaction():
        other.execute("lock table baseline")
        made.request_first("m", 250, UTC)
        wait_for(lambda: waits_for_a_lock(connection), "the fit")
        stopping.start()
        stopping.join(240)
        assert not stopping.is_alive()
    assert versions(connection, "m") == []
