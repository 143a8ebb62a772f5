"""Storing vectors: numbering, duplicates, revisions, idempotency, refusals."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from ingest.runtime.errors import (
    DimensionMismatch,
    IdempotencyConflict,
    StoreUnavailable,
    TooManyModels,
)
from ingest.store import baselines, models
from ingest.store.batch import Batch
from ingest.store.connection import AsyncConnection, connect
from ingest.store.registration import _ADVISORY_LOCK
from ingest.store.vectors import Stored, insert
from tests.service import wait_for, waits_for_a_lock

InsertAll = Callable[..., list[object]]


def batch(model_name: str = "m", count: int = 2, dimension: int = 3, **fields: object) -> Batch:
    vectors = np.arange(count * dimension, dtype=np.float32).reshape(count, dimension)
    return Batch(model_name, vectors, **fields)  # type: ignore[arg-type]


def outside(dimension: int) -> NDArray[np.void]:
    """Return the rows of a baseline whose vectors are not in the store."""
    fields = [("seq", "i8"), ("received_at", "f8"), ("embedding", "f4", (dimension,))]
    made = np.ones(5, np.dtype(fields))
    made["seq"] = np.arange(1, 6)
    return made


def rows(store: str, columns: str = "seq, embedding::text") -> list[tuple[Any, ...]]:
    with connect(store) as connection:
        query = f"select {columns} from embedding order by model_name, seq"
        return connection.execute(query.encode()).fetchall()


def test_vectors_are_stored_as_they_were_sent(insert_all: InsertAll, store: str) -> None:
    assert insert_all(batch()) == [Stored(2, 0)]
    assert rows(store) == [(1, "[0,1,2]"), (2, "[3,4,5]")]


def test_id_metadata_and_timestamp_are_stored_with_a_vector(
    insert_all: InsertAll, store: str
) -> None:
    sent = batch(
        ids=["a", None],
        metadata=[None, b'{"text": "\\u00fc\\u20ac"}'],
        timestamps=[1703980800.25, None],
    )
    insert_all(sent)
    assert rows(store, "id, metadata, extract(epoch from embedded_at)::float8") == [
        ("a", None, 1703980800.25),
        (None, {"text": "ü€"}, None),
    ]


def test_float32_values_survive_bit_for_bit(insert_all: InsertAll, store: str) -> None:
    extremes = np.array([[1e-45, -3.4028235e38, 1 / 3]], dtype=np.float32)
    insert_all(Batch("m", extremes))
    with connect(store) as connection:
        [(stored,)] = connection.execute("select embedding::real[] from embedding").fetchall()
    assert np.array(stored, dtype=np.float32).tobytes() == extremes.tobytes()


@pytest.mark.parametrize("dimension", [1, 384, 1_998, 3_072])
def test_vectors_of_any_dimension_fit(insert_all: InsertAll, store: str, dimension: int) -> None:
    insert_all(batch(count=3, dimension=dimension))
    assert rows(store, "vector_dims(embedding)") == [(dimension,)] * 3


def test_numbers_have_no_gaps_over_batches_and_models(insert_all: InsertAll, store: str) -> None:
    insert_all(batch("a"), batch("b"), batch("a", 3))
    insert_all(batch("a", 1))
    assert rows(store, "model_name, seq") == [
        *(("a", n) for n in range(1, 7)),
        *(("b", n) for n in range(1, 3)),
    ]


def given(**vectors: list[float]) -> Batch:
    """Make a batch of vectors and their ids."""
    return Batch("m", np.array(list(vectors.values()), np.float32), ids=list(vectors))


def of_ids(store: str) -> dict[str, int]:
    """The number that each id stands for."""
    with connect(store) as connection:
        return dict(connection.execute("select id, seq from embedding_id").fetchall())


def test_a_vector_is_stored_once_under_its_id_in_one_group_and_over_groups(
    insert_all: InsertAll, store: str
) -> None:
    first = insert_all(given(a=[1, 0], b=[2, 0]), given(b=[2, 0], c=[3, 0]))
    assert first == [Stored(2, 0), Stored(1, 1)]
    assert insert_all(given(c=[3, 0], d=[4, 0])) == [Stored(1, 1)]
    assert rows(store, "seq, id") == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]


def test_another_vector_of_a_stored_id_is_a_revision(insert_all: InsertAll, store: str) -> None:
    insert_all(given(a=[1, 0], b=[2, 0], c=[3, 0]))
    assert insert_all(given(b=[0, 2], d=[4, 0], a=[1, 0], c=[6, 0])) == [Stored(3, 1, revisions=2)]
    assert rows(store, "seq, id, embedding::text, revised_cosine")[3:] == [
        (4, "b", "[0,2]", 0),
        (5, "d", "[4,0]", None),
        (6, "c", "[6,0]", 1),
    ]
    assert of_ids(store) == {"a": 1, "b": 4, "c": 6, "d": 5}


def test_the_cosine_of_a_revision_is_stored_in_the_portion_it_belongs_to(
    insert_all: InsertAll, store: str
) -> None:
    angles = np.linspace(0.01, 3, 1_000)
    ids: list[str | None] = [f"{n}" for n in range(1_000)]
    metadata: list[bytes | None] = [b'{"n": %d}' % n for n in range(1_000)]
    before = np.tile(np.array([1, 0], np.float32), (1_000, 1))
    after = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    insert_all(Batch("m", before, ids=ids))
    [outcome] = insert_all(Batch("m", after, ids=ids, metadata=metadata))
    assert outcome == Stored(1_000, 0, revisions=1_000)
    found = rows(store, "revised_cosine, (metadata->>'n')::integer, id")[1_000:]
    assert [n for _, n, _ in found] == list(range(1_000))
    assert [id_ for _, _, id_ in found] == ids
    np.testing.assert_allclose([cosine for cosine, _, _ in found], np.cos(angles), atol=1e-6)


def test_a_revision_is_compared_with_the_newest_vector(insert_all: InsertAll, store: str) -> None:
    insert_all(given(a=[1, 0]))
    insert_all(given(a=[0, 1]))
    assert insert_all(given(a=[0, 1])) == [Stored(0, 1)]
    assert insert_all(given(a=[1, 0])) == [Stored(1, 0, revisions=1)]
    assert of_ids(store) == {"a": 3}


def test_batches_of_one_group_are_compared_in_their_order(
    insert_all: InsertAll, store: str
) -> None:
    outcomes = insert_all(
        given(a=[1, 0], b=[1, 0]), given(a=[1, 0], b=[0, 1]), given(b=[0, 1]), given(b=[1, 0])
    )
    assert outcomes == [Stored(2, 0), Stored(1, 1, 1), Stored(0, 1), Stored(1, 0, 1)]
    assert rows(store, "seq, id, revised_cosine") == [
        (1, "a", None),
        (2, "b", None),
        (3, "b", 0),
        (4, "b", 0),
    ]
    assert of_ids(store) == {"a": 1, "b": 4}


def test_a_refused_batch_of_known_ids_is_not_compared(insert_all: InsertAll, store: str) -> None:
    insert_all(given(a=[1, 0]))
    refused, stored = insert_all(given(a=[1, 0, 0]), given(a=[0, 1]))
    assert isinstance(refused, DimensionMismatch)
    assert stored == Stored(1, 0, revisions=1)


def test_the_noise_of_an_encoder_is_no_revision(insert_all: InsertAll, store: str) -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(300, 384)).astype(np.float32)
    noise = 1 + generator.uniform(-1e-7, 1e-7, size=vectors.shape)
    ids: list[str | None] = [f"{n}" for n in range(300)]
    insert_all(Batch("m", vectors, ids=ids))
    again = (vectors * noise).astype(np.float32)
    assert (again != vectors).any()
    assert insert_all(Batch("m", again, ids=ids)) == [Stored(0, 300)]
    assert len(rows(store)) == 300


def test_small_differences_do_not_add_up_over_retries(insert_all: InsertAll, store: str) -> None:
    """A duplicate is not stored, so the next vector is compared with the one before it."""
    outcomes = insert_all(given(a=[1, 0]), given(a=[1 + 7e-7, 0]), given(a=[1 + 14e-7, 0]))
    assert outcomes == [Stored(1, 0), Stored(0, 1), Stored(1, 0, revisions=1)]


def test_with_once_an_id_is_stored_once_whatever_its_vector(
    insert_all: InsertAll, store: str
) -> None:
    first = insert_all(given(a=[1, 0]), given(a=[0, 1], b=[2, 0]), revise=False)
    assert first == [Stored(1, 0), Stored(1, 1)]
    assert insert_all(given(b=[0, 3], c=[4, 0]), revise=False) == [Stored(1, 1)]
    assert rows(store, "seq, id, embedding::text") == [
        (1, "a", "[1,0]"),
        (2, "b", "[2,0]"),
        (3, "c", "[4,0]"),
    ]


def test_an_id_whose_vector_has_expired_is_a_revision_without_a_cosine(
    insert_all: InsertAll, store: str
) -> None:
    insert_all(given(a=[1, 0], b=[1, 0]))
    with connect(store) as connection:
        connection.execute("delete from embedding where id = 'a'")
    assert insert_all(given(a=[1, 0], b=[1, 0])) == [Stored(1, 1, revisions=1)]
    assert rows(store, "seq, id, revised_cosine") == [(2, "b", None), (3, "a", None)]
    assert insert_all(given(a=[1, 0])) == [Stored(0, 1)]


def test_a_damaged_vector_is_revised(insert_all: InsertAll, store: str) -> None:
    insert_all(given(a=[1, 0], b=[1, 0]))
    with connect(store) as connection:
        connection.execute("update embedding set embedding = '[1]' where id = 'a'")
    assert insert_all(given(a=[1, 0], b=[1, 0])) == [Stored(1, 1, revisions=1)]


def test_an_id_that_retention_deletes_meanwhile_is_remembered_again(
    insert_all: InsertAll, store: str
) -> None:
    insert_all(given(a=[1, 0]))
    act_on_each_vector(store, "count(*) from expire()")
    with connect(store) as connection:
        connection.execute(
            "create function expire() returns setof text language sql"
            " as 'delete from embedding_id returning id'"
        )
    assert insert_all(given(a=[0, 1])) == [Stored(1, 0, revisions=1)]
    assert of_ids(store) == {"a": 2}


def test_ids_of_several_days_are_found_in_their_partitions(
    insert_all: InsertAll, store: str
) -> None:
    insert_all(given(a=[1, 0], b=[2, 0], c=[3, 0]))
    with connect(store) as connection:
        for table in ("embedding", "embedding_id"):
            later = "received_at + interval '1 day' * (seq - 1)"
            connection.execute(f"update {table} set received_at = {later}".encode())
        partitions = connection.execute("select count(distinct tableoid) from embedding").fetchone()
    assert partitions == (3,)
    assert insert_all(given(c=[3, 0], b=[0, 2], a=[1, 0])) == [Stored(1, 2, revisions=1)]


def test_revisions_of_several_models_are_kept_apart(insert_all: InsertAll, store: str) -> None:
    def of(model_name: str, vector: list[float]) -> Batch:
        return replace(given(a=vector), model_name=model_name)

    insert_all(of("m", [1, 0]), of("n", [0, 1]))
    assert insert_all(of("n", [0, 1]), of("m", [0, 1])) == [Stored(0, 1), Stored(1, 0, revisions=1)]
    assert rows(store, "model_name, seq") == [("m", 1), ("m", 2), ("n", 1)]


@pytest.mark.usefixtures("patient_writers")
def test_writers_of_one_id_at_once_compare_with_the_vector_before(store: str) -> None:
    """Whichever comes second compares with the vector of the first."""

    async def write(connection: AsyncConnection, vector: list[float]) -> list[object]:
        await connection.execute("select 1")
        return list(await insert(connection, [given(a=vector, b=[1, 1])], 10))

    async def run() -> list[object]:
        connections = [await AsyncConnection.connect(store, autocommit=True) for _ in range(4)]
        vectors = [[1.0, 0.0], [0.0, 1.0]] * 2
        outcomes = await asyncio.gather(*map(write, connections, vectors))
        for connection in connections:
            await connection.close()
        return [outcome for [outcome] in outcomes]

    outcomes = asyncio.run(run())
    found = rows(store, "seq, embedding::text, revised_cosine")
    of_a = [(text, cosine) for _, text, cosine in found if text != "[1,1]"]
    assert len(found) == 1 + len(of_a)
    assert [cosine for _, cosine in of_a] == [None, *[0] * (len(of_a) - 1)]
    assert all(one != other for (one, _), (other, _) in itertools.pairwise(of_a))
    assert sum(outcome.revisions for outcome in outcomes) == len(of_a) - 1  # type: ignore[attr-defined]
    assert of_ids(store)["a"] == max(seq for seq, text, _ in found if text != "[1,1]")


def test_a_repeated_idempotency_key_gets_the_first_revisions(insert_all: InsertAll) -> None:
    insert_all(given(a=[1, 0]))
    sent = replace(given(a=[0, 1]), idempotency_key="k", fingerprint=b"same")
    assert insert_all(sent, sent) == [Stored(1, 0, 1), Stored(1, 0, 1, replayed=True)]
    assert insert_all(given(a=[1, 1])) == [Stored(1, 0, 1)]
    assert insert_all(sent) == [Stored(1, 0, 1, replayed=True)]


def test_a_key_of_the_previous_release_had_no_revisions(insert_all: InsertAll, store: str) -> None:
    insert_all(given(a=[1, 0]))
    with connect(store) as connection:
        connection.execute(
            "insert into idempotency_key"
            " (model_name, key, fingerprint, stored, duplicates, received_at)"
            " values ('m', 'k', 'x', 2, 1, now())"
        )
    sent = replace(given(a=[0, 1]), idempotency_key="k", fingerprint=b"x")
    assert insert_all(sent) == [Stored(2, 1, 0, replayed=True)]


def test_an_id_that_occurs_twice_in_a_batch_is_stored_once(
    insert_all: InsertAll, store: str
) -> None:
    assert insert_all(batch(count=4, ids=["a", None, "a", None])) == [Stored(3, 1)]
    assert rows(store, "seq, id") == [(1, "a"), (2, None), (3, None)]


def test_duplicates_do_not_change_when_a_model_received_its_last_vector(
    insert_all: InsertAll, store: str
) -> None:
    def newest() -> object:
        with connect(store) as connection:
            return connection.execute("select last_received_at from model").fetchone()

    insert_all(batch(ids=["a", "b"]))
    before = newest()
    insert_all(batch(ids=["a", "b"], idempotency_key="k", fingerprint=b"x"))
    assert newest() == before
    insert_all(batch(ids=["c", "d"]))
    assert newest() != before


def test_the_same_id_under_two_models_is_two_vectors(insert_all: InsertAll) -> None:
    assert insert_all(batch("a", ids=["x", "y"]), batch("b", ids=["x", "y"])) == [
        Stored(2, 0),
        Stored(2, 0),
    ]


def test_a_repeated_idempotency_key_gets_the_first_answer(
    insert_all: InsertAll, store: str
) -> None:
    sent = batch(idempotency_key="k", fingerprint=b"same")
    assert insert_all(sent, sent) == [Stored(2, 0), Stored(2, 0, replayed=True)]
    assert insert_all(sent) == [Stored(2, 0, replayed=True)]
    assert len(rows(store)) == 2


def test_a_reused_idempotency_key_is_a_conflict(insert_all: InsertAll, store: str) -> None:
    insert_all(batch(idempotency_key="k", fingerprint=b"one"))
    [outcome] = insert_all(batch(idempotency_key="k", fingerprint=b"two"))
    assert isinstance(outcome, IdempotencyConflict)
    assert len(rows(store)) == 2


@pytest.mark.parametrize(("minutes", "follows"), [(59, True), (61, False)])
def test_a_last_time_more_than_an_hour_ahead_is_ignored(
    insert_all: InsertAll, store: str, minutes: int, follows: bool
) -> None:
    """Otherwise received_at never decreases within a model."""
    insert_all(batch())
    with connect(store) as connection:
        connection.execute(
            "update model set last_received_at = clock_timestamp() + make_interval(mins => %s)",
            [minutes],
        )
    insert_all(batch(count=1))
    [(_, behind, ahead)] = rows(
        store,
        "seq, received_at < clock_timestamp(), received_at ="
        " (select last_received_at from model) and received_at > clock_timestamp()",
    )[2:]
    assert (behind, ahead) == (not follows, follows)


def test_another_dimension_is_refused_and_noted_and_other_batches_are_stored(
    insert_all: InsertAll, store: str
) -> None:
    insert_all(batch())
    outcomes = insert_all(batch(dimension=4), batch(count=1))
    assert isinstance(outcomes[0], DimensionMismatch)
    assert "dimension 3; these have 4" in outcomes[0].detail
    assert outcomes[1] == Stored(1, 0)
    with connect(store) as connection:
        noted = connection.execute("select mismatched_dimension from model").fetchall()
    assert noted == [(4,)]


def test_a_baseline_from_outside_decides_on_the_dimension_of_a_model(
    insert_all: InsertAll, store: str
) -> None:
    with connect(store) as connection:
        baselines.create_from_vectors(connection, "m", outside(dimension=3), b"", {}, "files")
    [refused] = insert_all(batch(dimension=4))
    assert isinstance(refused, DimensionMismatch)
    assert insert_all(batch(dimension=3)) == [Stored(2, 0)]


def test_a_baseline_from_outside_is_refused_if_a_sender_was_faster(
    insert_all: InsertAll, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*given: Any) -> None:
        assert insert_all(batch(dimension=4)) == [Stored(2, 0)]
        written(*given)

    written = baselines._write_vectors
    monkeypatch.setattr(baselines, "_write_vectors", write)
    with connect(store) as connection:
        with pytest.raises(DimensionMismatch):
            baselines.create_from_vectors(connection, "m", outside(dimension=3), b"", {}, "files")
        assert baselines.versions(connection, "m") == []


def test_the_first_batch_decides_on_the_dimension_of_a_new_model(insert_all: InsertAll) -> None:
    first, second = insert_all(batch(dimension=3), batch(dimension=4))
    assert first == Stored(2, 0)
    assert isinstance(second, DimensionMismatch)


def test_one_model_too_many_is_refused_and_known_models_are_stored(insert_all: InsertAll) -> None:
    insert_all(batch("a"), batch("b"), max_models=2)
    outcomes = insert_all(batch("c"), batch("a"), max_models=2)
    assert isinstance(outcomes[0], TooManyModels)
    assert "ingest.max_models" in outcomes[0].detail
    assert outcomes[1] == Stored(2, 0)


def test_ids_of_a_model_that_another_writer_just_added_are_ignored(
    insert_all: InsertAll, store: str
) -> None:
    """Each statement sees what was committed before it, so they may see different models."""
    with connect(store) as connection:
        connection.execute("insert into embedding_id values ('m', 'a', 1, now())")
        connection.execute(
            "insert into idempotency_key values ('m', 'k', 'x', 1, 0, clock_timestamp())"
        )
    [outcome] = insert_all(
        batch(ids=["a", "b"], idempotency_key="k", fingerprint=b"x"), max_models=0
    )
    assert isinstance(outcome, TooManyModels)


def test_a_failed_transaction_leaves_no_gap(insert_all: InsertAll, store: str) -> None:
    insert_all(batch())
    with pytest.raises(psycopg.DataError):
        insert_all(batch(metadata=[b"not json", None]))
    insert_all(batch())
    assert rows(store, "seq") == [(1,), (2,), (3,), (4,)]


@pytest.mark.usefixtures("patient_writers")
def test_concurrent_writers_of_the_same_models_do_not_deadlock(store: str) -> None:
    async def write(connection: AsyncConnection, names: list[str]) -> None:
        for _ in range(20):
            batches = [batch(name, 1, ids=[json.dumps([name, _])]) for name in names]
            await insert(connection, batches, 10)

    async def run() -> None:
        connections = [await AsyncConnection.connect(store, autocommit=True) for _ in range(4)]
        orders = [["a", "b", "c"], ["c", "b", "a"], ["b", "a", "c"], ["c", "a", "b"]]
        await asyncio.gather(*map(write, connections, orders))
        for connection in connections:
            await connection.close()

    asyncio.run(run())
    assert rows(store, "model_name, seq") == [(n, s) for n in "abc" for s in range(1, 21)]


def act_on_each_vector(store: str, statement: str) -> None:
    """Have PostgreSQL execute a statement before it stores a vector."""
    with connect(store) as connection:
        connection.execute(
            "create function act() returns trigger language plpgsql"
            f" as $$begin perform {statement}; return new; end$$".encode()
        )
        connection.execute(
            "create trigger act before insert on embedding for each row execute function act()"
        )


def test_a_connection_that_is_lost_during_a_copy_is_an_operational_error(
    insert_all: InsertAll, store: str
) -> None:
    act_on_each_vector(store, "pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(psycopg.OperationalError):
        insert_all(batch())


def test_a_connection_can_be_used_again_after_a_copy_was_cancelled(store: str) -> None:
    act_on_each_vector(store, "pg_sleep(0.2)")

    async def cancel() -> None:
        async with await AsyncConnection.connect(store, autocommit=True) as connection:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await insert(connection, [batch(count=2_000, dimension=1_000)], 10)
            await connection.rollback()
            await connection.execute("drop trigger act on embedding")
            assert await insert(connection, [batch()], 10) == [Stored(2, 0)]

    asyncio.run(cancel())
    assert rows(store) == [(1, "[0,1,2]"), (2, "[3,4,5]")]


@pytest.mark.usefixtures("patient_writers")
def test_a_model_is_added_while_no_other_is_locked(
    insert_all: InsertAll, store: str, connection: psycopg.Connection
) -> None:
    """Two writers that each held a model and waited for that of the other would deadlock."""
    insert_all(batch("z"))
    with connect(store) as other, ThreadPoolExecutor(1) as thread:
        other.execute("select pg_advisory_lock(%s)", [_ADVISORY_LOCK])
        writing = thread.submit(insert_all, batch("z"), batch("a"))
        wait_for(lambda: waits_for_a_lock(connection), "the writer")
        connection.execute("select from model where model_name = 'z' for update nowait")
        other.execute("select pg_advisory_unlock(%s)", [_ADVISORY_LOCK])
        assert writing.result(60) == [Stored(2, 0), Stored(2, 0)]


@pytest.mark.usefixtures("patient_writers")
def test_a_model_that_is_removed_meanwhile_may_be_sent_again(
    insert_all: InsertAll, store: str, connection: psycopg.Connection
) -> None:
    insert_all(batch("known"))
    with connect(store) as other, ThreadPoolExecutor(1) as thread:
        other.execute("select pg_advisory_lock(%s)", [_ADVISORY_LOCK])
        writing = thread.submit(insert_all, batch("known"), batch("new"), max_models=1)
        wait_for(lambda: waits_for_a_lock(connection), "the writer")
        models.remove(connection, "known")
        other.execute("select pg_advisory_unlock(%s)", [_ADVISORY_LOCK])
        removed, stored = writing.result(60)
    assert isinstance(removed, StoreUnavailable)
    assert "model known is being removed" in removed.detail
    assert stored == Stored(2, 0)


def test_a_model_that_another_writer_adds_takes_no_place_twice(
    insert_all: InsertAll, store: str
) -> None:
    insert_all(batch("a"))
    assert insert_all(batch("a"), batch("b"), max_models=2) == [Stored(2, 0), Stored(2, 0)]
