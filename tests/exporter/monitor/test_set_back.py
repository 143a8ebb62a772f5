"""A store that was set back to an earlier moment, as a restore does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import psycopg
import pytest

from exporter.monitor import baseline
from exporter.monitor.model import Models
from exporter.monitor.tail import Tail
from ingest.store.pool import Pool, sync_pool
from ingest.store.selection import Selection
from tests.exporter.monitor.polling import SETTINGS, Vectors, held, verdict


def set_back(connection: psycopg.Connection, last_seq: int) -> None:
    """Do to the store what a restore to a point in time does."""
    connection.execute("delete from embedding where seq > %s", [last_seq])
    connection.execute(
        "update model set last_seq = %s, last_received_at = (select max(received_at) from"
        " embedding where embedding.model_name = model.model_name)",
        [last_seq],
    )


@pytest.mark.parametrize("new", [10, 100], ids=["fewer than before", "more than before"])
def test_a_store_that_was_set_back_is_reloaded(
    pool: Pool,
    send: Callable[..., None],
    vectors: Vectors,
    connection: psycopg.Connection,
    caplog: pytest.LogCaptureFixture,
    new: int,
) -> None:
    send(vectors[:200])
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    tail.poll()
    set_back(connection, 150)
    send(vectors[300 : 300 + new])
    tail.poll()
    expected = np.concatenate([vectors[:150], vectors[300 : 300 + new]])
    np.testing.assert_array_equal(held(models.by_name["m"], "slow"), expected)
    assert models.by_name["m"].row.last_seq == 150 + new
    assert tail.status.rewinds == 1
    [record] = [r for r in caplog.records if r.message.startswith("store set back")]
    assert record.__dict__["vectors_before"] == 200
    send(vectors[500:520])
    tail.poll()
    assert tail.status.rewinds == 1


def test_one_connection_is_enough_to_notice_it(
    store: str, send: Callable[..., None], vectors: Vectors, connection: psycopg.Connection
) -> None:
    send(vectors[:200])
    with sync_pool(store, 1) as pool:
        tail = Tail(pool, Models(), SETTINGS)
        tail.poll()
        set_back(connection, 150)
        tail.poll()
    assert tail.status.rewinds == 1


def test_a_newest_vector_that_was_deleted_is_no_restore(
    pool: Pool, send: Callable[..., None], vectors: Vectors, connection: psycopg.Connection
) -> None:
    send(vectors[:200])
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    tail.poll()
    connection.execute("delete from embedding where seq = 200")
    send(vectors[200:220])
    tail.poll()
    assert tail.status.rewinds == 0
    np.testing.assert_array_equal(held(models.by_name["m"], "slow"), vectors[:220])


def test_a_set_back_store_is_measured_against_the_baseline_it_has(
    pool: Pool, send: Callable[..., None], vectors: Vectors, connection: psycopg.Connection
) -> None:
    send(vectors[:500])
    baseline.pin(connection, "m", Selection(first=300))
    baseline.pin(connection, "m", Selection(first=450))
    models = Models()
    tail = Tail(pool, models, SETTINGS)
    tail.poll()
    set_back(connection, 400)
    connection.execute("delete from baseline where version = 2")
    tail.poll()
    assert verdict(models, "slow").baseline_version == 1
    np.testing.assert_array_equal(held(models.by_name["m"], "slow"), vectors[300:400])
