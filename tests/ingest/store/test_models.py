"""List models, and remove one with everything that belongs to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.pq import TransactionStatus

from ingest.runtime.errors import NotFound, TooManyModels
from ingest.store import (
    baselines,
    canaries,
    changes,
    explanations,
    history,
    models,
    neighbours,
    positions,
    reports,
    samples,
    slice_history,
)
from ingest.store.batch import Batch
from ingest.store.canaries import CanarySet
from ingest.store.connection import AsyncConnection, connect
from ingest.store.explanations import ExplanationRow
from ingest.store.history import HistoryRow
from ingest.store.positions import Progress
from ingest.store.reports import Report
from ingest.store.samples import Sample
from ingest.store.selection import Selection, select
from ingest.store.vectors import Stored, insert
from tests.service import wait_for, waits_for_a_lock

InsertAll = Callable[..., list[object]]


def batch(model_name: str, vectors: int = 20) -> Batch:
    values = np.random.default_rng(3).normal(size=(vectors, 4)).astype(np.float32)
    return Batch(model_name, values, [f"id {n}" for n in range(vectors)], idempotency_key="key")


@pytest.fixture
def everything(
    store: str,
    connection: psycopg.Connection,
    insert_all: InsertAll,
) -> None:
    """Two models, each with rows in every table."""
    insert_all(batch("m"), batch("other"))
    for name in ("m", "other"):
        for version in (1, 2):
            rows = select(connection, name, Selection(first=10))
            assert baselines.create(connection, name, rows, b"", {}, "first 10") == version
        history.append(connection, [HistoryRow(name, "fast", "ok", 10, 1, cosine_similarity=0.5)])
        slice_history.append(connection, [("tenant=a", HistoryRow(name, "fast", "ok", 10, 1))])
        reports.write(connection, [Report(name, 0.0, b"{}", b"{}")], 300)
        told = ExplanationRow(name, "fast", "", 1.0, 0, 1.0, 1.0, 1, "what changed", {})
        explanations.keep(connection, told, 900)

    async def others() -> None:
        async with await AsyncConnection.connect(store, autocommit=True) as asynchronous:
            for name in ("m", "other"):
                await positions.save(asynchronous, name, "docs", Progress(("1",)))
                await samples.save(asynchronous, name, "docs", Sample(0, {b"8" * 8: b"9" * 8}))
                canary = CanarySet(name, "set", ["canary:set:0"], np.ones((1, 4), np.float32))
                await canaries.insert(asynchronous, canary, max_models=2)

    asyncio.run(others())


def rows_of(connection: psycopg.Connection, model_name: str) -> dict[str, int]:
    """Number of a model's rows in each table with models."""
    tables = connection.execute(
        "select relname from pg_class join pg_attribute on attrelid = pg_class.oid"
        " where attname = 'model_name' and relkind in ('r', 'p') and not relispartition"
        " and relnamespace = 'public'::regnamespace"
    ).fetchall()
    counts = {}
    for (table,) in tables:
        found = connection.execute(
            f"select count(*) from {table} where model_name = %s".encode(), [model_name]
        ).fetchone()
        assert found is not None
        counts[table] = found[0]
    return counts


@pytest.mark.usefixtures("everything")
def test_all_rows_of_a_model_are_removed_and_others_stay(connection: psycopg.Connection) -> None:
    other = rows_of(connection, "other")
    assert all(rows_of(connection, "m").values())
    assert [m.model_name for m in models.summaries(connection)] == ["m", "other"]
    models.remove(connection, "m")
    assert not any(rows_of(connection, "m").values())
    assert rows_of(connection, "other") == other
    assert [(m.model_name, m.vectors) for m in models.summaries(connection)] == [("other", 20)]


@pytest.mark.usefixtures("everything")
def test_name_ids_and_keys_of_a_removed_model_can_be_used_again(
    connection: psycopg.Connection, insert_all: InsertAll
) -> None:
    [refused] = insert_all(batch("third"), max_models=2)
    assert isinstance(refused, TooManyModels)
    models.remove(connection, "m")
    assert insert_all(batch("m"), max_models=2) == [Stored(20, 0)]
    [again, _] = models.summaries(connection)
    assert (again.model_name, again.vectors) == ("m", 20)


@pytest.mark.usefixtures("everything")
def test_a_change_of_dimension_is_resolved_for_one_model(connection: psycopg.Connection) -> None:
    connection.execute("update model set mismatched_dimension = 5, mismatched_at = now()")
    models.resolve_dimension(connection, "m")
    noted = "select model_name, mismatched_dimension, mismatched_at is null from model order by 1"
    assert connection.execute(noted).fetchall() == [("m", None, True), ("other", 5, False)]
    with pytest.raises(NotFound, match="there is no model 'none'"):
        models.resolve_dimension(connection, "none")


def test_an_unknown_model_is_an_error(connection: psycopg.Connection) -> None:
    with pytest.raises(NotFound, match="there is no model 'none'"):
        models.remove(connection, "none")


@pytest.mark.usefixtures("everything")
def test_an_exporter_that_has_not_noticed_the_removal_adds_nothing(
    connection: psycopg.Connection,
) -> None:
    rows = select(connection, "m", Selection(first=10))
    models.remove(connection, "m")
    history.append(connection, [HistoryRow("m", "fast", "ok", 10, 1)])
    with pytest.raises(NotFound, match="there is no model 'm'"):
        baselines.create(connection, "m", rows, b"", {}, "first 10", instead_of=0)
    assert not any(rows_of(connection, "m").values())


@pytest.mark.usefixtures("everything")
def test_what_is_written_while_a_model_is_held_is_removed_with_it(
    store: str, connection: psycopg.Connection
) -> None:
    def remove() -> None:
        with connect(store) as own:
            models.remove(own, "m")

    rows = changes.models(connection)
    with connect(store) as other, ThreadPoolExecutor(1) as threads:
        with models.hold(other, rows) as held:
            assert held == {"m", "other"}
            removing = threads.submit(remove)
            wait_for(lambda: waits_for_a_lock(connection), "the removal")
            history.append(other, [HistoryRow("m", "fast", "ok", 10, 1)])
        removing.result(240)
    assert not any(rows_of(connection, "m").values())


@pytest.mark.usefixtures("everything")
def test_a_model_that_was_made_again_is_not_held(
    connection: psycopg.Connection, insert_all: InsertAll
) -> None:
    rows = changes.models(connection)
    models.remove(connection, "m")
    with models.hold(connection, rows) as held:
        assert held == {"other"}
    insert_all(batch("m"))
    with models.hold(connection, rows) as held:
        assert held == {"other"}


@pytest.mark.usefixtures("everything")
def test_vectors_committed_during_the_removal_are_removed_too(
    store: str, connection: psycopg.Connection
) -> None:
    def remove() -> None:
        with connect(store) as other:
            models.remove(other, "m")

    async def write() -> None:
        async with await AsyncConnection.connect(store, autocommit=True) as asynchronous:
            async with asynchronous.transaction():
                await insert(
                    asynchronous, [Batch("m", np.ones((5, 4), np.float32), ["new"] * 5)], 9
                )
                removing = asyncio.get_running_loop().run_in_executor(None, remove)
                while not removing.done() and not waits_for_a_lock(connection):
                    await asyncio.sleep(0.01)
            await removing

    asyncio.run(write())
    assert not any(rows_of(connection, "m").values())


@pytest.mark.usefixtures("everything")
def test_baselines_of_other_models_can_be_searched_while_a_removal_waits(
    store: str, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last transaction waits for writers of the model."""

    lock = baselines.lock

    def held(own: psycopg.Connection) -> None:
        lock(own)
        other.execute("select from model where model_name = 'm' for update")

    def remove() -> None:
        with connect(store) as own:
            models.remove(own, "m")

    async def found() -> list[neighbours.Match]:
        async with await AsyncConnection.connect(store, autocommit=True) as asynchronous:
            await asynchronous.execute("set statement_timeout = '60s'")
            return await neighbours.baseline(asynchronous, "other", np.ones(4, np.float32), 3)

    monkeypatch.setattr(baselines, "lock", held)
    with connect(store) as other, ThreadPoolExecutor(1) as threads:
        with other.transaction():
            removing = threads.submit(remove)
            wait_for(lambda: waits_for_a_lock(connection), "the removal")
            assert len(asyncio.run(found())) == 3
            assert not removing.done()
        removing.result(240)
    assert not any(rows_of(connection, "m").values())


def fill_ids(connection: psycopg.Connection, number: int, model_name: str = "m") -> None:
    """Give a model ids that no vector has."""
    connection.execute(
        "insert into embedding_id select %s, to_char(n, 'FM00000'), n,"
        " clock_timestamp() - interval '1 hour' from generate_series(1, %s) as n",
        [model_name, number],
    )


def test_a_large_model_is_removed_in_steps(
    store: str, connection: psycopg.Connection, insert_all: InsertAll
) -> None:
    """Most of its ids are deleted for good when a lock of one stops the rest."""
    insert_all(batch("m"), batch("other"))
    fill_ids(connection, 30_000)

    def remove() -> None:
        with connect(store) as own:
            models.remove(own, "m")

    with ThreadPoolExecutor(1) as threads, connect(store) as holder:
        with holder.transaction():
            holder.execute("select from embedding_id where id = '25000' for update")
            removing = threads.submit(remove)
            wait_for(lambda: waits_for_a_lock(connection), "the deletion of that id")
            assert insert_all(Batch("other", np.ones((1, 4), np.float32))) == [Stored(1, 0)]
            assert 0 < rows_of(connection, "m")["embedding_id"] < 20_000
        removing.result(240)
    assert not any(rows_of(connection, "m").values())


def test_the_last_transaction_of_a_removal_reads_only_what_came_meanwhile(
    store: str,
    connection: psycopg.Connection,
    insert_all: InsertAll,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also while a dump keeps what is deleted from being vacuumed, and statistics are of then."""
    for name in ("m", "other"):
        insert_all(batch(name))
        fill_ids(connection, 30_000, name)
    clear, before = models._clear, []

    def read() -> int:
        connection.execute("select pg_stat_force_next_flush()")
        connection.execute("select pg_stat_clear_snapshot()")
        [(blocks,)] = connection.execute(
            "select sum(heap_blks_read + heap_blks_hit) from pg_statio_user_tables"
        ).fetchall()
        return int(blocks)

    def clear_and_read(*arguments: Any) -> object:
        since = clear(*arguments)
        if connection.info.transaction_status == TransactionStatus.IDLE:
            connection.execute("analyze embedding_id")
            before.append(read())
        return since

    monkeypatch.setattr(models, "_clear", clear_and_read)
    with connect(store) as dump:
        psycopg.Cursor(dump).execute("begin isolation level repeatable read; select from model")
        models.remove(connection, "m")
        assert read() - before[-1] < 100
    assert not any(rows_of(connection, "m").values())


@pytest.mark.usefixtures("patient_writers")
def test_a_model_that_is_sent_all_the_while_is_removed_nevertheless(
    store: str, connection: psycopg.Connection, insert_all: InsertAll
) -> None:
    insert_all(batch("m", 500))
    fill_ids(connection, 30_000)
    before = changes.models(connection)
    sent: list[object] = []
    removed = Event()

    def send() -> None:
        while not removed.is_set():
            sent.append(insert_all(replace(batch("m"), idempotency_key=f"key {len(sent)}")))

    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(send)
        wait_for(lambda: len(sent) > 2, "some requests")
        try:
            models.remove(connection, "m")
        finally:
            removed.set()
        sending.result(240)
    insert_all(Batch("m", np.ones((1, 4), np.float32)))
    [now] = changes.models(connection)
    assert now.created_at > before[0].created_at
    # Nothing is left of the model before.
    assert rows_of(connection, "m")["embedding"] == now.last_seq < 500
    assert rows_of(connection, "m")["embedding_id"] <= 20
