"""A state machine of what happens to a table, to the follower of it and to the store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from enum import Enum, auto
from typing import NamedTuple

import psycopg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from psycopg.conninfo import conninfo_to_dict

from ingest.pipeline.metrics import DUPLICATES, REVISIONS, VECTORS
from ingest.runtime.errors import SourceUnavailable, StoreUnavailable
from tests.ingest.watch.bench import Bench
from tests.ingest.watch.table import WRONG, End, Kind, Place, Removal, Row, Table, Vector

BASELINE = 8
OVERLAP = 300.0
RECHECKS = 36_000.0
"""Per hour. Those of a minute are more than all ids of a sequence."""

COUNTS = st.integers(1, 5)
PLACES = st.integers(0, 5)
VALUES = st.integers(0, WRONG)
RIGHT_VALUES = st.integers(0, WRONG - 1)
REMOVALS = st.sampled_from(Removal)
FAULTS = ["ids", "vector", "table", "connections", "connection while reading"]

_FAULT = """
create table fault (embedding vector, reader text);
create function fail() returns trigger language plpgsql as $$
declare
  reader text;
begin
  for reader in select fault.reader from fault where fault.embedding = new.embedding loop
    if reader is null then
      raise 'not now' using errcode = 'admin_shutdown';
    end if;
    perform pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = reader;
  end loop;
  return new;
end $$;
create trigger fail before insert on embedding for each row execute function fail();
"""
"""Vectors that cannot be stored, or during whose storing the table's connection is lost."""


class Then(Enum):
    """What follows a change: nothing yet, a poll, or one that cannot save its position."""

    NOTHING = auto()
    POLL = auto()
    FAIL = auto()


THEN = st.sampled_from(Then)


class Look(NamedTuple):
    """What a poll sees of a table: its newest row, and what tells it from another one."""

    place: Place
    vector: Vector
    table: int
    emptied: int
    maintained: int


def run(bench: Bench, connection: psycopg.Connection, kind: Kind, examples: int) -> None:
    """Check random sequences against what following promises.

    Parameters
    ----------
    bench : Bench
    connection : psycopg.Connection
        To the store.
    kind : Kind
    examples : int
        Number of sequences.
    """
    connection.execute(_FAULT)
    # Thousands of commits, and none has to survive a crash.
    connection.execute(f"alter database {connection.info.dbname} set synchronous_commit = off")

    class Sequence(Conservation):
        def __init__(self) -> None:
            super().__init__(bench, connection, kind)

    run_state_machine_as_test(
        Sequence,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
        ),
    )


class Process:
    """A follower in a process of its own, for callers that are not asynchronous."""

    def __init__(self, bench: Bench, table: str, time: str | None) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        polling = bench.polling(
            time,
            table=table,
            baseline_vectors=BASELINE,
            overlap=OVERLAP,
            rechecks=RECHECKS,
        )
        self._poll = self._runner.run(self._stack.enter_async_context(polling))

    def poll(self) -> None:
        self._runner.run(self._poll())

    def stop(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()


class Conservation(RuleBasedStateMachine):
    """A table, its follower, and what of the table was read and must be in the store.

    Attributes
    ----------
    stored : list of (str, Vector)
        Keys and vectors in the store.
    newest : dict of str to Vector
        Newest stored vector of each key.
    visible : dict of Place to float
        Since when the table has a visible row at each place.
    looks : list of Look
        What the follower may know of the table: what it saw at its last poll that succeeded, or at
        one since that failed.
    first : Place
        Following began after this row.
    polls : list of (float, Place)
        Time and newest row of each poll since then.
    read : set of Place
        Places of the rows that they sent. A poll that failed may have sent some before.
    """

    def __init__(self, bench: Bench, connection: psycopg.Connection, kind: Kind) -> None:
        super().__init__()
        self.bench, self.connection, self.kind = bench, connection, kind
        self.reader = str(conninfo_to_dict(bench.application.reader)["user"])
        connection.execute("truncate watch, model, embedding, embedding_id, fault")
        bench.forget()
        self.table = Table(bench.application, kind)
        self.process = Process(bench, self.table.name, kind.time)
        self.stored: list[tuple[str, Vector]] = []
        self.newest: dict[str, Vector] = {}
        self.visible: dict[Place, float] = {}
        self.looks: list[Look] = []
        self.begin([])

    def teardown(self) -> None:
        self.table.end()
        self.process.stop()

    @initialize(count=st.integers(1, 20), value=RIGHT_VALUES)
    def start(self, count: int, value: int) -> None:
        self.table.insert(count, value)
        self.begin(self.rows())
        self.poll()

    def changed(self, then: Then) -> None:
        """Poll, or let more happen before the next poll."""
        if then == Then.POLL:
            self.poll()
        elif then == Then.FAIL:
            self.connection.execute("alter table watch rename to away")
            self.poll(may_fail=True, may_save=False)
            self.connection.execute("alter table away rename to watch")

    @rule(count=COUNTS, value=VALUES, then=THEN)
    def insert(self, count: int, value: int, then: Then) -> None:
        self.table.insert(count, value)
        self.changed(then)

    @rule(value=VALUES, then=THEN)
    def insert_before(self, value: int, then: Then) -> None:
        self.table.insert_before(value)
        self.changed(then)

    @rule(value=VALUES, then=THEN)
    def insert_in_the_future(self, value: int, then: Then) -> None:
        if self.kind.time is not None:
            self.table.insert_in_the_future(value)
            self.changed(then)

    @rule(value=VALUES, then=THEN)
    def begin_to_insert(self, value: int, then: Then) -> None:
        self.table.begin(value)
        self.changed(then)

    @rule(how=st.sampled_from(End), then=THEN)
    def end(self, how: End, then: Then) -> None:
        self.table.end(how)
        self.changed(then)

    @rule(which=PLACES, count=COUNTS, value=VALUES, moves=st.booleans(), then=THEN)
    def update(self, which: int, count: int, value: int, moves: bool, then: Then) -> None:
        self.table.update(which, count, value, moves)
        self.changed(then)

    @rule(which=PLACES, column=st.sampled_from(["embedding", "updated_at"]), then=THEN)
    def blank(self, which: int, column: str, then: Then) -> None:
        self.table.blank(which, column)
        self.changed(then)

    @rule(which=PLACES, count=COUNTS, then=THEN)
    def delete(self, which: int, count: int, then: Then) -> None:
        self.table.delete(which, count)
        self.changed(then)

    @rule(
        how=REMOVALS,
        restarts=st.booleans(),
        then=THEN,
    )
    def empty(self, how: Removal, restarts: bool, then: Then) -> None:
        self.table.empty(how, restarts)
        self.changed(then)

    @rule(
        how=REMOVALS,
        count=st.integers(1, 20),
        value=VALUES,
        restarts=st.booleans(),
        then=THEN,
    )
    def refill(
        self,
        how: Removal,
        count: int,
        value: int,
        restarts: bool,
        then: Then,
    ) -> None:
        with self.table.replacing():
            self.table.empty(how, restarts)
            self.table.insert(count, value)
        self.changed(then)

    @rule(how=REMOVALS, then=THEN)
    def restore(self, how: Removal, then: Then) -> None:
        """Put the same rows back, as a restore of the table from a backup does."""
        with self.table.replacing(), self.table.restoring():
            self.table.empty(how, restarts=False)
        self.changed(then)

    @rule(then=THEN)
    def swap(self, then: Then) -> None:
        self.table.swap()
        self.changed(then)

    @rule(then=THEN)
    def maintain(self, then: Then) -> None:
        self.table.maintain()
        self.changed(then)

    @rule(seconds=st.sampled_from([1.0, OVERLAP - 1, OVERLAP + 1]), then=THEN)
    def wait(self, seconds: float, then: Then) -> None:
        self.rows()
        self.bench.clock.now += seconds
        self.changed(then)

    @rule(then=THEN)
    def restart(self, then: Then) -> None:
        self.process.stop()
        self.process = Process(self.bench, self.table.name, self.kind.time)
        self.changed(then)

    @rule(
        fault=st.sampled_from(FAULTS),
        count=COUNTS,
        value=RIGHT_VALUES,
        place=PLACES,
        then=THEN,
    )
    def fail(self, fault: str, count: int, value: int, place: int, then: Then) -> None:
        """Poll new rows while something is away, or goes away when one of them is stored."""
        self.table.insert(count, value)
        with self.failing(fault, f"[{value},{min(place, count)},1]"):
            self.poll(may_fail=True)
        self.changed(then)

    @contextmanager
    def failing(self, fault: str, vector: str) -> Iterator[None]:
        execute = self.connection.execute
        match fault:
            case "ids":
                execute("alter table embedding_id rename to away")
                yield
                execute("alter table away rename to embedding_id")
            case "table":
                with self.table.unreadable():
                    yield
            case "connections":
                self.table.cut(self.reader)
                execute(
                    "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid()"
                )
                yield
            case _:
                reader = None if fault == "vector" else self.reader
                execute("insert into fault values (%s, %s)", [vector, reader])
                yield
                execute("truncate fault")

    @rule()
    def settle(self) -> None:
        """Poll until nothing is new. Without a time, wait until all stored rows were rechecked."""
        for _ in range(2):
            self.wait(60.0 if self.kind.time is None else 0.0, then=Then.POLL)
        if self.kind.time is None:
            for row in self.rows():
                if row.key in self.newest and row.vector[0] != WRONG:
                    assert self.newest[row.key] == row.vector, f"{row} was not read again"
        before = len(self.bench.sent)
        self.poll()
        assert len(self.bench.sent) == before, "rows are read again without a reason"

    def rows(self) -> list[Row]:
        """Return the rows, and remember since when each is visible."""
        rows, now = self.table.rows(), self.bench.clock.now
        self.visible = {row.place: self.visible.get(row.place, now) for row in rows}
        return rows

    def begin(self, rows: list[Row]) -> None:
        """Begin anew with the newest rows."""
        past = [row.place for row in rows if row.is_past]
        self.first = past[-BASELINE - 1] if len(past) > BASELINE else ()
        self.polls: list[tuple[float, Place]] = []
        self.read: set[Place] = set()

    def poll(self, may_fail: bool = False, may_save: bool = True) -> None:
        rows = self.rows()
        look = self.look(rows)
        resets, sent = self.bench.resets(), len(self.bench.sent)
        succeeded = True
        try:
            self.process.poll()
        except (SourceUnavailable, StoreUnavailable):
            assert may_fail
            succeeded = False
        was_reset = self.bench.resets() > resets
        self.check_reset(was_reset, look, rows, succeeded)
        if was_reset:
            self.begin(rows)
        self.check_stored(rows)
        self.polls.append((self.bench.clock.now, look.place))
        if succeeded:
            self.check_read(rows)
        keys = {id_ for id_, _ in self.bench.sent[sent:]}
        self.read |= {row.place for row in rows if row.key in keys}
        if succeeded or was_reset:
            self.looks = [look]
        elif may_save:
            self.looks.append(look)

    def look(self, rows: list[Row]) -> Look:
        newest = max((row for row in rows if row.is_past), default=None)
        place, vector = ((), ()) if newest is None else (newest.place, newest.vector)
        return Look(place, vector, *self.table.history())

    def check_reset(self, was_reset: bool, now: Look, rows: list[Row], succeeded: bool) -> None:
        """A table that was set back is noticed by the next poll that succeeds, others are not."""
        is_known = any(
            row.place == now.place and self.newest.get(row.key) == row.vector for row in rows
        )
        expected = {reset for before in self.looks for reset in resets(before, now, rows, is_known)}
        if not self.looks or not succeeded:
            expected.add(False)
        assert was_reset in expected, f"{self.looks}, then {now}: reset is {was_reset}"

    def check_stored(self, rows: list[Row]) -> None:
        """Only what the table has now was stored, and nothing twice."""
        found = self.connection.execute(
            "select id, embedding::real[] from embedding order by seq offset %s",
            [len(self.stored)],
        ).fetchall()
        by_key = {row.key: row for row in rows}
        for key, vector in found:
            vector = tuple(vector)
            assert key in by_key, f"{key} is not in the table"
            assert vector == by_key[key].vector, f"{key} has another vector in the table"
            assert vector != self.newest.get(key), f"{key} was stored twice"
            is_rechecked = self.kind.time is None and key in self.newest
            is_recent = by_key[key].place > self.first
            assert is_rechecked or is_recent, f"{key} is old, and counts as recent"
            self.stored.append((key, vector))
            self.newest[key] = vector
        self.check_sums()

    def check_sums(self) -> None:
        right = [sent for sent in self.bench.sent if sent.vector[0] != WRONG]
        assert self.bench.total(VECTORS) == len(self.stored)
        assert self.bench.total(REVISIONS) == len(self.stored) - len(self.newest)
        assert self.bench.total(DUPLICATES) == len(right) - len(self.stored)

    def check_read(self, rows: list[Row]) -> None:
        """Every row that following owes us was stored."""
        for row in rows:
            is_new = row.place not in self.read and row.place > self.first and not self.is_late(row)
            if is_new and row.vector[0] != WRONG:
                assert self.newest.get(row.key) == row.vector, f"{row} was not read"

    def is_late(self, row: Row) -> bool:
        """Whether the row became visible when newer rows had been visible for too long."""
        since = self.visible[row.place]
        return any(newest >= row.place and since - at >= OVERLAP for at, newest in self.polls)


def resets(before: Look, now: Look, rows: list[Row], is_known: bool) -> set[bool]:
    """Return whether a table counts as set back since a look at it, or both if it may.

    If its newest row is known, the rows after it were deleted.
    """
    if not before.place:
        return {False}
    if now.table != before.table or (now.place < before.place and not is_known):
        return {True}
    is_same = any((row.place, row.vector) == (before.place, before.vector) for row in rows)
    if is_same or now[2:] == before[2:]:
        return {False}
    # Maintenance keeps the rows. If the newest one changed meanwhile, it looks like a refill.
    return {True} if now.emptied != before.emptied else {True, False}
