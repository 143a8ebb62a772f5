"""Similarity search, compared with brute force."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from ingest.runtime.errors import NotFound
from ingest.runtime.settings.settings import WindowSettings
from ingest.store import baselines, neighbours
from ingest.store.batch import Batch
from ingest.store.neighbours import Match
from ingest.store.selection import Selection, select

InsertAll = Callable[..., list[object]]
Vectors = NDArray[np.float32]
Query = Callable[[psycopg.AsyncConnection], Coroutine[Any, Any, Any]]

WINDOW = WindowSettings(seconds=900)


def ask(store: str, query: Query) -> Any:
    async def run() -> Any:
        async with await psycopg.AsyncConnection.connect(store, autocommit=True) as connection:
            return await query(connection)

    return asyncio.run(run())


def brute_force(query: Vectors, among: Vectors, k: int) -> tuple[list[int], NDArray[np.float64]]:
    """Numbers and cosine similarities of the k most similar vectors."""
    wide = among.astype(np.float64)
    similarity = wide @ query / (np.linalg.norm(wide, axis=1) * np.linalg.norm(query))
    order = np.argsort(-similarity, kind="stable")[:k]
    return (order + 1).tolist(), similarity[order]


def assert_same(found: list[Match], query: Vectors, among: Vectors, k: int) -> None:
    seqs, similarities = brute_force(query, among, k)
    assert [match.seq for match in found] == seqs
    assert [match.similarity for match in found] == pytest.approx(similarities, abs=1e-6)


def test_the_search_of_a_window_is_exact(
    store: str, insert_all: InsertAll, sentences: Vectors
) -> None:
    insert_all(Batch("m", sentences[:1_000]))
    for query in sentences[1_000:1_005]:
        found = ask(
            store, partial(neighbours.window, model_name="m", vector=query, k=10, settings=WINDOW)
        )
        assert_same(found, query, sentences[:1_000], 10)


def test_a_vector_of_another_dimension_fails_no_search(
    store: str, connection: psycopg.Connection, insert_all: InsertAll, sentences: Vectors
) -> None:
    """Something else has written it."""
    insert_all(Batch("m", sentences[:10]))
    rows = select(connection, "m", Selection(first=10))
    baselines.create(connection, "m", rows, b"", {}, "first 10")
    for table in ("embedding", "baseline_embedding"):
        statement = f"update {table} set embedding = '[1, 2]' where seq = 3"
        connection.execute(statement.encode())
    window = ask(store, lambda c: neighbours.window(c, "m", sentences[0], 20, WINDOW))
    baseline = ask(store, lambda c: neighbours.baseline(c, "m", sentences[0], 20))
    for found in (window, baseline):
        assert sorted(match.seq for match in found) == [1, 2, *range(4, 11)]


def test_only_the_newest_vectors_of_the_window_are_searched(
    store: str,
    connection: psycopg.Connection,
    insert_all: InsertAll,
    sentences: Vectors,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(neighbours, "MOST_SEARCHED", 50)
    insert_all(Batch("m", sentences[:100]))
    found = ask(store, lambda c: neighbours.window(c, "m", sentences[0], 100, WINDOW))
    assert sorted(match.seq for match in found) == list(range(51, 101))
    # As if the clock had been set back in the middle.
    connection.execute(
        "update embedding set received_at = received_at + interval '1 h' where seq <= 60"
    )
    found = ask(store, lambda c: neighbours.window(c, "m", sentences[0], 100, WINDOW))
    assert sorted(match.seq for match in found) == list(range(51, 101))


def test_a_match_has_the_id_metadata_and_time_of_its_client(
    store: str, insert_all: InsertAll
) -> None:
    sent = Batch(
        "m",
        np.ones((1, 2), np.float32),
        ids=["a"],
        metadata=[b'{"text": "x"}'],
        timestamps=[1703980800.0],
    )
    insert_all(sent)
    [match] = ask(store, lambda c: neighbours.window(c, "m", sent.vectors[0], 1, WINDOW))
    assert (match.id, match.metadata) == ("a", {"text": "x"})
    assert match.embedded_at.timestamp() == 1703980800.0


def test_a_vector_of_zeros_has_no_similarity(store: str, insert_all: InsertAll) -> None:
    insert_all(Batch("m", np.array([[0, 0], [1, 0]], np.float32)))
    found = ask(store, lambda c: neighbours.window(c, "m", np.ones(2, np.float32), 2, WINDOW))
    assert [match.similarity for match in found] == [pytest.approx(0.7071068), None]


@pytest.mark.parametrize("dimension", [384, 2_200, 4_100])
def test_the_search_of_a_baseline_is_exact_in_any_dimension(
    store: str,
    insert_all: InsertAll,
    connection: psycopg.Connection,
    sentences: Vectors,
    dimension: int,
) -> None:
    wide = np.ascontiguousarray(np.tile(sentences, 11)[:1_005, :dimension])
    insert_all(Batch("m", wide[:1_000]))
    for size in (1_000, 500):  # the version in use is searched alone
        rows = select(connection, "m", Selection(first=size))
        baselines.create(connection, "m", rows, b"", {}, f"first {size}")
        for query in wide[1_000:]:
            found = ask(store, partial(neighbours.baseline, model_name="m", vector=query, k=10))
            assert_same(found, query, wide[:size], 10)


def test_a_model_without_a_baseline_is_an_error(store: str, insert_all: InsertAll) -> None:
    insert_all(Batch("m", np.ones((1, 2), np.float32)))
    with pytest.raises(NotFound, match="no baseline yet"):
        ask(store, lambda c: neighbours.baseline(c, "m", np.ones(2, np.float32), 1))


def test_a_vector_is_found_by_id_or_number_also_when_only_the_baseline_has_it(
    store: str, insert_all: InsertAll, connection: psycopg.Connection
) -> None:
    vectors = np.eye(3, dtype=np.float32)
    insert_all(Batch("m", vectors, ids=["a", "b", "c"]))
    rows = select(connection, "m", Selection(first=3))
    baselines.create(connection, "m", rows, b"", {}, "first 3")
    for _ in range(2):
        for which in ("b", 2):
            found = ask(store, partial(neighbours.stored_vector, model_name="m", which=which))
            np.testing.assert_array_equal(found, vectors[1])
        connection.execute("truncate embedding, embedding_id")
    with pytest.raises(NotFound, match="no vector with id 'd'"):
        ask(store, lambda c: neighbours.stored_vector(c, "m", "d"))
    with pytest.raises(NotFound, match="no vector with seq 4"):
        ask(store, lambda c: neighbours.stored_vector(c, "m", 4))


def test_a_filter_finds_only_vectors_whose_metadata_has_all_of_it(
    store: str, insert_all: InsertAll, connection: psycopg.Connection, sentences: Vectors
) -> None:
    tenants = ["a"] * 990 + ["b"] * 10
    metadata: list[bytes | None] = [
        f'{{"tenant": "{tenant}", "tags": ["x", {number}]}}'.encode()
        for number, tenant in enumerate(tenants)
    ]
    insert_all(Batch("m", sentences[:1_000], metadata=metadata))
    rows = select(connection, "m", Selection(first=1_000))
    baselines.create(connection, "m", rows, b"", {}, "first 1000")

    def found(wanted: bytes) -> list[list[int]]:
        query = sentences[1_000]
        matches = (
            ask(store, lambda c: neighbours.window(c, "m", query, 10, WINDOW, wanted)),
            ask(store, lambda c: neighbours.baseline(c, "m", query, 10, wanted)),
        )
        return [[match.seq for match in each] for each in matches]

    seqs, _ = brute_force(sentences[1_000], sentences[990:1_000], 10)
    assert found(b'{"tenant": "b"}') == [[990 + seq for seq in seqs]] * 2
    assert found(b'{"tenant": "b", "tags": [995]}') == [[996]] * 2
    assert found(b'{"tenant": "c"}') == [[], []]


def test_a_number_that_the_model_has_not_reached_is_not_looked_for(
    store: str, insert_all: InsertAll, sentences: Vectors
) -> None:
    insert_all(Batch("m", sentences[:100]))

    async def scans(connection: psycopg.AsyncConnection, seq: int) -> int:
        async with connection.transaction():
            with contextlib.suppress(NotFound):
                await neighbours.stored_vector(connection, "m", seq)
            cursor = await connection.execute(
                "select sum(seq_scan + idx_scan) from pg_stat_xact_user_tables"
                " where relname ~ '^embedding_p'"
            )
            [(found,)] = await cursor.fetchall()
            return int(found)

    assert ask(store, partial(scans, seq=100)) > 0
    assert ask(store, partial(scans, seq=101)) == 0
