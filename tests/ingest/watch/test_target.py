"""A target stores rows, and says which row cannot be stored and why."""

from __future__ import annotations

import asyncio
import logging

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from ingest.formats import checks
from ingest.pipeline.metrics import WatchMetrics
from ingest.pipeline.pipeline import Pipeline
from ingest.runtime.errors import PayloadError
from ingest.runtime.settings.settings import IngestSettings, Settings
from ingest.watch.sources.source import Row
from ingest.watch.target import Target, stored_id, timestamp

SETTINGS = Settings(ingest=IngestSettings(max_dimension=4, max_metadata_bytes=20))


def row(key: str, *numbers: float, metadata: bytes | None = None) -> Row:
    return Row(key, None, np.array(numbers, np.float32), metadata)


def store_rows(store: str, *rows: Row, skips: bool = False, settings: Settings = SETTINGS) -> None:
    async def main() -> None:
        registry = CollectorRegistry()
        pipeline = Pipeline(store, settings, registry)
        metrics = WatchMetrics(registry, "m")
        target = Target(pipeline, "m", metrics, settings.ingest, skips)
        async with pipeline.running():
            await target.store(rows, "db.docs")

    asyncio.run(main())


def stored(connection: psycopg.Connection) -> list[str]:
    rows = connection.execute("select id from embedding order by seq").fetchall()
    return [id_ for (id_,) in rows]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the target warned of."""
    return [vars(each)["error"] for each in caplog.records if each.name == "ingest.watch.target"]


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ("has no vector", "row 'b' has no vector"),
        (np.array([1, np.nan], np.float32), "row 'b' has a vector with a component that is NaN"),
        (np.ones(5, np.float32), "row 'b' has a vector that cannot be stored: dimension 5 exc"),
        (np.ones(0, np.float32), "row 'b' has a vector that cannot be stored: the vector is emp"),
    ],
    ids=["text", "NaN", "long", "empty"],
)
def test_a_row_that_cannot_be_stored_is_named_or_skipped(
    store: str, connection: psycopg.Connection, vector: NDArray[np.float32] | str, message: str
) -> None:
    rows = [row("a", 1, 2), Row("b", None, vector), row("c", 1, 2)]
    with pytest.raises(PayloadError, match=f"^db.docs: {message}"):
        store_rows(store, *rows)
    assert stored(connection) == []
    store_rows(store, *rows, skips=True)
    assert stored(connection) == ["a", "c"]


def test_rows_of_another_dimension_are_skipped_and_told_once(
    store: str, connection: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        store_rows(store, row("a", 1, 2), row("b", 1, 2, 3), row("c", 3, 4), row("d", 1, 2, 3))
    assert stored(connection) == ["a", "c"]
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize(
    "metadata", [b'{"text": "longer than allowed"}', rb'{"a": "\u0000"}', rb'{"a": "\ud800"}']
)
def test_a_vector_counts_without_metadata_that_cannot_be_stored(
    store: str,
    connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
    metadata: bytes,
) -> None:
    with caplog.at_level(logging.WARNING):
        store_rows(store, row("a", 1, metadata=metadata), row("b", 2, metadata=b'{"a": 1}'))
    found = connection.execute("select metadata from embedding order by seq").fetchall()
    assert found == [(None,), ({"a": 1},)]
    [warning] = warnings(caplog)
    assert "metadata of row 'a'" in warning


def test_a_vector_counts_without_metadata_that_no_reader_could_decode(
    store: str, connection: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    def nested(levels: int) -> bytes:
        return b'{"a": %b1%b}' % (b"[" * (levels - 1), b"]" * (levels - 1))

    settings = Settings(ingest=IngestSettings(max_metadata_bytes=10_000))
    levels = (1_500, checks.NESTING + 1, checks.NESTING)
    rows = [row(str(count), 1, metadata=nested(count)) for count in levels]
    with caplog.at_level(logging.WARNING):
        store_rows(store, *rows, settings=settings)
    found = connection.execute("select metadata is null from embedding order by seq").fetchall()
    assert found == [(True,), (True,), (False,)]
    [warning] = warnings(caplog)
    assert warning.endswith("metadata of row '1500' is nested more than 100 levels deep")


def test_a_long_key_is_stored_as_its_hash() -> None:
    assert stored_id("k" * 255) == "k" * 255
    assert len(stored_id("k" * 256)) == 64


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [(None, None), (1.7e9, 1.7e9), (-1.0, None), (1.7e12, None), (float("inf"), None)],
)
def test_a_time_that_is_none_is_left_out(seconds: float | None, kept: float | None) -> None:
    assert timestamp(seconds) == kept
