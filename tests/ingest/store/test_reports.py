"""The last report of each model, and its age by the clock of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import psycopg
import pytest

from ingest.runtime.errors import NotFound
from ingest.store import models, reports
from ingest.store.batch import Batch
from ingest.store.connection import AsyncConnection
from ingest.store.reports import Report
from ingest.store.vectors import insert


@pytest.fixture
def add(store: str) -> Callable[[str], None]:
    """Add a model."""

    def add(name: str) -> None:
        async def run() -> None:
            async with await AsyncConnection.connect(store, autocommit=True) as connection:
                await insert(connection, [Batch(name, np.ones((1, 2), np.float32))], 10)

        asyncio.run(run())

    return add


def report(name: str, age: float = 0.0, text: bytes = b"{}") -> Report:
    return Report(name, age, b'{"glance": 1}', text)


def test_the_last_report_of_a_model_replaces_the_one_before(
    add: Callable[[str], None], connection: psycopg.Connection
) -> None:
    add("m")
    for text in (b"[1]", b"[2]"):
        reports.write(connection, [report("m", text=text)], 300)
    assert reports.detail(connection, "m").text == "[2]"
    assert [each.text for each in reports.glances(connection)] == ['{"glance": 1}']
    assert connection.execute("select count(*) from report").fetchone() == (1,)


@pytest.mark.parametrize(("age", "is_overdue"), [(0, False), (8_000, False), (10_000, True)])
def test_a_report_is_overdue_when_three_checks_are_missing(
    age: float, is_overdue: bool, add: Callable[[str], None], connection: psycopg.Connection
) -> None:
    add("m")
    reports.write(connection, [report("m", age)], 3_000)
    stored = reports.detail(connection, "m")
    assert age <= stored.age < age + 900
    assert stored.is_overdue == is_overdue


def test_a_clock_that_was_set_back_makes_no_negative_age(
    add: Callable[[str], None], connection: psycopg.Connection
) -> None:
    add("m")
    reports.write(connection, [report("m", age=-3_600)], 300)
    assert reports.detail(connection, "m").age == 0


def test_models_without_a_report_are_listed_and_other_names_are_not_found(
    add: Callable[[str], None], connection: psycopg.Connection
) -> None:
    for name in ("a", "b", "c"):
        add(name)
    reports.write(connection, [report("b")], 300)
    found = {each.model_name: each.text for each in reports.glances(connection, ["c"])}
    assert found == {"a": None, "b": '{"glance": 1}'}
    assert reports.detail(connection, "a").text is None
    with pytest.raises(NotFound):
        reports.detail(connection, "none")


def test_the_report_of_a_removed_model_is_removed_and_not_written_again(
    add: Callable[[str], None], connection: psycopg.Connection
) -> None:
    add("m")
    reports.write(connection, [report("m")], 300)
    models.remove(connection, "m")
    assert connection.execute("select count(*) from report").fetchone() == (0,)
    reports.write(connection, [report("m")], 300)
    # As if it had been written while the model was removed.
    connection.execute("insert into report values ('m', clock_timestamp(), 300, '{}', '{}')")
    reports.write(connection, [], 300)
    assert connection.execute("select count(*) from report").fetchone() == (0,)


def test_models_and_slices_are_counted_as_their_reports_tell(
    add: Callable[[str], None], connection: psycopg.Connection
) -> None:
    assert reports.watched(connection) == 0
    for name in ("sliced", "plain", "new"):
        add(name)
    told = [Report("sliced", 0.0, b'{"watched": 4}', b"{}"), report("plain")]
    reports.write(connection, told, 300)
    # One that is not reported yet has no score.
    assert reports.watched(connection) == 4 + 1
