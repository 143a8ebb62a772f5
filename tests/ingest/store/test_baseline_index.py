"""The index of a baseline: built in memory, only where a search needs it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import psycopg
import pytest

from ingest.store import baseline_index, baselines, neighbours
from ingest.store.batch import Batch
from ingest.store.selection import Selection, select

InsertAll = Callable[..., list[object]]


@pytest.mark.usefixtures("small_ones_are_indexed")
@pytest.mark.parametrize("dimension", [3, 2_500, 4_001])
def test_vectors_of_any_dimension_can_be_pinned(
    insert_all: InsertAll, connection: psycopg.Connection, dimension: int
) -> None:
    insert_all(Batch("m", np.ones((3, dimension), np.float32)))
    rows = select(connection, "m", Selection(first=3))
    assert baselines.create(connection, "m", rows, b"", {}, "first 3") == 1
    indexes = connection.execute(
        "select count(*) from pg_indexes where tablename = 'baseline_embedding'"
        " and indexdef like '%hnsw%'"
    ).fetchone()
    assert indexes == (0 if dimension > 4_000 else 1,)


def test_a_baseline_that_an_exact_search_compares_has_no_index(
    insert_all: InsertAll, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_all(Batch("m", np.ones((4, 3), np.float32)))
    monkeypatch.setattr(neighbours, "MOST_SEARCHED", 3)
    for size, expected in ((3, 0), (4, 1)):
        rows = select(connection, "m", Selection(first=size))
        baselines.create(connection, "m", rows, b"", {}, f"first {size}")
        baseline_index.tidy(connection)
        indexes = connection.execute(
            "select count(*) from pg_indexes where indexdef like '%hnsw%'"
        ).fetchone()
        assert indexes == (expected,)


@pytest.mark.usefixtures("small_ones_are_indexed")
def test_an_index_is_built_in_memory_however_little_the_server_allows(
    insert_all: InsertAll, connection: psycopg.Connection
) -> None:
    vectors = np.random.default_rng(0).normal(size=(1_000, 768)).astype(np.float32)
    insert_all(Batch("m", vectors))
    rows = select(connection, "m", Selection(first=1_000))
    connection.execute("set maintenance_work_mem = '1MB'")
    notices: list[str] = []
    connection.add_notice_handler(lambda told: notices.append(str(told.message_primary)))
    baselines.create(connection, "m", rows, b"", {}, "first 1000")
    assert notices == []
    assert connection.execute("show maintenance_work_mem").fetchone() == ("1MB",)
