"""What every table in order must do. A new kind adds a case to ``KINDS``."""

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
from ingest.watch.sources.source import Location, OrderedTable, Row
from tests.postgresql import Application
from tests.watching import Watching


class Table(Protocol):
    """A table of some kind, filled by a test. Its vectors are [n, 2] for n = 0, 1, 2, ..."""

    def source(self) -> OrderedTable:
        """Open the table as a new process would."""

    def add(self, numbers: Sequence[int]) -> None:
        """Add rows with these vectors, in this order."""

    def add_without_vector(self) -> None:
        """Add a row whose vector is null."""

    def refill(self, numbers: Sequence[int]) -> None:
        """Replace all rows by these at once. Their positions are smaller than those before."""

    def late(self, number: int) -> AbstractContextManager[None]:
        """Begin to add a row on entry; it becomes visible on exit."""

    def unavailable(self) -> AbstractContextManager[None]:
        """Make the table impossible to read while entered."""


class PostgresTable:
    def __init__(self, application: Application, time: str | None, name: str = "docs") -> None:
        self._application = application
        self._location = Location(name, time=time)
        if name != "docs":
            application.connection.execute(
                f"create view {name} as select * from docs;"
                f"grant select on {name} to public".encode()
            )

    def source(self) -> OrderedTable:
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

    def refill(self, numbers: Sequence[int]) -> None:
        with self._application.connection.transaction():
            self._application.connection.execute("truncate docs restart identity")
            self.add(numbers)
            self._application.connection.execute("update docs set updated_at = '2020-01-01'")

    @contextmanager
    def late(self, number: int) -> Iterator[None]:
        with connect(self._application.string) as connection, connection.transaction():
            connection.execute(
                "insert into docs (embedding) values (array[%s, 2]::vector)", [number]
            )
            yield

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        name = self._location.table
        self._application.connection.execute(f"alter table {name} rename to gone".encode())
        yield
        self._application.connection.execute(f"alter table gone rename to {name}".encode())


KINDS: dict[str, Callable[[Application], Table]] = {
    "a table ordered by time": lambda given: PostgresTable(given, "updated_at"),
    "a table ordered by id": lambda given: PostgresTable(given, None),
    "a view ordered by id": lambda given: PostgresTable(given, None, "seen"),
}
"""By test case: what makes an empty table."""


@pytest.fixture(params=list(KINDS))
def table(request: pytest.FixtureRequest, application: Application) -> Table:
    return KINDS[request.param](application)


@asynccontextmanager
async def opened(table: Table) -> AsyncIterator[OrderedTable]:
    source = table.source()
    async with source.connected():
        yield source


async def newest(source: OrderedTable, skip: int = 0) -> Position:
    async with source.snapshot() as snapshot:
        return await snapshot.newest(skip)


async def rows(source: OrderedTable, after: Position = (), known: Sequence[str] = ()) -> list[Row]:
    async with source.snapshot() as snapshot:
        return [row async for block in snapshot.rows(after, known) for row in block]


def numbers(rows: Sequence[Row]) -> list[int]:
    return [int(row.vector[0]) for row in rows]


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
    assert isinstance(row.vector, np.ndarray)
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


def test_a_position_and_the_text_of_a_source_survive_a_restart(table: Table) -> None:
    table.add(range(3))

    async def stop() -> tuple[str, str]:
        async with opened(table) as source:
            return str(source), json.dumps(await newest(source))

    async def start(kept: str) -> tuple[str, list[Row]]:
        async with opened(table) as source:
            return str(source), await rows(source, tuple(json.loads(kept)))

    text, kept = asyncio.run(stop())
    table.add([3, 4])
    found, read = asyncio.run(start(kept))
    assert found == text
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
    assert source.name in ("docs", "seen")
    assert list(source.advice) == ["no advice"]


def test_rows_are_read_again_by_their_positions(table: Table) -> None:
    """One by one, because a position is only known of the newest row."""

    async def main() -> None:
        async with opened(table) as source:
            positions = []
            for number in range(3):
                table.add([number])
                positions.append(await newest(source))
            table.add_without_vector()
            async with source.snapshot() as snapshot:
                assert await snapshot.at([]) == []
                assert numbers(await snapshot.at([positions[1]])) == [1]
                assert sorted(numbers(await snapshot.at(positions))) == [0, 1, 2]
                read = [row async for block in snapshot.rows((), []) for row in block]
                [again] = await snapshot.at([positions[2]])
                assert again.key == read[2].key
                assert again.seconds == read[2].seconds

    asyncio.run(main())


def test_without_changes_by_time_the_position_is_the_key(table: Table) -> None:
    table.add([5, 6])

    async def main() -> None:
        async with opened(table) as source:
            if source.finds_changes:
                pytest.skip("its positions hold more than the key")
            async with source.snapshot() as snapshot:
                [_, row] = [row async for block in snapshot.rows((), []) for row in block]
                assert (row.key,) == await snapshot.newest()
                strange = [("",), ("x",), (f" {row.key}",), ("9" * 30,)]
                assert await snapshot.at(strange) == []
                assert numbers(await snapshot.at([*strange, (row.key,)])) == [6]

    asyncio.run(main())


def test_a_position_is_reached_until_the_rows_from_it_on_are_gone(table: Table) -> None:
    async def main() -> None:
        async with opened(table) as source:
            async with source.snapshot() as snapshot:
                assert await snapshot.reaches(())
            table.add(range(12))
            early = await newest(source, skip=10)
            last = await newest(source)
            async with source.snapshot() as snapshot:
                assert await snapshot.reaches(())
                assert await snapshot.reaches(early)
                assert await snapshot.reaches(last)
            table.refill(range(9))
            async with source.snapshot() as snapshot:
                assert await snapshot.reaches(())
                assert await snapshot.reaches(await snapshot.newest())
                assert not await snapshot.reaches(last)

    asyncio.run(main())


def test_an_identity_stays_while_rows_are_added_and_changes_when_they_are_replaced(
    table: Table,
) -> None:
    async def main() -> None:
        identities = []
        changes: list[Callable[[], object]] = [
            lambda: table.add([1]),
            lambda: table.add([2]),
            lambda: table.refill([3]),
        ]
        for change in changes:
            change()
            async with opened(table) as source, source.snapshot() as snapshot:
                identities.append(await snapshot.identity())
                assert source.has_identity == (identities[-1] is not None)
        first, second, third = identities
        assert first == second
        assert first is None or first != third

    asyncio.run(main())


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
def test_a_refilled_source_is_noticed_and_its_rows_reach_the_pipeline(
    table: Table, store: str, restarts: bool
) -> None:
    watching = Watching(store)

    async def main() -> None:
        table.add(range(5))
        source = table.source()
        async with watching.following(source) as follower:
            await follower.poll()
            assert watching.resets() == 0
            table.refill([10, 11, 12])
            if not restarts:
                await follower.poll()
                await follower.poll()
        if restarts:
            async with watching.following(table.source()) as follower:
                await follower.poll()
        table_reuses_ids = not source.finds_changes
        before, after = watching.sent[:5], watching.sent[5:]
        assert [vector for _, vector in after] == [(10, 2), (11, 2), (12, 2)]
        if table_reuses_ids:
            assert [id_ for id_, _ in after] == [id_ for id_, _ in before[:3]]

    asyncio.run(main())
    assert watching.resets() == 1
