"""A store, a table, and ways to follow the one into the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import psycopg
import pytest

from ingest.store.connection import connect
from ingest.watch.sources.postgres import PostgresSource
from ingest.watch.sources.postgres_catalogue import describe
from ingest.watch.sources.source import Location
from tests.postgresql import Application
from tests.watching import Watching

Poll = Callable[[], Coroutine[Any, Any, None]]


@dataclass
class Bench(Watching):
    """A store, a table, and ways to follow the one into the other."""

    application: Application = field(kw_only=True)

    @asynccontextmanager
    async def polling(
        self,
        time: str | None = "updated_at",
        *,
        table: str = "docs",
        baseline_vectors: int = 1_000,
        overlap: float = 300.0,
        rechecks: float = 0.0,
        ids: Literal["revise", "once"] = "revise",
    ) -> AsyncIterator[Poll]:
        reader = self.application.reader
        # Not `find`: it refuses a connection string with a password.
        with connect(reader) as connection:
            source = PostgresSource(reader, describe(connection, Location(table, time=time)))
        async with self.following(
            source,
            baseline_vectors=baseline_vectors,
            overlap=overlap,
            rechecks=rechecks,
            ids=ids,
        ) as follower:
            yield follower.poll

    def stored(self) -> list[str]:
        """Ids in the order in which they were stored."""
        with connect(self.store) as connection:
            rows = connection.execute("select id from embedding order by model_name, seq")
            return [id_ for (id_,) in rows]

    def rows(self) -> list[int]:
        """The table's ids of the stored rows, in the same order."""
        return [int(id_.partition("@")[0]) for id_ in self.stored()]


def add(connection: psycopg.Connection, count: int = 1) -> None:
    connection.execute(
        "insert into docs (embedding) select array[n, 2, 3]::vector from generate_series(1, %s) n",
        [count],
    )


BY = pytest.mark.parametrize("time", ["updated_at", None], ids=["by time", "by id"])
