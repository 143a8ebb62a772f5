"""The SQL of the texts dashboard runs on the schema of the store."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from grafana.texts import MODELS_SQL, OUTLYING_SQL
from ingest.store import baselines
from ingest.store.batch import Batch
from ingest.store.connection import AsyncConnection
from ingest.store.selection import Selection, select
from ingest.store.vectors import insert

USUAL = np.ones((20, 4), dtype=np.float32)
UNUSUAL = np.array([[1, 1, 1, -1]], dtype=np.float32)


def send(store: str, model_name: str, vectors: NDArray[np.float32], text: str) -> None:
    metadata: list[bytes | None] = [json.dumps({"text": text}).encode()] * len(vectors)

    async def run() -> None:
        async with await AsyncConnection.connect(store, autocommit=True) as connection:
            await insert(connection, [Batch(model_name, vectors, metadata=metadata)], 10)

    asyncio.run(run())


@pytest.fixture
def model(store: str, connection: psycopg.Connection) -> str:
    """Store a model with a baseline of usual texts, and one unusual text after it."""
    name = "o'reilly"
    send(store, name, USUAL, "usual")
    rows = select(connection, name, Selection(first=len(USUAL)))
    baselines.create(connection, name, rows, b"", {}, "first 20")
    send(store, name, UNUSUAL, "unusual")
    return name


def outlying(model_name: str, since: str) -> str:
    """Replace the variables as Grafana does."""
    quoted = "'" + model_name.replace("'", "''") + "'"
    statement = OUTLYING_SQL.replace("${model_name:sqlstring}", quoted).replace(
        "$__timeFilter(received_at)", f"received_at between {since} and now() + interval '1 hour'"
    )
    assert "$" not in statement
    return statement


def test_the_text_least_similar_to_the_baseline_comes_first(
    connection: psycopg.Connection, model: str
) -> None:
    rows = connection.execute(outlying(model, "now() - interval '1 hour'").encode()).fetchall()
    assert len(rows) == len(USUAL) + len(UNUSUAL)
    assert [text for _, _, text, _ in rows[:2]] == ["unusual", "usual"]
    assert [similarity for *_, similarity in rows[:2]] == pytest.approx([0.5, 1.0])


def test_texts_are_compared_with_the_baseline_in_use(
    store: str, connection: psycopg.Connection, model: str
) -> None:
    send(store, model, np.repeat(UNUSUAL, 5, axis=0), "unusual")
    rows = select(connection, model, Selection(last=5))
    version = baselines.create(connection, model, rows, b"", {}, "last 5")
    assert version == 2
    statement = outlying(model, "now() - interval '1 hour'").encode()
    assert connection.execute(statement).fetchall()[0][2] == "usual"
    baselines.use(connection, model, 1)
    assert connection.execute(statement).fetchall()[0][2] == "unusual"


def test_only_texts_of_the_time_range_are_shown(connection: psycopg.Connection, model: str) -> None:
    assert (
        connection.execute(outlying(model, "now() + interval '1 minute'").encode()).fetchall() == []
    )


def test_the_newest_vectors_are_found_by_the_primary_key(
    connection: psycopg.Connection, model: str
) -> None:
    connection.execute("set enable_seqscan = off")
    plan = connection.execute(
        b"explain " + outlying(model, "now() - interval '1 hour'").encode()
    ).fetchall()
    text = "\n".join(line for (line,) in plan)
    assert "Index Scan" in text
    assert "received_at >=" in text


def test_the_variable_lists_the_models_of_the_store(
    connection: psycopg.Connection, model: str
) -> None:
    assert connection.execute(MODELS_SQL).fetchall() == [(model,)]
