"""A state machine of what happens to a store and to the exporters that follow it."""

from __future__ import annotations

import asyncio
from typing import Protocol

import numpy as np
import psycopg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from exporter.monitor.following import Reason
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
from ingest.store.changes import is_sampled
from ingest.store.connection import AsyncConnection
from ingest.store.models import remove
from ingest.store.pool import Pool
from ingest.store.shard import Shard
from ingest.store.vectors import Stored, insert

CAPACITY = 60
SETTINGS = MonitoringSettings(
    baseline=BaselineSettings(vectors=50_000),
    windows=WindowsSettings(
        fast=WindowSettings(seconds=900, max_vectors=50),
        slow=WindowSettings(seconds=21_600, max_vectors=CAPACITY),
    ),
)
NAMES = st.sampled_from(["a", "b"])
TABLES = "model, embedding, embedding_id, idempotency_key, baseline, baseline_embedding"


class Replica(Protocol):
    """A replica of the store, to be held back and let go."""

    def hold(self) -> None: ...

    def let_go(self) -> None: ...

    def catch_up(self) -> None: ...


def run(
    store: str,
    pool: Pool,
    connection: psycopg.Connection,
    examples: int,
    replica: tuple[Replica, Pool] | None = None,
) -> None:
    """Check random sequences against what each model was promised.

    Parameters
    ----------
    store : str
        Connection string of the primary.
    pool : Pool
    connection : psycopg.Connection
        Both to the primary.
    examples : int
        Number of sequences.
    replica : (Replica, Pool), optional
        Where the exporters read from instead.
    """
    run_state_machine_as_test(
        _machine(store, pool, connection, replica),
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
        ),
    )


def _machine(
    store: str,
    pool: Pool,
    connection: psycopg.Connection,
    replica: tuple[Replica, Pool] | None,
) -> type[RuleBasedStateMachine]:
    class Conservation(RuleBasedStateMachine):
        """A store, its exporters, and a list of what each model was promised."""

        def __init__(self) -> None:
            super().__init__()
            connection.execute(f"truncate {TABLES}".encode())
            self.acknowledged: dict[str, list[int]] = {}
            self.broken: dict[str, int] = {}
            self.last: Batch | None = None
            self.number = 0
            self.is_held = False
            self.restart(1, polls=False)

        def teardown(self) -> None:
            self.let_go()

        @rule(total=st.integers(1, 3), polls=st.booleans())
        def restart(self, total: int, polls: bool) -> None:
            """Start exporters anew, that share the models among them."""
            reads = pool if replica is None else replica[1]
            self.shards = [Models() for _ in range(total)]
            self.tails = [
                Tail(reads, models, SETTINGS, Shard(ordinal, total), primary=pool)
                for ordinal, models in enumerate(self.shards)
            ]
            self.changed(polls)

        @rule()
        def hold(self) -> None:
            """Let the replica lag from now on."""
            if replica is not None and not self.is_held:
                # Held in the middle of a removal, the replica would keep its locks from readers.
                replica[0].catch_up()
                replica[0].hold()
                self.is_held = True

        @rule()
        def let_go(self) -> None:
            if replica is not None and self.is_held:
                replica[0].let_go()
                self.is_held = False
                self.polled = False

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
            """A retry is a duplicate, unless the store has lost the vector meanwhile."""
            if self.last is None or self.last.model_name not in self.acknowledged:
                return
            if self.last.model_name in self.broken:
                return  # a vector that cannot be read cannot be compared with its retry
            known = self.acknowledged[self.last.model_name]
            again = self.store(self.last)
            numbers = self.last.vectors[:, 0].astype(int).tolist()
            new = [n for n in numbers if n not in known]
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
            if name in self.broken or name not in self.acknowledged:
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
            if replica is not None and not self.is_held:
                replica[0].catch_up()
            for tail in self.tails * 3:
                try:
                    tail.poll()
                except ExceptionGroup:
                    assert self.broken or self.is_held
            self.polled = True

        @invariant()
        def followed_is_what_was_acknowledged(self) -> None:
            if not self.polled or self.is_held:
                return
            followed = [name for models in self.shards for name in models.by_name]
            assert sorted(followed) == sorted(self.acknowledged)
            for models in self.shards:
                for name, model in models.by_name.items():
                    following = model.snapshot(models.now()).not_followed
                    self.check(model, following, self.acknowledged[name], self.broken.get(name))

        def check(
            self, model: Model, following: Reason | None, known: list[int], broken: int | None
        ) -> None:
            if broken is not None and following == "vectors_unreadable":
                return
            assert following is None
            with model.windows.lock:
                held = model.windows.arrivals("slow")
                level = model.windows.views["slow"].stream.level
            every = np.arange(1, len(known) + 1)
            sampled = every[is_sampled(every, level)]
            assert held.seqs.tolist() == sampled.tolist()
            assert held.vectors[:, 0].astype(int).tolist() == [known[at - 1] for at in sampled]
            assert broken is None or broken not in held.vectors[:, 0]
            assert len(held) <= CAPACITY

        def store(self, batch: Batch) -> Stored:
            async def run() -> Stored | MonitorError:
                async with await AsyncConnection.connect(store, autocommit=True) as own:
                    return (await insert(own, [batch], 10))[0]

            outcome = asyncio.run(run())
            assert isinstance(outcome, Stored)
            return outcome

    return Conservation
