"""A state machine: what happens to models and to the clock of the store while an exporter runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, islice, repeat
from threading import Event
from typing import Any

import msgspec
import numpy as np
import psycopg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from numpy.typing import NDArray

from exporter.monitor import baseline, reporting
from exporter.monitor.examiner import Examiner
from exporter.monitor.explainer import Explainer
from exporter.monitor.model import Model, Models
from exporter.monitor.monitor import examinations
from exporter.monitor.tail import Tail
from ingest.runtime.settings.settings import (
    BaselineSettings,
    ExplanationSettings,
    MonitoringSettings,
    WindowSettings,
    WindowsSettings,
)
from ingest.runtime.thresholds import of_fleet
from ingest.store import baselines, partitions
from ingest.store.batch import Batch
from ingest.store.connection import OPTIONS, AsyncConnection
from ingest.store.models import remove
from ingest.store.pool import Pool
from ingest.store.selection import Selection
from ingest.store.vectors import Stored, insert

Vectors = NDArray[np.float32]

_BASELINE = 250
SETTINGS = MonitoringSettings(
    baseline=BaselineSettings(vectors=50_000, mature=False),
    windows=WindowsSettings(
        fast=WindowSettings(seconds=900, min_vectors=20, max_vectors=500),
        slow=WindowSettings(seconds=21_600, min_vectors=20, max_vectors=500),
    ),
)
NAMES = st.sampled_from(["a", "b"])
TABLES = (
    "model, embedding, embedding_id, idempotency_key, baseline, baseline_embedding, drift_history,"
    " slice_history, report, explanation"
)
CLOCK = """
create schema clock;
create table clock.moved (seconds float8 not null);
insert into clock.moved values (0);
create function clock.clock_timestamp() returns timestamptz language sql volatile as
    'select pg_catalog.clock_timestamp() + make_interval(secs => seconds) from clock.moved';
create function clock.statement_timestamp() returns timestamptz language sql volatile as
    'select pg_catalog.statement_timestamp() + make_interval(secs => seconds) from clock.moved';
alter table model alter column created_at set default clock.clock_timestamp();
alter table baseline alter column pinned_at set default clock.clock_timestamp();
alter table baseline alter column used_at set default clock.clock_timestamp();
alter table drift_history alter column computed_at set default clock.clock_timestamp();
"""
"""Functions that the store calls instead of those of the same name, in a search path before
them: they tell the time that a test wants."""
SEARCH_PATH = "clock,pg_catalog,public"

Act = Callable[[], object]
Step = tuple[str | float, ...]

_SEND: Step = ("send", "a", 60, False)
_LOOK: Step = ("look_at_everything",)
EXAMPLES: dict[str, tuple[Step, ...]] = {
    "the clock was ahead, and nothing came meanwhile": (
        *(_SEND, _LOOK, ("pass_time", 22_000.0), _LOOK, ("set_clock_back", 22_000.0), _LOOK),
        *(_SEND, _LOOK),
    ),
    "vectors came while the clock was ahead": (
        *(_SEND, _LOOK, ("pass_time", 22_000.0), _SEND, _LOOK, ("set_clock_back", 22_000.0)),
        *(_LOOK, _SEND, _LOOK),
    ),
    "many vectors came while the clock was ahead": (
        *(_SEND, _LOOK, ("pass_time", 22_000.0), *[_SEND, ("pass_time", 300.0)] * 10, _LOOK),
        *(("set_clock_back", 22_000.0), _LOOK, *[_SEND, ("pass_time", 300.0), _LOOK] * 6),
    ),
    "the clock was ahead between two polls": (
        *(_SEND, _LOOK, _SEND, ("pass_time", 22_000.0), _SEND, ("set_clock_back", 22_000.0)),
        *(_LOOK, _SEND, _LOOK),
    ),
}
"""Sequences of steps, each with its arguments, by what they are about."""


class BusyPool(Pool):
    """A pool whose store is changed by others while it is used."""

    def __init__(self, connection_string: str) -> None:
        super().__init__(connection_string, min_size=1, max_size=2, open=False, kwargs=OPTIONS)
        self._acts: Iterator[Act] = iter(())

    @contextmanager
    def while_used(self, after: int, act: Act) -> Iterator[None]:
        """Have others act once so many connections were borrowed."""
        self._acts = chain(repeat(lambda: None, after), [act])
        try:
            yield
        finally:
            self._acts = iter(())

    @contextmanager
    def borrow(self, seconds: float | None = None) -> Iterator[psycopg.Connection]:
        for act in islice(self._acts, 1):
            act()
        with super().borrow(seconds) as connection:
            yield connection


def run(store: str, connection: psycopg.Connection, vectors: Vectors, long: bool) -> None:
    """Check sequences of 30 steps: always the same few, or many random ones.

    Parameters
    ----------
    store : str
        Connection string of a store whose clock is `CLOCK`.
    connection : psycopg.Connection
        To it.
    vectors : ndarray, shape (n, 8)
        Without drift.
    long : bool
    """
    with BusyPool(store) as pool:
        run_state_machine_as_test(
            _machine(store, pool, connection, vectors),
            settings=settings(
                max_examples=300 if long else 12,
                derandomize=not long,
                database=None,
                stateful_step_count=30,
                suppress_health_check=list(HealthCheck),
            ),
        )


def replay(
    store: str, connection: psycopg.Connection, vectors: Vectors, steps: tuple[Step, ...]
) -> None:
    """Check one sequence of steps; see `run`."""
    with BusyPool(store) as pool:
        machine = _machine(store, pool, connection, vectors)()
        for name, *arguments in steps:
            getattr(machine, str(name))(*arguments)


def _machine(
    store: str, pool: BusyPool, connection: psycopg.Connection, vectors: Vectors
) -> type[RuleBasedStateMachine]:
    class Continuity(RuleBasedStateMachine):
        """A store whose models come and go, its clock, and an exporter that follows it."""

        def __init__(self) -> None:
            super().__init__()
            connection.execute(f"truncate {TABLES}".encode())
            connection.execute("update clock.moved set seconds = 0")
            partitions.ensure(connection)
            self.passed = 0.0
            self.was_set_back = False
            self.present: set[str] = set()
            self.restart()

        def monotonic(self) -> float:
            return time.monotonic() + self.passed

        def exporter(self) -> tuple[Models, Tail, Examiner, Explainer]:
            models = Models(monotonic=self.monotonic)
            return (
                models,
                Tail(pool, models, SETTINGS, monotonic=self.monotonic),
                Examiner(models, examinations(pool), pool, 300, Event(), monotonic=self.monotonic),
                Explainer(
                    models, pool, pool, 300, ExplanationSettings(), Event(), rest=lambda _: None
                ),
            )

        @rule()
        def restart(self) -> None:
            self.models, self.tail, self.examiner, self.explainer = self.exporter()
            self.tail.poll()

        @rule(name=NAMES, count=st.sampled_from([5, 30, 60]), drifts=st.booleans())
        def send(self, name: str, count: int, drifts: bool) -> None:
            first = int(np.random.default_rng(count).integers(2_000))
            sent = vectors[first : first + count] + np.float32(3 * drifts)
            self.store(Batch(name, np.ascontiguousarray(sent)))

        @rule(name=NAMES)
        def begin(self, name: str) -> None:
            """Send as many vectors as a baseline needs, and pin it."""
            self.store(Batch(name, vectors[-_BASELINE:]))
            baseline.pin(connection, name, Selection(last=_BASELINE))

        @rule(name=NAMES)
        def pin(self, name: str) -> None:
            """Pin the newest vectors, if they are enough."""
            rows = connection.execute(
                "select last_seq from model where model_name = %s", [name]
            ).fetchone()
            if rows is not None and rows[0] >= _BASELINE:
                baseline.pin(connection, name, Selection(last=_BASELINE))

        @rule(name=NAMES)
        def use_the_oldest_baseline(self, name: str) -> None:
            if name in self.present and (known := baselines.versions(connection, name)):
                baselines.use(connection, name, min(each.version for each in known))

        @rule(name=NAMES)
        def remove(self, name: str) -> None:
            if name in self.present:
                remove(connection, name)
                self.present.remove(name)

        @rule(name=NAMES)
        def make_again(self, name: str) -> None:
            self.remove(name)
            self.begin(name)

        @rule(seconds=st.sampled_from([310.0, 1_000.0, 22_000.0, 100_000.0]))
        def pass_time(self, seconds: float) -> None:
            self.passed += seconds
            self.move_clock(seconds)

        @rule(seconds=st.sampled_from([310.0, 1_000.0, 22_000.0, 100_000.0]))
        def set_clock_back(self, seconds: float) -> None:
            self.was_set_back = True
            self.move_clock(-seconds)

        def move_clock(self, seconds: float) -> None:
            connection.execute("update clock.moved set seconds = seconds + %s", [seconds])
            partitions.ensure(connection)

        @rule(
            what=st.sampled_from(["poll", "check", "look", "catch_up"]),
            name=NAMES,
            act=st.sampled_from(["remove", "make_again", "begin", "pin"]),
            at=st.integers(0, 9),
        )
        def work_meanwhile(self, what: str, name: str, act: str, at: int) -> None:
            """Have others change the store while the exporter polls, checks or explains."""
            works: dict[str, Act] = {
                "poll": self.tail.poll,
                "check": self.examiner.check,
                "look": self.explainer.look,
                "catch_up": self.examiner.catch_up,
            }
            with pool.while_used(at, lambda: getattr(self, act)(name)):
                works[what]()
            self.check_store()

        @rule()
        def look_at_everything(self) -> None:
            """Let the exporter poll, check and explain; then it says what a new one says."""
            self.tail.poll()
            self.examiner.check()
            self.explainer.look()
            self.check_store()
            assert set(self.models.by_name) == self.present
            models, tail, examiner, explainer = self.exporter()
            tail.poll()
            examiner.check()
            explainer.look()
            now = self.models.now()
            for name, model in self.models.by_name.items():
                assert model.snapshot(now).not_followed is None
                one, other = told(model, now), told(models.by_name[name], now)
                places = one.keys() | other.keys()
                both = {place: (one.get(place), other.get(place)) for place in places}
                differ = {
                    place: values
                    for place, values in both.items()
                    if len(set(map(repr, values))) > 1
                }
                assert not differ, differ
                self.check_explanations(model, now)

        def check_explanations(self, model: Model, now: float) -> None:
            """What drifts is explained: from its baseline, and of the time that has passed."""
            subject = model.snapshot(now)
            for each in subject.series:
                measured, explained = each.verdict.measurement, each.explanation
                if explained is not None:
                    assert explained.baseline_version == each.verdict.baseline_version
                    assert explained.began_at <= now
                elif measured is not None and subject.baseline is not None:
                    limits = of_fleet(subject.baseline.stage, self.models.watched)
                    assert measured.score <= limits[each.series.window].sudden

        def check_store(self) -> None:
            """Nothing is kept of a model that is gone, as if it were of one that came later."""
            for table in ("drift_history", "report", "explanation"):
                kept = connection.execute(f"select distinct model_name from {table}".encode())
                assert {name for (name,) in kept} <= self.present, table
            if self.was_set_back:
                return
            begins = ("drift_history", "computed_at"), ("explanation", "began_at")
            for table, column in begins:
                of_another = connection.execute(
                    f"select kept.* from {table} kept join model using (model_name)"
                    f" where {column} < created_at or baseline_version is not null"
                    " and (baseline_version > coalesce((select max(version) from baseline"
                    " where baseline.model_name = model.model_name), 0)"
                    " or exists (select from baseline where (model_name, version) ="
                    f" (kept.model_name, kept.baseline_version) and pinned_at > {column}))".encode()
                ).fetchall()
                assert of_another == [], table

        def store(self, batch: Batch) -> None:
            async def run() -> Stored | Exception:
                async with await AsyncConnection.connect(store, autocommit=True) as own:
                    return (await insert(own, [batch], 10))[0]

            outcome = asyncio.run(run())
            assert isinstance(outcome, Stored)
            self.present.add(batch.model_name)

    return Continuity


def told(model: Model, now: float) -> dict[str, object]:
    """What is reported of a model, by its place in the report.

    Left out is when it was followed and examined, and what was explained: a new exporter does not
    know of drift that is over since some minutes. Of a window that holds a sample, only the state
    is there: a new exporter may sample less.
    """
    found: dict[str, Any] = msgspec.to_builtins(reporting.detail(model.snapshot(now)))
    del found["following"]["followed_at"]
    for name, window in found["windows"].items():
        window.pop("explanation", None)
        if window["sampled_ratio"] < 1:
            found["windows"][name] = window["state"]
        elif window.get("magnitude"):
            del window["magnitude"]["computed_at"]
    return dict(_flat("", found))


def _flat(place: str, found: object) -> Iterator[tuple[str, object]]:
    if isinstance(found, dict):
        for name, value in found.items():
            yield from _flat(f"{place}/{name}", value)
    else:
        yield place, found
