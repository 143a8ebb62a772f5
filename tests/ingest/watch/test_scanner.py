"""A scanner stores what is new or changed in a fixed part of the rows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import psycopg
import pytest

from ingest.pipeline.metrics import DUPLICATES, REVISIONS, VECTORS
from ingest.watch.scanner import Scanner
from ingest.watch.sources.source import Row, Terms
from ingest.watch.target import Target
from tests.watching import Watching


class Table:
    """Rows in memory, each of which is in the part with the probability ``2**-level``."""

    advice = ()

    def __init__(self, sample: int) -> None:
        self.name = "docs in samples"
        self.sample = sample
        # Several rows have one key where these numbers differ only behind the point.
        self.held: dict[float, float] = {}

    def __str__(self) -> str:
        return self.name

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        yield

    def follower(self, target: Target, terms: Terms) -> Scanner:
        return Scanner(self, target)

    async def count(self) -> int:
        return len(self.held)

    async def rows(self, level: int) -> AsyncGenerator[list[Row]]:
        for key, value in self.held.items():
            if int(key) % 2**level == 0:
                yield [Row(str(int(key)), None, np.array([value, 1], np.float32))]


def test_a_second_source_of_a_model_is_told_when_it_is_first_read(
    store: str, caplog: pytest.LogCaptureFixture
) -> None:
    watching = Watching(store)

    async def told(name: str) -> list[str]:
        caplog.clear()
        table = Table(1_000)
        table.name = name
        async with watching.following(table) as follower:
            await follower.poll()
            await follower.poll()
        records = [each for each in caplog.records if each.name == "ingest.watch.target"]
        return [vars(each)["error"] for each in records]

    async def main() -> list[list[str]]:
        v, w = "app.docs.v", "app.docs.w"
        names = (f"{v} in samples", f"{v} by id", f"{w} by id", f"{w} by id", f"{v} by id")
        return [await told(name) for name in names]

    with caplog.at_level(logging.WARNING):
        [*without, [warning], again, former] = asyncio.run(main())
    assert [*without, again, former] == [[], [], [], []]
    assert warning == (
        "app.docs.w by id: model m was watched from app.docs.v by id, app.docs.v in samples, too,"
        " and rows with one id count as one row. Give each table or column its own --model. If only"
        " the name or the server changed, nothing is wrong"
    )


def test_new_and_changed_rows_are_stored_and_others_are_not_sent(store: str) -> None:
    watching = Watching(store)
    table = Table(1_000)

    async def main() -> None:
        table.held = dict.fromkeys(range(10), 1.0)
        async with watching.following(table) as follower:
            await follower.poll()
            assert len(watching.sent) == 10
            await follower.poll()
            assert len(watching.sent) == 10
            table.held |= {3: 2.0, 11: 1.0}
            del table.held[5]
            await follower.poll()
            assert [id_ for id_, _ in watching.sent[10:]] == ["3", "11"]

    asyncio.run(main())
    assert (watching.total(VECTORS), watching.total(REVISIONS)) == (12, 1)


@pytest.mark.parametrize("sample", [1_000, 5])
def test_of_rows_with_one_key_the_first_is_stored_once_and_a_warning_tells(
    store: str, caplog: pytest.LogCaptureFixture, sample: int
) -> None:
    watching = Watching(store)
    table = Table(sample)
    table.held = {n / 4: float(n) for n in range(40)}

    async def main() -> None:
        async with watching.following(table) as follower:
            for _ in range(3):
                await follower.poll()

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    stored = [(id_, vector[0]) for id_, vector in watching.sent]
    assert stored == [(str(n), 4.0 * n) for n in range(10) if sample > 5 or n % 8 == 0]
    [warning] = [each for each in caplog.records if each.name == "ingest.watch.scanner"]
    assert warning.message == "several rows have one id; only the first of them is read"
    assert (vars(warning)["table"], vars(warning)["id"]) == ("docs in samples", "0")


def test_an_old_row_is_not_new_after_a_restart_even_if_the_store_has_dropped_it(
    store: str, connection: psycopg.Connection
) -> None:
    watching = Watching(store)
    table = Table(1_000)
    table.held = dict.fromkeys(range(10), 1.0)

    async def main() -> None:
        async with watching.following(table) as follower:
            await follower.poll()
        connection.execute("delete from embedding; delete from embedding_id")
        async with watching.following(table) as follower:
            table.held[10] = 1.0
            await follower.poll()

    asyncio.run(main())
    assert [id_ for id_, _ in watching.sent[10:]] == ["10"]


@pytest.mark.parametrize(("rows", "sample", "level"), [(100, 100, 0), (101, 100, 1), (400, 50, 3)])
def test_the_part_has_about_the_wanted_size(store: str, rows: int, sample: int, level: int) -> None:
    watching = Watching(store)
    table = Table(sample)
    table.held = dict.fromkeys(range(rows), 1.0)

    async def main() -> None:
        async with watching.following(table) as follower:
            await follower.poll()

    asyncio.run(main())
    assert len(watching.sent) == len(range(0, rows, 2**level))


def test_a_part_that_has_grown_is_halved_and_stays_so(store: str) -> None:
    watching = Watching(store)
    table = Table(10)
    table.held = dict.fromkeys(range(10), 1.0)

    async def main() -> None:
        async with watching.following(table) as follower:
            await follower.poll()
            table.held = dict.fromkeys(range(30), 1.0)
            await follower.poll()  # more than twice the size
            table.held |= dict.fromkeys(range(30, 34), 1.0)
            await follower.poll()
        table.held = dict.fromkeys(range(40), 1.0)
        async with watching.following(table) as follower:
            await follower.poll()

    asyncio.run(main())
    assert [id_ for id_, _ in watching.sent[30:]] == ["30", "32", "34", "36", "38"]
    assert watching.total(DUPLICATES) == 0


def test_all_rows_of_a_table_are_watched_that_was_empty_at_first(store: str) -> None:
    watching = Watching(store)
    table = Table(10)

    async def main() -> None:
        async with watching.following(table) as follower:
            await follower.poll()
            table.held = dict.fromkeys(range(9), 1.0)
            await follower.poll()

    asyncio.run(main())
    assert len(watching.sent) == 9


def test_a_raised_sample_takes_more_rows_and_no_old_row_for_a_new_one(store: str) -> None:
    watching = Watching(store)
    small, large = Table(10), Table(30)
    small.held = dict.fromkeys(range(40), 1.0)
    large.held = small.held.copy()

    async def main() -> None:
        async with watching.following(small) as follower:
            await follower.poll()
        assert len(watching.sent) == 10
        async with watching.following(large) as follower:
            await follower.poll()
            assert len(watching.sent) == 10
            large.held |= {2: 2.0, 4: 2.0, 41: 1.0, 42: 1.0}
            await follower.poll()

    asyncio.run(main())
    assert [id_ for id_, _ in watching.sent[10:]] == ["2", "4", "42"]


@pytest.mark.parametrize("left", [0, 1, 5])
def test_a_table_that_has_shrunk_is_watched_whole_again(store: str, left: int) -> None:
    watching = Watching(store)
    table = Table(10)
    table.held = dict.fromkeys(range(80), 1.0)

    async def main() -> None:
        async with watching.following(table) as follower:
            await follower.poll()
            assert len(watching.sent) == 10
            table.held = dict.fromkeys(range(1, left + 1), 1.0)
            await follower.poll()
            assert len(watching.sent) == 10
            table.held |= {7: 1.0, 9: 1.0}
            await follower.poll()

    asyncio.run(main())
    assert [id_ for id_, _ in watching.sent[10:]] == ["7", "9"]


def test_a_table_that_grows_at_once_is_not_read_whole(store: str) -> None:
    watching = Watching(store)
    table = Table(10)

    async def main() -> None:
        async with watching.following(table) as follower:
            await follower.poll()
            table.held = dict.fromkeys(range(1_000), 1.0)
            await follower.poll()
            await follower.poll()

    asyncio.run(main())
    ids = [id_ for id_, _ in watching.sent]
    assert ids == [str(n) for n in (*range(41), *range(128, 1_000, 128))]


def test_where_an_id_counts_once_a_changed_row_is_a_duplicate(store: str) -> None:
    watching = Watching(store)
    table = Table(10)
    table.held = {1: 1.0}

    async def main() -> None:
        async with watching.following(table, ids="once") as follower:
            assert follower.noticed["changed_rows"] == "never"
            await follower.poll()
            table.held[1] = 2.0
            await follower.poll()

    asyncio.run(main())
    assert (watching.total(VECTORS), watching.total(DUPLICATES)) == (1, 1)


def test_a_long_scan_is_followed_by_a_long_pause(store: str) -> None:
    watching = Watching(store)

    async def main() -> list[float]:
        async with watching.following(Table(10)) as follower:
            return [follower.pause(1.0, took) for took in (0.01, 60, 10_000)]

    assert asyncio.run(main()) == [1, 540, 3_600]
