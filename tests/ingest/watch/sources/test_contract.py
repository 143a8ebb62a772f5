"""What every source must do. A new kind adds a case to ``KINDS``; the tests stay as they are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Protocol

import numpy as np
import pytest

from ingest.runtime.errors import SourceUnavailable
from ingest.store.connection import connect
from ingest.store.positions import Position
from ingest.watch.sources.postgres import PostgresSource
from ingest.watch.sources.postgres_catalogue import describe
from ingest.watch.sources.registry import SOURCES
from ingest.watch.sources.source import Location, Row, Source
from tests.postgresql import Application


class Table(Protocol):
    """A table of some kind, filled by a test. Its vectors are [n, 2] for n = 0, 1, 2, ..."""

    def source(self) -> Source:
        """Open the table as a new process would."""

    def add(self, numbers: Sequence[int]) -> None:
        """Add rows with these vectors, in this order."""

    def add_without_vector(self) -> None:
        """Add a row whose vector is null."""

    def late(self, number: int) -> AbstractContextManager[None]:
        """Begin to add a row on entry; it becomes visible on exit."""

    def unavailable(self) -> AbstractContextManager[None]:
        """Make the table impossible to read while entered."""


class PostgresTable:
    def __init__(self, application: Application, time: str | None) -> None:
        self._application = application
        self._location = Location("docs", time=time)

    def source(self) -> Source:
        with connect(self._application.reader) as connection:
            return PostgresSource(
                self._application.reader, describe(connection, self._location), ["no advice"]
            )

    def add(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._application.connection.execute(
                "insert into docs (embedding) values (array[%s, 2]::vector)", [number]
            )

    def add_without_vector(self) -> None:
        self._application.connection.execute("insert into docs (embedding) values (null)")

    @contextmanager
    def late(self, number: int) -> Iterator[None]:
        with connect(self._application.string) as connection, connection.transaction():
            connection.execute(
                "insert into docs (embedding) values (array[%s, 2]::vector)", [number]
            )
            yield

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        self._application.connection.execute("alter table docs rename to gone")
        yield
        self._application.connection.execute("alter table gone rename to docs")


KINDS: dict[str, tuple[str, Callable[[Application], Table]]] = {
    "a table ordered by time": ("postgres", lambda given: PostgresTable(given, "updated_at")),
    "a table ordered by id": ("postgres", lambda given: PostgresTable(given, None)),
}
"""By test case: the kind in the registry, and what makes an empty table of it."""


@pytest.fixture(params=list(KINDS))
def table(request: pytest.FixtureRequest, application: Application) -> Table:
    _, make = KINDS[request.param]
    return make(application)


@asynccontextmanager
async def opened(table: Table) -> AsyncIterator[Source]:
    source = table.source()
    async with source.connected():
        yield source


async def newest(source: Source, skip: int = 0) -> Position:
    async with source.snapshot() as snapshot:
        return await snapshot.newest(skip)


async def rows(source: Source, after: Position = (), known: Sequence[str] = ()) -> list[Row]:
    async with source.snapshot() as snapshot:
        return [row async for block in snapshot.rows(after, known) for row in block]


def numbers(rows: Sequence[Row]) -> list[int]:
    return [int(row.vector[0]) for row in rows]


def test_every_registered_kind_has_a_case() -> None:
    assert {kind for kind, _ in KINDS.values()} == set(SOURCES)


def test_rows_after_a_position_are_read_once_and_in_order(table: Table) -> None:
    async def main() -> None:
        async with opened(table) as source:
            assert await newest(source) == ()
            assert await rows(source) == []
            table.add([3, 1, 2])
            assert numbers(await rows(source)) == [3, 1, 2]
            position = await newest(source)
            assert await rows(source, position) == []
            table.add([5, 4])
            assert numbers(await rows(source, position)) == [5, 4]

    asyncio.run(main())


def test_more_rows_than_one_block_are_read_in_order(table: Table) -> None:
    count = 1_200
    table.add(range(count))

    async def main() -> None:
        async with opened(table) as source:
            assert numbers(await rows(source)) == list(range(count))

    asyncio.run(main())


def test_a_row_is_what_was_added(table: Table) -> None:
    table.add([7])

    async def main() -> Row:
        async with opened(table) as source:
            [row] = await rows(source)
            assert await rows(source, known=[row.key]) == []
            return row

    row = asyncio.run(main())
    assert row.vector.dtype == np.float32
    assert row.vector.tolist() == [7, 2]
    assert row.seconds is None or row.seconds > 1.7e9
    assert len(row.key) > 0


def test_the_newest_position_can_skip_rows(table: Table) -> None:
    table.add(range(5))

    async def main() -> None:
        async with opened(table) as source:
            assert numbers(await rows(source, await newest(source, skip=2))) == [3, 4]
            assert await newest(source, skip=5) == ()

    asyncio.run(main())


def test_a_position_and_the_identity_survive_a_restart_as_text(table: Table) -> None:
    table.add(range(3))

    async def stop() -> tuple[str, str]:
        async with opened(table) as source:
            return str(source), json.dumps(await newest(source))

    async def start(kept: str) -> tuple[str, list[Row]]:
        async with opened(table) as source:
            return str(source), await rows(source, tuple(json.loads(kept)))

    identity, kept = asyncio.run(stop())
    table.add([3, 4])
    found, read = asyncio.run(start(kept))
    assert found == identity
    assert numbers(read) == [3, 4]


def test_a_row_that_becomes_visible_late_is_read_after_an_earlier_position(table: Table) -> None:
    table.add([0])

    async def main() -> None:
        async with opened(table) as source:
            earlier = await newest(source)
            with table.late(1):
                table.add([2])
                read = await rows(source, earlier)
                assert numbers(read) == [2]
            known = [row.key for row in read]
            assert numbers(await rows(source, earlier, known)) == [1]

    asyncio.run(main())


def test_a_row_without_a_vector_is_left_out(table: Table) -> None:
    table.add([0])
    table.add_without_vector()

    async def main() -> None:
        async with opened(table) as source:
            assert numbers(await rows(source)) == [0]
            assert await rows(source, await newest(source)) == []

    asyncio.run(main())


def test_an_unavailable_source_is_reported_and_works_again_later(table: Table) -> None:
    table.add([0])

    async def main() -> None:
        async with opened(table) as source:
            with table.unavailable():
                with pytest.raises(SourceUnavailable):
                    await newest(source)
                with pytest.raises(SourceUnavailable):
                    await rows(source)
            assert numbers(await rows(source)) == [0]

    asyncio.run(main())


def test_a_source_has_a_name_and_advice(table: Table) -> None:
    source = table.source()
    assert source.name == "docs"
    assert list(source.advice) == ["no advice"]
