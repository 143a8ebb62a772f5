"""Canaries are compared with the first set of their name, and only the newest are kept."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from ingest.runtime.errors import (
    DimensionMismatch,
    IdempotencyConflict,
    NotFound,
    PayloadError,
    StoreUnavailable,
    TooManyModels,
)
from ingest.store import changes, models
from ingest.store.canaries import (
    KEPT_NAMES,
    KEPT_SETS,
    CanarySet,
    Moved,
    accept,
    distances,
    insert,
    remove,
)
from ingest.store.connection import AsyncConnection, connect
from tests.service import wait_for, waits_for_a_lock

VECTORS = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
OTHERS = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
FIRST = Moved(True, 0.0, 0.0)


def canaries(
    vectors: NDArray[np.float32] = VECTORS, name: str = "texts", key: str | None = None
) -> CanarySet:
    ids = [f"canary:{name}:{row}" for row in range(len(vectors))]
    return CanarySet("m", name, ids, vectors, key, vectors.tobytes()[:32])


def send(store: str, given: CanarySet, max_models: int = 10) -> Moved:
    async def run() -> Moved:
        async with await AsyncConnection.connect(store, autocommit=True) as connection:
            return await insert(connection, given, max_models)

    return asyncio.run(run())


def count(connection: psycopg.Connection) -> int:
    row = connection.execute("select count(*) from canary").fetchone()
    assert row is not None
    return int(row[0])


def test_the_first_set_is_the_reference_of_later_ones(store: str) -> None:
    assert send(store, canaries()) == FIRST
    again = send(store, canaries())
    assert not again.is_reference
    assert not again.replayed
    assert again.median == pytest.approx(0, abs=1e-15)
    assert again.max == pytest.approx(0)
    changed = VECTORS.copy()
    changed[3] *= -2
    moved = send(store, canaries(changed))
    assert not moved.is_reference
    assert not moved.replayed
    assert moved.median == pytest.approx(0, abs=1e-15)
    assert moved.max == pytest.approx(2)


def test_of_many_first_sets_one_is_the_reference(store: str) -> None:
    send(store, canaries(name="another"))  # the model exists
    with ThreadPoolExecutor(4) as pool:
        moved = list(pool.map(lambda _: send(store, canaries()), range(4)))
    assert sorted(each.is_reference for each in moved) == [False, False, False, True]


def test_each_name_of_a_set_has_its_own_reference(store: str) -> None:
    assert send(store, canaries(name="a")) == FIRST
    assert send(store, canaries(OTHERS, name="b")) == FIRST
    assert send(store, canaries(name="a")).max == pytest.approx(0)
    assert send(store, canaries(name="b")).max > 0.1


def test_float16_storage_is_measured_exactly(store: str) -> None:
    send(store, canaries())
    stored = VECTORS.astype(np.float16).astype(np.float32)
    exact = distances(VECTORS, stored)
    assert 1e-9 < np.median(exact) < 1e-6
    assert send(store, canaries(stored)) == Moved(False, np.median(exact), exact.max())


def test_vectors_without_a_direction_differ_only_from_others() -> None:
    zero, one = np.zeros((1, 4), np.float32), np.ones((1, 4), np.float32)
    assert distances(zero, zero).tolist() == [0]
    assert distances(zero, one).tolist() == distances(one, zero).tolist() == [1]


def test_a_set_with_other_ids_is_refused_with_the_first_difference(store: str) -> None:
    send(store, canaries())
    with pytest.raises(PayloadError, match="always of the same ids; canary:texts:4 is missing"):
        send(store, canaries(VECTORS[:4]))
    with pytest.raises(PayloadError, match="canary:texts:5 is not one of them"):
        send(store, canaries(np.vstack([VECTORS, VECTORS[:1]])))


def test_canaries_have_the_dimension_of_the_model(
    store: str, connection: psycopg.Connection
) -> None:
    send(store, canaries())
    # Until the model has vectors, this is no more than the first guess.
    assert send(store, canaries(VECTORS[:, :4])) == FIRST
    assert count(connection) == 1
    connection.execute("update model set last_seq = 1")
    with pytest.raises(DimensionMismatch, match="dimension 4, not 8"):
        send(store, canaries())


def test_a_new_model_counts_among_the_models(store: str) -> None:
    with pytest.raises(TooManyModels):
        send(store, canaries(), max_models=0)
    send(store, canaries(), max_models=1)


@pytest.mark.usefixtures("patient_writers")
def test_canaries_of_a_model_that_is_removed_meanwhile_may_be_sent_again(
    store: str, connection: psycopg.Connection
) -> None:
    send(store, canaries())
    with connect(store) as other, ThreadPoolExecutor(1) as thread:
        with other.transaction():
            other.execute("delete from model")
            sending = thread.submit(send, store, canaries(), max_models=1)
            wait_for(lambda: waits_for_a_lock(connection), "the canaries")
        with pytest.raises(StoreUnavailable, match="model m is being removed"):
            sending.result(60)


def test_a_repeated_key_gets_the_first_answer(store: str, connection: psycopg.Connection) -> None:
    send(store, canaries())
    first = send(store, canaries(OTHERS, key="k"))
    assert send(store, canaries(OTHERS, key="k")) == first._replace(replayed=True)
    assert count(connection) == 2
    with pytest.raises(IdempotencyConflict, match="'k'"):
        send(store, canaries(VECTORS, key="k"))


def test_the_reference_and_the_newest_sets_are_kept(
    store: str, connection: psycopg.Connection
) -> None:
    for _ in range(KEPT_SETS + 5):
        send(store, canaries())
    assert count(connection) == KEPT_SETS + 1
    assert send(store, canaries(OTHERS)).median > 0.1
    for number in range(KEPT_NAMES):
        send(store, canaries(name=f"another-{number}"))
    names = connection.execute("select distinct canary_set from canary").fetchall()
    assert len(names) == KEPT_NAMES
    assert send(store, canaries(OTHERS)) == FIRST


def newest(connection: psycopg.Connection) -> changes.ModelRow:
    row = changes.model(connection, "m")
    assert row is not None
    return row


def wait(connection: psycopg.Connection, hours: float) -> None:
    """Date everything back."""
    connection.execute("update canary set received_at = received_at - %s", [timedelta(hours=hours)])


def test_the_exporter_reads_the_newest_distances_and_the_longest_gap(
    store: str, connection: psycopg.Connection
) -> None:
    send(store, canaries())
    wait(connection, 5)
    send(store, canaries(OTHERS))
    assert newest(connection).canary_max_distance == distances(VECTORS, OTHERS).max()
    assert newest(connection).canary_gap is None  # two sets do not show how often they come
    wait(connection, 4)
    send(store, canaries())
    found = newest(connection)
    assert found.canary_gap == pytest.approx(5 * 3_600, abs=60)
    assert found.canary_median_distance == pytest.approx(0, abs=1e-15)
    assert found.canaries_received_at is not None
    assert found.now - found.canaries_received_at < timedelta(minutes=1)


def test_sets_of_a_trial_do_not_show_how_often_they_come(
    store: str, connection: psycopg.Connection
) -> None:
    for _ in range(3):
        send(store, canaries())
    assert newest(connection).canary_gap is None
    for expected in (None, 24, 24):
        wait(connection, 24 if expected else 5)
        send(store, canaries())
        gap = newest(connection).canary_gap
        assert gap == (None if expected is None else pytest.approx(expected * 3_600, abs=60))


def test_many_replicas_that_send_at_once_show_the_gap_between_their_turns(
    store: str, connection: psycopg.Connection
) -> None:
    def turn(replicas: int) -> list[float | None]:
        found = []
        for _ in range(replicas):
            send(store, canaries())
            found.append(newest(connection).canary_gap)
        return found

    replicas = KEPT_SETS + 4
    assert set(turn(replicas)) == {None}
    for _ in range(2):
        wait(connection, 6)
        gaps = turn(replicas)
        # So three times the gap is longer than the next one.
        assert all(gap is not None and 0.7 * 21_600 <= gap <= 21_660 for gap in gaps)


def test_a_long_pause_is_forgotten_once_all_sets_that_are_kept_came_after_it(
    store: str, connection: psycopg.Connection
) -> None:
    for hours in (1, 1, 100, *[1] * KEPT_SETS):
        send(store, canaries())
        wait(connection, hours)
    assert newest(connection).canary_gap == pytest.approx(3_600, abs=60)


def test_sets_that_always_come_soon_after_one_another_show_that_within_an_hour(
    store: str, connection: psycopg.Connection
) -> None:
    gaps = []
    for _ in range(KEPT_SETS):
        send(store, canaries())
        gaps.append(newest(connection).canary_gap)
        wait(connection, 1 / 30)
    assert set(gaps[:-1]) == {None}
    assert gaps[-1] == pytest.approx(120, abs=60)


def test_sets_that_were_dated_by_a_clock_ahead_do_not_date_later_ones(
    store: str, connection: psycopg.Connection
) -> None:
    for _ in range(3):
        send(store, canaries())
        wait(connection, 1)
    connection.execute(
        "update canary set received_at = received_at + interval '1 year' where not is_reference"
    )
    moved = send(store, canaries(OTHERS))
    rows = connection.execute(
        "select received_at <= clock_timestamp(), is_reference, median_distance > 0.01,"
        " coalesce(longest_gap_seconds, 0) < 14400 from canary order by received_at"
    ).fetchall()
    assert rows == [
        (True, True, False, True),
        (True, False, False, True),
        (True, False, False, True),
        (True, False, True, True),
    ]
    assert not moved.is_reference


def test_an_accepted_set_is_the_reference(store: str, connection: psycopg.Connection) -> None:
    send(store, canaries())
    send(store, canaries(OTHERS))
    send(store, canaries(name="another"))
    assert accept(connection, "m") == ["another", "texts"]
    assert send(store, canaries(OTHERS)).max == pytest.approx(0)
    assert send(store, canaries()).max > 0.1


def test_canaries_go_with_their_model(store: str, connection: psycopg.Connection) -> None:
    send(store, canaries())
    models.remove(connection, "m")
    assert count(connection) == 0


def test_removed_canaries_leave_the_model(store: str, connection: psycopg.Connection) -> None:
    send(store, canaries())
    remove(connection, "m")
    row = changes.model(connection, "m")
    assert row is not None
    assert row.canaries_received_at is None
    for command in (accept, remove):
        with pytest.raises(NotFound, match="has no canaries"):
            command(connection, "m")
        with pytest.raises(NotFound, match="no model 'unknown'"):
            command(connection, "unknown")
