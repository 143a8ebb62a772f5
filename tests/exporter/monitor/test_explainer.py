"""The explainer: what changed in the windows that drift, when they begin to drift and later."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg import sql

from exporter.explain.explanation import Explanation, explain
from exporter.explain.map import Map, draw
from exporter.metrics import families
from exporter.monitor import baseline, evidence, recorded, reporting, slices
from exporter.monitor.examinations import SlicesExamination
from exporter.monitor.explainer import EXPLANATION, REFRESHED_AFTER, Explainer
from exporter.monitor.model import Model, Models, Standing
from exporter.monitor.rise import Rise
from exporter.monitor.series import Series
from exporter.monitor.snapshot import ModelSnapshot, Snapshot
from exporter.monitor.states import State
from exporter.monitor.tail import Tail
from exporter.monitor.verdict import Measurement
from ingest.runtime.errors import StoreLost, StoreUnavailable
from ingest.runtime.settings.settings import (
    BaselineSettings,
    ExplanationSettings,
    MonitoringSettings,
    WindowSettings,
    WindowsSettings,
)
from ingest.runtime.thresholds import DRAINED_SECONDS, KEPT_SECONDS, SCORE
from ingest.store import explanations, history, reports
from ingest.store.batch import Batch
from ingest.store.connection import AsyncConnection
from ingest.store.explanations import ExplanationRow
from ingest.store.history import HistoryRow
from ingest.store.pool import Pool
from ingest.store.reports import Report
from ingest.store.selection import Selection
from ingest.store.vectors import insert
from tests.exporter.explain.space import KNOWN, Vectors, drawing
from tests.exporter.monitor.polling import unreadable

HIGH = SCORE["provisional"]["fast"].sudden + 5
CHECK = 300.0
ROUNDED_APART = 1_790_788_723.3511355
"""Seconds that PostgreSQL and Python round to different microseconds."""
WORDS = ["red", "green", "blue"]


class Clock:
    """Time of the store, moved by hand."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def keep(store: str, name: str, vectors: Vectors, is_new: NDArray[np.bool_]) -> None:
    """Store vectors of five tenants with a text each; those of the new topic are about zebras."""
    metadata: list[bytes | None] = [
        json.dumps(
            {
                "text": f"{'zebra' if new else 'usual'} {WORDS[at % 3]} of{at}",
                "tenant": f"t{at % 5}",
            }
        ).encode()
        for at, new in enumerate(is_new.tolist())
    ]

    async def run() -> None:
        async with await AsyncConnection.connect(store, autocommit=True) as connection:
            await insert(connection, [Batch(name, vectors, metadata=metadata)], 100)

    asyncio.run(run())


class Scored(Model):
    """A model whose fast window has the score that the test sets; its slow one, too, if asked."""

    score = 0.0
    with_slow = False
    risen: float | None = None
    of_slices: Mapping[str, float] = MappingProxyType({})
    measured: Measurement | None = None
    state: State = "ok"

    def judge(
        self,
        standing: Standing,
        now: float,
        deadline: float = math.inf,
        with_vectors: bool = False,
    ) -> ModelSnapshot:
        found = super().judge(standing, now, deadline, with_vectors)
        fast, slow = found.series
        # Nothing polls the store while the clock is moved, so the first measurement is kept.
        self.measured = self.measured or fast.verdict.measurement
        assert self.measured is not None
        measured = replace(self.measured, score=self.score)
        shown = measured if self.state == "ok" else None
        verdict = replace(fast.verdict, state=self.state, measurement=shown)
        still = replace(slow.verdict, measurement=None)
        series = (
            replace(fast, verdict=verdict),
            replace(slow, verdict=verdict if self.with_slow else still),
        )
        if self.risen is not None:
            findings = replace(slow.findings, rise=Rise({"": self.risen}, now))
            series = (series[0], replace(series[1], findings=findings))
        slices = tuple(
            replace(
                each,
                verdict=replace(
                    verdict,
                    measurement=replace(
                        self.measured, score=self.of_slices.get(each.series.slice, 0.0)
                    ),
                ),
            )
            for each in found.slices
            if each.series.window == "fast"
        )
        return replace(found, series=series, slices=slices)


SETTINGS = MonitoringSettings(stale_after=10**9, baseline=BaselineSettings(mature=False))


def follow(pool: Pool, clock: Clock, settings: MonitoringSettings = SETTINGS) -> Models:
    """Follow the store, by a clock that is moved by hand."""
    models = Models(clock)
    Tail(pool, models, settings).poll()
    for name, model in models.by_name.items():
        scored = Scored(model.row, settings)
        scored.ledger, scored.standing = model.ledger, model.standing
        assert models.by_name[name] is model
        models.add(scored)
    return models


def set_score(models: Models, score: float, name: str = "m") -> None:
    model = models.by_name[name]
    assert isinstance(model, Scored)
    model.score = score


def explainer(
    pool: Pool,
    models: Models,
    settings: ExplanationSettings | None = None,
    rest: Callable[[float], None] = lambda seconds: None,
) -> Explainer:
    allowed = ExplanationSettings() if settings is None else settings
    return Explainer(models, pool, pool, CHECK, allowed, threading.Event(), rest)


def explanation(models: Models, name: str = "m") -> ExplanationRow | None:
    return models.by_name[name].standing.explained.get(Series(name, "fast"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def models(store: str, connection: psycopg.Connection, pool: Pool, clock: Clock) -> Models:
    """A model that gets a new topic of 20 %."""
    keep(store, "m", drawing(0)(KNOWN, 1_500), np.zeros(1_500, bool))
    baseline.pin(connection, "m", Selection(first=1_500))
    draw, is_new = drawing(1), np.random.default_rng(0).random(500) < 0.2
    keep(store, "m", np.where(is_new[:, None], draw([20], 500), draw(KNOWN, 500)), is_new)
    return follow(pool, clock)


def test_a_window_is_explained_while_it_drifts(
    pool: Pool, models: Models, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    explaining = explainer(pool, models)
    explaining.look()
    assert explanation(models) is None
    set_score(models, HIGH)
    explaining.look()
    row = explanation(models)
    assert row is not None
    assert row.summary.startswith("m: at least ")
    assert "New: " in row.summary
    assert "zebra" in row.summary
    assert row.told["groups"][0]["examples"]
    assert explaining.examined[EXPLANATION].success
    set_score(models, 0.0)
    clock.time += KEPT_SECONDS
    explaining.look()
    assert explanation(models) is None
    assert caplog.messages == ["drift began", "drift ended"]


def test_a_drift_is_explained_again_four_times_and_its_groups_keep_their_ids(
    pool: Pool, models: Models, clock: Clock, connection: psycopg.Connection
) -> None:
    set_score(models, HIGH)
    explaining = explainer(pool, models)
    began, seen = clock.time, []
    for after in np.arange(0, 30_000, CHECK):
        clock.time = began + after
        explaining.look()
        row = explanation(models)
        assert row is not None
        seen.append((after, row.number))
    first = [next(after for after, number in seen if number == each) for each in range(5)]
    assert first == [0, *REFRESHED_AFTER]
    assert {number for _, number in seen} == set(range(5))
    kept = explanations.between(connection, "m", 0, 1e11)
    assert [row.number for row in kept] == list(range(5))
    assert len({row.began_at for row in kept}) == 1
    assert {tuple(group["id"] for group in row.told["groups"]) for row in kept} == {("g1",)}
    assert kept[-1].seen_at > kept[-1].explained_at


def test_between_two_runs_of_a_job_a_drift_keeps_its_explanation(
    pool: Pool, models: Models, clock: Clock, connection: psycopg.Connection
) -> None:
    explaining, model = explainer(pool, models), models.by_name["m"]
    assert isinstance(model, Scored)
    model.score = HIGH
    explaining.look()
    model.state = "too_few_vectors"
    for _ in range(9):
        clock.time += KEPT_SECONDS
        explaining.look()
        row = explanation(models)
        assert row is not None
        assert row.number == 0
    # It is explained again with the next vectors.
    model.state = "ok"
    explaining.look()
    first, second = explanations.between(connection, "m", 0, 1e11)
    assert (first.number, second.number) == (0, 3)
    assert first.began_at == second.began_at
    assert explaining.examined[EXPLANATION].success


def test_a_restart_between_two_runs_of_a_job_keeps_the_explanation(
    pool: Pool, models: Models, clock: Clock
) -> None:
    model = models.by_name["m"]
    assert isinstance(model, Scored)
    model.score = HIGH
    explainer(pool, models).look()
    first = explanation(models)
    assert first is not None
    model.state = "too_few_vectors"
    clock.time += DRAINED_SECONDS
    again = explainer(pool, models)
    for _ in range(9):
        again.look()
        row = explanation(models)
        assert row is not None
        assert (row.number, row.began_at) == (0, first.began_at)
        clock.time += KEPT_SECONDS
    model.state = "stale"
    again.look()
    clock.time += KEPT_SECONDS
    again.look()
    assert explanation(models) is None


@pytest.mark.parametrize("state", ["too_few_vectors", "stale"])
def test_a_drift_that_was_not_seen_just_now_is_not_resumed(
    pool: Pool, models: Models, clock: Clock, state: State
) -> None:
    model = models.by_name["m"]
    assert isinstance(model, Scored)
    model.score = HIGH
    explainer(pool, models).look()
    model.state = state
    clock.time += DRAINED_SECONDS + (1 if state == "too_few_vectors" else 0)
    explainer(pool, models).look()
    assert explanation(models) is None


@pytest.mark.parametrize(
    "other", ["baseline_version = 0", "told = '{}'"], ids=["baseline", "release"]
)
def test_a_drift_from_another_baseline_or_release_is_not_resumed(
    pool: Pool, models: Models, connection: psycopg.Connection, other: str
) -> None:
    model = models.by_name["m"]
    assert isinstance(model, Scored)
    model.score = HIGH
    explainer(pool, models).look()
    model.state = "too_few_vectors"
    connection.execute(f"update explanation set {other}".encode())
    again = explainer(pool, models)
    again.look()
    assert not again._drifting.now


def test_what_another_release_stored_in_another_form_is_said_again(
    pool: Pool, connection: psycopg.Connection, models: Models
) -> None:
    set_score(models, HIGH)
    explainer(pool, models).look()
    connection.execute("update explanation set told = '{}'")
    explainer(pool, models).look()
    row = explanation(models)
    assert row is not None
    assert row.number == 1
    assert recorded.is_readable(row)


def drawn_map(connection: psycopg.Connection, row: ExplanationRow | None) -> dict[str, Any]:
    assert row is not None
    at = recorded.explanation(row).explained_at
    return dict(explanations.maps(connection, "m", [at])["fast"])


def test_an_explanation_has_a_map_on_which_the_baseline_stays(
    pool: Pool, connection: psycopg.Connection, models: Models, clock: Clock
) -> None:
    explaining = explainer(pool, models, ExplanationSettings(texts="full"))
    set_score(models, HIGH)
    explaining.look()
    first = drawn_map(connection, explanation(models))
    clock.time += REFRESHED_AFTER[0]
    # After a restart, too.
    explainer(pool, models, ExplanationSettings(texts="keywords")).look()
    later = drawn_map(connection, explanation(models))
    assert len(first["baseline"]) == 600
    assert first["baseline"] == later["baseline"]
    in_group = [point for point in first["points"] if point["group"] == "g1"]
    assert "zebra" in in_group[0]["text"]
    assert not any("text" in point for point in later["points"])


def test_the_map_is_found_whatever_the_time_of_its_explanation(
    pool: Pool, connection: psycopg.Connection, models: Models, clock: Clock
) -> None:
    explaining = explainer(pool, models)
    explaining.look()
    clock.time = ROUNDED_APART
    set_score(models, HIGH)
    explaining.look()
    assert drawn_map(connection, explanation(models))["points"]


def test_a_map_that_cannot_be_drawn_leaves_the_explanation(
    pool: Pool,
    connection: psycopg.Connection,
    models: Models,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no map")

    monkeypatch.setattr("exporter.monitor.explainer.draw", fail)
    explaining = explainer(pool, models)
    set_score(models, HIGH)
    with pytest.raises(RuntimeError, match="no map"):
        explaining.look()
    assert explanation(models) is not None
    assert not explaining.examined[EXPLANATION].success
    assert explanations.last_map(connection, "m", 1) is None


def test_a_map_that_cannot_be_drawn_leaves_the_map_of_the_other_window(
    pool: Pool,
    connection: psycopg.Connection,
    models: Models,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[object] = []

    def fail_once(*told: Any) -> Map:
        tries.append(told)
        # Of a large baseline, only what is shown is held until then.
        assert len(told[1]) == 600
        if len(tries) == 1:
            raise RuntimeError("no map")
        return draw(*told)

    monkeypatch.setattr("exporter.monitor.explainer.draw", fail_once)
    rests: list[float] = []
    set_score(models, SCORE["provisional"]["slow"].sudden + 5)
    monkeypatch.setattr(models.by_name["m"], "with_slow", True)
    explaining = explainer(pool, models, rest=rests.append)
    with pytest.raises(RuntimeError, match="no map"):
        explaining.look()
    slow = models.by_name["m"].standing.explained[Series("m", "slow")]
    at = recorded.explanation(slow).explained_at
    assert list(explanations.maps(connection, "m", [at])) == ["slow"]
    assert len(rests) == 1


def test_a_rise_over_the_week_before_is_explained(
    pool: Pool, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not high enough to drift without the rise.
    thresholds = SCORE["provisional"]["slow"]
    set_score(models, thresholds.lasting + 1)
    model = models.by_name["m"]
    monkeypatch.setattr(model, "with_slow", True)
    for risen, is_explained in ((thresholds.rise - 1, False), (thresholds.rise + 1, True)):
        monkeypatch.setattr(model, "risen", risen)
        explainer(pool, models).look()
        row = model.standing.explained.get(Series("m", "slow"))
        assert (row is not None) is is_explained
    assert row is not None
    assert "zebra" in row.summary


def test_a_drift_that_its_newest_vectors_do_not_show_is_not_called_like_the_baseline(
    store: str, pool: Pool, models: Models, clock: Clock
) -> None:
    keep(store, "m", drawing(2)(KNOWN, 1_000), np.zeros(1_000, bool))
    models = follow(pool, clock)
    set_score(models, HIGH)
    explainer(pool, models).look()
    row = explanation(models)
    assert row is not None
    assert row.told["score"] < 2
    assert row.told["cause"]["kind"] == "unknown"
    assert "like the baseline" not in row.summary


def test_after_a_restart_a_drift_that_lasts_keeps_its_explanation(
    pool: Pool, models: Models, clock: Clock
) -> None:
    set_score(models, HIGH)
    explainer(pool, models).look()
    before = explanation(models)
    assert before is not None
    clock.time += CHECK / 2
    explainer(pool, models).look()
    after = explanation(models)
    assert after is not None
    assert (after.began_at, after.number, after.summary) == (before.began_at, 0, before.summary)
    clock.time += CHECK / 2
    explainer(pool, models).look()
    refreshed = explanation(models)
    assert refreshed is not None
    assert (refreshed.began_at, refreshed.number) == (before.began_at, 1)
    assert [each["id"] for each in refreshed.told["groups"]] == [
        each["id"] for each in before.told["groups"]
    ]
    clock.time += KEPT_SECONDS + 1
    explainer(pool, models).look()
    another = explanation(models)
    assert another is not None
    assert (another.began_at > before.began_at, another.number) == (True, 0)


def test_after_a_restart_a_drift_that_only_the_average_of_an_hour_shows_goes_on(
    pool: Pool, models: Models, clock: Clock, connection: psycopg.Connection
) -> None:
    sudden, lasting, _ = SCORE["provisional"]["fast"]
    between = (sudden + lasting) / 2
    set_score(models, between)
    explaining = explainer(pool, models)
    for _ in range(13):
        explaining.look()
        row = HistoryRow("m", "fast", "ok", 500, 1, score=between)
        history.fill(connection, [(models.now(), row)])
        clock.time += CHECK
    before = explanation(models)
    assert before is not None
    again = explainer(pool, models)
    again.look()
    after = explanation(models)
    assert after is not None
    assert (after.began_at, after.number) == (before.began_at, 1)
    # Scores against another baseline are not of its hour.
    connection.execute("update drift_history set baseline_version = 2")
    another = explainer(pool, models)
    another.look()
    assert not another._drifting.now


def test_of_two_processes_one_explains(
    pool: Pool, models: Models, clock: Clock, connection: psycopg.Connection
) -> None:
    rests: list[float] = []
    set_score(models, HIGH)
    explainer(pool, models, rest=rests.append).look()
    explainer(pool, models, rest=rests.append).look()
    assert len(rests) == 1
    assert len(explanations.between(connection, "m", 0, 1e11)) == 1


def test_it_rests_as_long_as_it_has_worked(pool: Pool, models: Models) -> None:
    rests: list[float] = []
    explaining = explainer(pool, models, rest=rests.append)
    explaining.look()
    assert rests == []
    set_score(models, HIGH)
    explaining.look()
    [rest] = rests
    assert 0 < rest <= explaining.examined[EXPLANATION].duration


def test_what_settings_do_not_allow_any_more_is_said_again_without_it(
    pool: Pool, models: Models
) -> None:
    set_score(models, HIGH)
    explaining = explainer(pool, models, ExplanationSettings(texts="full"))
    explaining.look()
    row = explanation(models)
    assert row is not None
    assert "zebra" in str(row.told)
    explaining.settings = ExplanationSettings(texts="none")
    explaining.look()
    row = explanation(models)
    assert row is not None
    assert "zebra" not in str(row)


def test_a_drift_began_when_it_did_also_if_a_restart_allows_less_to_be_said(
    pool: Pool, models: Models, clock: Clock
) -> None:
    set_score(models, HIGH)
    explainer(pool, models, ExplanationSettings(texts="full")).look()
    before = explanation(models)
    clock.time += CHECK / 2
    explainer(pool, models, ExplanationSettings(texts="none")).look()
    after = explanation(models)
    assert before is not None
    assert after is not None
    assert "zebra" not in str(after)
    assert (after.began_at, after.number) == (before.began_at, 1)


@pytest.mark.parametrize(("vectors", "explained"), [(7, False), (10, True)])
def test_a_window_of_too_few_vectors_has_no_explanation_and_no_error(
    store: str,
    connection: psycopg.Connection,
    pool: Pool,
    clock: Clock,
    vectors: int,
    explained: bool,
) -> None:
    keep(store, "m", drawing(0)(KNOWN, 1_500), np.zeros(1_500, bool))
    baseline.pin(connection, "m", Selection(first=1_500))
    keep(store, "m", drawing(1)([20], vectors), np.ones(vectors, bool))
    few = WindowSettings(seconds=900, min_vectors=5)
    settings = MonitoringSettings(
        stale_after=10**9,
        baseline=BaselineSettings(mature=False),
        windows=WindowsSettings(fast=few),
    )
    models = follow(pool, clock, settings)
    set_score(models, HIGH)
    explaining = explainer(pool, models)
    explaining.look()
    assert (explanation(models) is not None) == explained
    assert explaining.examined[EXPLANATION].success


def test_what_settings_do_not_allow_any_more_is_gone_at_once(
    pool: Pool, models: Models, connection: psycopg.Connection
) -> None:
    set_score(models, HIGH)
    explaining = explainer(pool, models, ExplanationSettings(texts="full"))
    explaining.look()
    explaining.reconfigure(CHECK, ExplanationSettings(texts="full"))
    assert explanation(models) is not None
    explaining.reconfigure(CHECK, ExplanationSettings(texts="none"))
    assert explanation(models) is None
    # Nor does it come back when it cannot be said again.
    connection.execute("delete from baseline_embedding")
    with pytest.raises(ValueError, match="needs vectors of the baseline"):
        explaining.look()
    assert explanation(models) is None


def test_the_thresholds_are_those_of_the_whole_fleet_as_in_the_rules(
    pool: Pool, models: Models, connection: psycopg.Connection
) -> None:
    set_score(models, HIGH - 4)
    # The exporter of another shard has a thousand slices.
    reports.write(connection, [Report("m", 0.0, b'{"watched": 1000}', b"{}")], CHECK)
    explainer(pool, models).look()
    assert explanation(models) is None
    connection.execute("delete from report")
    explainer(pool, models).look()
    assert explanation(models) is not None


def test_what_settings_forbid_during_an_explanation_is_not_shown_after_it(
    pool: Pool, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_score(models, HIGH)
    explaining = explainer(pool, models, ExplanationSettings(texts="full"))

    def forbid(*arguments: Any, **options: Any) -> Explanation:
        explaining.reconfigure(CHECK, ExplanationSettings(texts="none"))
        return explain(*arguments, **options)

    monkeypatch.setattr("exporter.monitor.explainer.explain", forbid)
    explaining.look()
    assert explanation(models) is None


def test_a_window_that_cannot_be_explained_leaves_the_others_alone(
    store: str, pool: Pool, models: Models, connection: psycopg.Connection, clock: Clock
) -> None:
    keep(store, "l", drawing(0)(KNOWN, 500), np.zeros(500, bool))
    baseline.pin(connection, "l", Selection(first=300))
    models = follow(pool, clock)
    set_score(models, HIGH, "l")
    set_score(models, HIGH, "m")
    connection.execute("delete from baseline_embedding where model_name = 'l'")
    explaining = explainer(pool, models)
    with pytest.raises(ValueError, match="needs vectors of the baseline"):
        explaining.look()
    assert explanation(models, "l") is None
    assert explanation(models) is not None
    assert not explaining.examined[EXPLANATION].success


def test_a_window_whose_statement_the_server_ends_leaves_the_others_alone(
    store: str,
    pool: Pool,
    connection: psycopg.Connection,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The model a comes first, and the server cannot read a block of its vectors."""
    for name in ("a", "m"):
        keep(store, name, drawing(0)(KNOWN, 500), np.zeros(500, bool))
        baseline.pin(connection, name, Selection(first=300))
    models = follow(pool, clock)
    set_score(models, HIGH, "a")
    set_score(models, HIGH, "m")
    monkeypatch.setattr(evidence, "read", unreadable(evidence.read))
    explaining = explainer(pool, models)
    with pytest.raises(StoreUnavailable, match="could not read block 7"):
        explaining.look()
    assert explanation(models, "a") is None
    assert explanation(models) is not None
    assert not explaining.examined[EXPLANATION].success


def test_a_model_that_cannot_be_judged_leaves_the_others_alone(
    pool: Pool, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_score(models, HIGH)
    broken = Model(replace(models.by_name["m"].row, model_name="a"), MonitoringSettings())
    monkeypatch.setattr(broken, "judge", lambda *_: 1 / 0)
    healthy = models.by_name["m"]
    models.remove("m")
    models.add(broken)
    models.add(healthy)
    with pytest.raises(ZeroDivisionError):
        explainer(pool, models).look()
    assert explanation(models) is not None


def test_a_model_that_was_removed_and_made_again_is_not_explained_without_a_baseline(
    store: str, pool: Pool, models: Models, connection: psycopg.Connection, clock: Clock
) -> None:
    set_score(models, HIGH)
    explaining = explainer(pool, models)
    explaining.look()
    assert explanation(models) is not None
    made_again = models.by_name["m"].row
    models.add(Model(made_again, MonitoringSettings()))
    explaining.look()
    assert explanation(models) is None
    assert explaining.examined[EXPLANATION].success


def test_an_explanation_of_a_model_is_not_kept_for_another_one_of_its_name(
    store: str, pool: Pool, models: Models, connection: psycopg.Connection
) -> None:
    set_score(models, HIGH)
    # As if it had been removed and made again while it was explained.
    connection.execute("update model set created_at = created_at + interval '1 us'")
    explainer(pool, models).look()
    assert explanation(models) is None
    assert connection.execute("select * from explanation").fetchall() == []


def test_without_the_store_nothing_is_said(
    pool: Pool, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(connection: psycopg.Connection, *_: object) -> None:
        connection.execute("select pg_terminate_backend(pg_backend_pid())")

    set_score(models, HIGH)
    monkeypatch.setattr(explanations, "newest", lost)
    explaining = explainer(pool, models)
    with pytest.raises(StoreLost):
        explaining.look()
    assert not explaining.examined[EXPLANATION].success


MODELS = 20


@pytest.fixture
def fleet(store: str, connection: psycopg.Connection, pool: Pool, clock: Clock) -> Models:
    """Twenty models with a small baseline each."""
    keep(store, "model-00", drawing(0)(KNOWN, 320), np.zeros(320, bool))
    baseline.pin(connection, "model-00", Selection(first=250))
    for table in ("model", "embedding", "baseline", "baseline_embedding"):
        columns = [
            name
            for (name,) in connection.execute(
                "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0"
                " and not attisdropped and attname <> 'model_name'",
                [table],
            )
        ]
        copy = sql.SQL(
            "insert into {table} (model_name, {columns}) select 'model-' || to_char(n, 'FM00'),"
            " {columns} from {table}, generate_series(1, %s) as n"
        ).format(
            table=sql.Identifier(table),
            columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        )
        connection.execute(copy, [MODELS - 1])
    return follow(pool, clock)


def test_a_day_of_twenty_models_that_drift_on_and_off_costs_few_series(
    pool: Pool, fleet: Models, clock: Clock
) -> None:
    """Each drifts twice, for 105 minutes, so each drift has three summaries."""
    explaining = explainer(pool, fleet)
    random, began = np.random.default_rng(0), clock.time
    begins = {name: random.integers(0, 6 * 3_600) for name in fleet.by_name}
    high = HIGH + np.log10(MODELS)
    words: set[tuple[str, ...]] = set()
    explained: set[tuple[str, float, int]] = set()
    others: set[tuple[str, ...]] = set()
    most = 0
    for after in np.arange(0, 86_400, KEPT_SECONDS):
        clock.time = began + after
        for name, begin in begins.items():
            is_drifting = after >= begin and (after - begin) % 43_200 < 105 * 60
            set_score(fleet, high if is_drifting else 0.0, name)
        explaining.look()
        snapshot = Snapshot(tuple(fleet.snapshots()))
        now = [labels for labels, _ in families.EXPLANATION_INFO.read(snapshot)]
        rows = [row for name in begins if (row := explanation(fleet, name)) is not None]
        assert len(now) == len(rows)
        most = max(most, len(now))
        words.update(now)
        explained.update((row.model_name, row.began_at, row.number) for row in rows)
        for family in (families.CAUSE, families.GROUP_RATIO, families.EXPLANATION_TIMESTAMP):
            others.update((family.name, *labels) for labels, _ in family.read(snapshot))
    assert 0 < most < MODELS
    assert len(words) <= len(explained) == MODELS * 2 * 3
    # Whatever happens: nine causes, three ranks and a time.
    assert len(others) <= MODELS * (9 + 3 + 1)


@pytest.fixture
def sliced(models: Models, pool: Pool, connection: psycopg.Connection) -> Scored:
    """The same model, whose five tenants are slices with scores that the test sets."""
    model = models.by_name["m"]
    assert isinstance(model, Scored)
    assert model.baseline is not None
    model.settings = model.settings.model_copy(update={"slices": ["tenant"]})
    model.standing.slicing = slices.divide(pool.borrow, "m", model.baseline, ("tenant",))
    subject = model.judge(model.standing, models.now(), with_vectors=True)
    model.standing.attach("slices", SlicesExamination(pool).examine(subject))
    return model


def test_a_slice_that_drifts_is_explained_by_its_own_vectors(
    pool: Pool, connection: psycopg.Connection, models: Models, sliced: Scored
) -> None:
    sliced.of_slices = {"tenant=t1": HIGH}
    explaining = explainer(pool, models)
    explaining.look()
    [(series, row)] = sliced.standing.explained.items()
    assert series == ("m", "fast", "tenant=t1")
    assert row.slice == "tenant=t1"
    assert row.summary.startswith("m (tenant=t1): ")
    assert row.told["vectors"] == 100
    assert explanations.last_map(connection, "m", 1) is None
    told = reporting.detail(sliced.snapshot(models.now()))
    snapshot = Snapshot(tuple(models.snapshots()))
    summaries = list(families.EXPLANATION_INFO.read(snapshot))
    assert [labels[2:] for labels, _ in summaries] == [("tenant=t1", row.summary)]
    windows = {value.value: value.windows for key in told.slices for value in key.values}
    assert windows["t1"] is not None
    assert windows["t1"].fast is not None
    assert windows["t1"].fast.explanation == recorded.explanation(row)


def test_a_slice_that_is_rare_among_the_newest_vectors_is_not_explained(
    pool: Pool, connection: psycopg.Connection, models: Models, sliced: Scored
) -> None:
    newest = "select seq from embedding where metadata->>'tenant' = 't1' order by seq desc limit 9"
    connection.execute(
        'update embedding set metadata = \'{"tenant": "t0"}\''
        f" where metadata->>'tenant' = 't1' and seq not in ({newest})"
    )
    sliced.of_slices = {"tenant=t1": HIGH}
    explainer(pool, models).look()
    assert not sliced.standing.explained


def test_of_many_slices_that_drift_the_first_three_are_explained(
    pool: Pool, models: Models, sliced: Scored, clock: Clock
) -> None:
    explaining = explainer(pool, models)
    sliced.of_slices = {"tenant=t4": HIGH}
    explaining.look()
    clock.time += 1
    sliced.of_slices = {f"tenant=t{at}": HIGH + at for at in range(5)}
    explaining.look()
    first = {series.slice for series in sliced.standing.explained}
    assert len(first) == 3
    assert "tenant=t4" in first
    explaining.look()
    assert {series.slice for series in sliced.standing.explained} == first
