"""Slices: values of the metadata are read as bounded text, of vectors and of baselines."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import psycopg
import pytest

from ingest.store import slices
from ingest.store.batch import Batch
from ingest.store.connection import AsyncConnection
from ingest.store.vectors import insert

ALWAYS = (0.0, 4e9)


def keep(store: str, *metadata: Any) -> None:
    """Store a vector for each metadata."""
    encoded = [None if each is None else json.dumps(each).encode() for each in metadata]
    batch = Batch("m", np.ones((len(encoded), 2), np.float32), metadata=encoded)

    async def run() -> None:
        async with await AsyncConnection.connect(store, autocommit=True) as connection:
            await insert(connection, [batch], 10)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("acme", "acme"),
        ("", ""),
        (7, "7"),
        (1.5, "1.5"),
        (True, "true"),
        (None, None),
        (["acme"], None),
        ({"name": "acme"}, None),
        ("x" * 10_000, "x" * (slices.LONGEST + 1)),
        ("a'b\"c\\d\ne", "a'b\"c\\d\ne"),
    ],
)
def test_a_value_is_read_as_text(
    value: object, read: str | None, store: str, connection: psycopg.Connection
) -> None:
    keep(store, {"tenant": value}, {"other": 1}, None)
    found = slices.of_vectors(connection, "m", ["tenant"], [1, 2, 3], *ALWAYS)
    assert found == {1: (read,), 2: (None,), 3: (None,)}


def test_only_the_vectors_asked_for_are_read(store: str, connection: psycopg.Connection) -> None:
    keep(store, *({"tenant": f"t{n}"} for n in range(5)))
    found = slices.of_vectors(connection, "m", ["tenant"], [2, 4, 99], *ALWAYS)
    assert found == {2: ("t1",), 4: ("t3",)}
    assert slices.of_vectors(connection, "m", ["tenant"], [2], 0, 1) == {}
    assert slices.of_vectors(connection, "m", ["tenant"], [], *ALWAYS) == {}


@pytest.mark.parametrize("key", ["100%", "%s", "it's", 'a"b', "a\\b", "{x}"])
def test_a_key_is_never_sql(key: str, store: str, connection: psycopg.Connection) -> None:
    keep(store, {key: "a", "b": "c"})
    assert slices.of_vectors(connection, "m", [key, "b"], [1], *ALWAYS) == {1: ("a", "c")}


def test_the_vectors_of_a_baseline_have_their_values(
    store: str, connection: psycopg.Connection
) -> None:
    keep(store, {"tenant": "a"}, None)
    connection.execute(
        "insert into baseline_embedding (model_name, version, seq, received_at, metadata,"
        " embedding) select model_name, 3, seq, received_at, metadata, embedding from embedding"
    )
    assert slices.of_baseline(connection, "m", 3, ["tenant"]) == {1: ("a",), 2: (None,)}
    assert slices.of_baseline(connection, "m", 4, ["tenant"]) == {}
