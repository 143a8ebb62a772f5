"""Conservation: a model is ok only while its windows have every vector that was acknowledged.

Random sequences of what happens to a store and to an exporter are checked against the sum, on a
real PostgreSQL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import psycopg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from exporter.monitor.model import Model, Models
from exporter.monitor.tail import Tail
from ingest.runtime.errors import MonitorError
from ingest.runtime.settings.settings import (
    BaselineSettings,
    MonitoringSettings,
    WindowSettings,
    WindowsSettings,
)
from ingest.store.batch import Batch
from ingest.store.models import remove
from ingest.store.pool import Pool
from ingest.store.vectors import Stored, insert

CAPACITY = 60
SETTINGS = MonitoringSettings(
    baseline=BaselineSettings(vectors=1_000_000),
    windows=WindowsSettings(
        fast=WindowSettings(seconds=900, max_vectors=50),
        slow=WindowSettings(seconds=21_600, max_vectors=CAPACITY),
    ),
)
NAMES = st.sampled_from(["a", "b"])
TABLES = "model, embedding, embedding_id, idempotency_key, baseline, baseline_embedding"


def machine(
    store: str, pool: Pool, connection: psycopg.Connection
) -> Callable[[], RuleBasedStateMachine]:
    class Conservation(RuleBasedStateMachine):
        """A store, its exporter, and a list of what each model was promised."""

        def __init__(self) -> None:
            super().__init__()
            connection.execute(f"truncate {TABLES}".encode())
            self.acknowledged: dict[str, list[int]] = {}
            self.broken: dict[str, int] = {}
            self.last: Batch | None = None
            self.number = 0
            self.restart(polls=False)

        @rule(polls=st.booleans())
        def restart(self, polls: bool) -> None:
            self.models = Models()
            self.tail = Tail(pool, self.models, SETTINGS)
            self.changed(polls)

        def changed(self, polls: bool) -> None:
            """Poll, or let more happen before the next poll."""
            self.polled = False
            if polls:
                self.poll()

        @rule(name=NAMES, count=st.integers(1, 40), polls=st.booleans())
        def send(self, name: str, count: int, polls: bool) -> None:
            numbers = list(range(self.number, self.number + count))
            self.number += count
            vectors = np.repeat(np.array(numbers, np.float32)[:, None], 3, axis=1)
            self.last = Batch(name, vectors, ids=[str(number) for number in numbers])
            assert self.store(self.last).stored == count
            self.acknowledged.setdefault(name, []).extend(numbers)
            self.changed(polls)

        @rule(polls=st.booleans())
        def send_again(self, polls: bool) -> None:
            """A retry is a duplicate, unless the store has lost or damaged the vector meanwhile."""
            if self.last is None or self.last.model_name not in self.acknowledged:
                return
            if self.last.model_name in self.broken:
                return  # a vector that cannot be read cannot be compared with its retry
            known = self.acknowledged[self.last.model_name]
            again = self.store(self.last)
            numbers = self.last.vectors[:, 0].astype(int).tolist()
            broken = self.broken.get(self.last.model_name)
            # A vector that was damaged and revised is known twice.
            new = [
                n for n in numbers if known.count(n) == 0 or (n == broken and known.count(n) < 2)
            ]
            assert (again.stored, again.duplicates) == (len(new), len(numbers) - len(new))
            known.extend(new)
            self.changed(polls)

        @rule(polls=st.booleans())
        def revise(self, polls: bool) -> None:
            """Other vectors under the same ids are acknowledged as new ones."""
            if self.last is None or self.last.model_name not in self.acknowledged:
                return
            name, count = self.last.model_name, len(self.last)
            if name in self.broken:
                return
            numbers = list(range(self.number, self.number + count))
            self.number += count
            vectors = np.repeat(np.array(numbers, np.float32)[:, None], 3, axis=1)
            self.last = Batch(name, vectors, ids=self.last.ids)
            assert self.store(self.last).stored == count
            self.acknowledged[name].extend(numbers)
            self.changed(polls)

        @rule(name=NAMES, polls=st.booleans())
        def remove(self, name: str, polls: bool) -> None:
            if self.acknowledged.pop(name, None) is not None:
                remove(connection, name)
                self.broken.pop(name, None)
                self.changed(polls)

        @rule(name=NAMES, share=st.floats(0.5, 0.9), new=st.integers(0, 40), polls=st.booleans())
        def restore(self, name: str, share: float, new: int, polls: bool) -> None:
            """Set one model back, as a restore of the store to a point in time does to all."""
            known = self.acknowledged.get(name, [])
            kept = int(share * len(known))
            if not kept or name in self.broken:
                return
            del known[kept:]
            for table in ("embedding", "embedding_id"):
                connection.execute(
                    f"delete from {table} where model_name = %s and seq > %s".encode(),
                    [name, kept],
                )
            connection.execute(
                "insert into embedding_id"
                " select distinct on (id) model_name, id, seq, received_at from embedding"
                " where model_name = %s order by id, seq desc on conflict do nothing",
                [name],
            )
            connection.execute("update model set last_seq = %s where model_name = %s", [kept, name])
            if new:
                self.send(name, new, polls)
            else:
                self.changed(polls)

        @rule(name=NAMES, count=st.integers(1, 10), polls=st.booleans())
        def send_a_broken_one(self, name: str, count: int, polls: bool) -> None:
            """Write a vector of another dimension past ingest."""
            if name in self.broken or name not in self.models.by_name:
                return
            self.poll()
            self.send(name, count, polls=False)
            known = self.acknowledged[name]
            connection.execute(
                "update embedding set embedding = '[1]' where model_name = %s and seq = %s",
                [name, len(known)],
            )
            self.broken[name] = known[-1]
            self.changed(polls)

        @rule(name=NAMES, polls=st.booleans())
        def repair(self, name: str, polls: bool) -> None:
            if (number := self.broken.pop(name, None)) is not None:
                seq = self.acknowledged[name].index(number) + 1
                connection.execute(
                    "update embedding set embedding = %s::vector where model_name = %s"
                    " and seq = %s",
                    [f"[{number},{number},{number}]", name, seq],
                )
                self.changed(polls)

        @rule()
        def poll(self) -> None:
            for _ in range(3):
                try:
                    self.tail.poll()
                except ExceptionGroup:
                    assert self.broken
            self.polled = True

        @invariant()
        def followed_is_what_was_acknowledged(self) -> None:
            if not self.polled:
                return
            assert self.models.by_name.keys() == self.acknowledged.keys()
            for name, model in self.models.by_name.items():
                self.check(model, self.acknowledged[name], self.broken.get(name))

        def check(self, model: Model, known: list[int], broken: int | None) -> None:
            following = model.snapshot(self.models.now()).not_followed
            if broken is not None and broken in known[-CAPACITY:]:
                assert following == "vectors_unreadable"
                return
            assert following is None
            with model.windows.lock:
                held = model.windows.vectors("slow")[:, 0].astype(int).tolist()
            assert held == known[-CAPACITY:]

        def store(self, batch: Batch) -> Stored:
            async def run() -> Stored | MonitorError:
                async with await psycopg.AsyncConnection.connect(store, autocommit=True) as own:
                    return (await insert(own, [batch], 10))[0]

            outcome = asyncio.run(run())
            assert isinstance(outcome, Stored)
            return outcome

    return Conservation


def test_ok_means_that_the_windows_have_what_was_acknowledged(
    store: str, pool: Pool, connection: psycopg.Connection, long: bool
) -> None:
    run_state_machine_as_test(
        machine(store, pool, connection),
        settings=settings(
            max_examples=1_000 if long else 100,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
