"""Follow a table in a test: what reaches the store, and how often the table was set back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry

from ingest.pipeline.metrics import WATCH_RESETS, WatchMetrics
from ingest.pipeline.pipeline import Pipeline
from ingest.runtime.errors import StoreUnavailable
from ingest.runtime.family import Family
from ingest.runtime.settings.settings import IngestSettings, Settings
from ingest.store.batch import Batch
from ingest.store.vectors import Stored
from ingest.watch.sources.source import Follower, Source, Terms
from ingest.watch.target import Target


class Sent(NamedTuple):
    """A vector that a follower sent, whether or not the store had its id."""

    id: str | None
    vector: tuple[float, ...]


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class _Recording(Pipeline):
    """A pipeline that also notes what it is given, if the store answers."""

    sent: list[Sent]

    async def store(self, batch: Batch) -> Stored:
        ids = batch.ids or [None] * len(batch)
        vectors = [tuple(vector) for vector in batch.vectors.tolist()]
        sent = [Sent(*row) for row in zip(ids, vectors, strict=True)]
        try:
            return await super().store(batch)
        except StoreUnavailable:
            sent = []
            raise
        finally:
            self.sent += sent


@dataclass
class Watching:
    """A store that followers fill. Each follower is like a process of its own.

    Attributes
    ----------
    store : str
        Connection string.
    clock : Clock
    sent : list of Sent
        What the followers sent, in order, whether it was stored, a duplicate or refused.
    """

    store: str
    clock: Clock = field(default_factory=Clock)
    sent: list[Sent] = field(default_factory=list)
    _registries: list[CollectorRegistry] = field(default_factory=list)

    @asynccontextmanager
    async def following(
        self,
        source: Source,
        *,
        baseline_vectors: int = 1_000,
        overlap: float = 300.0,
        rechecks: float = 0.0,
        skips: bool = False,
        ids: Literal["revise", "once"] = "revise",
        limits: IngestSettings | None = None,
    ) -> AsyncIterator[Follower]:
        registry = CollectorRegistry()
        self._registries.append(registry)
        settings = Settings(ingest=limits or IngestSettings(ids=ids))
        pipeline = _Recording(self.store, settings, registry)
        pipeline.sent = self.sent
        metrics = WatchMetrics(registry, "m")
        async with pipeline.running(), source.connected():
            target = Target(pipeline, "m", metrics, settings.ingest, skips)
            yield source.follower(target, Terms(baseline_vectors, overlap, rechecks, self.clock))

    def resets(self) -> int:
        """How often the followers found their table set back."""
        return self.total(WATCH_RESETS)

    def total(self, family: Family) -> int:
        """Sum of a counter of the model over all followers."""
        return self.sample(family, {"model_name": "m"})

    def sample(self, family: Family, labels: dict[str, str]) -> int:
        """Sum of a counter with these labels over all followers."""
        counts = [r.get_sample_value(family.name, labels) for r in self._registries]
        return int(sum(count or 0 for count in counts))

    def forget(self) -> None:
        """Begin to count from nothing."""
        self.sent.clear()
        self._registries.clear()
