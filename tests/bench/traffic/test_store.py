"""The store keeps six hours whole, and an even sample of two weeks."""

from __future__ import annotations

import numpy as np
import pytest

from bench.traffic.store import Store, Stored

DAY = 86_400.0


def filled(days: float, per_minute: int) -> Store:
    """Return a store whose vectors hold the minute in which they arrived."""
    store = Store(1)
    for minute in range(round(days * 1_440)):
        times = 60.0 * minute + 60 * np.arange(1, 1 + per_minute) / per_minute
        store.append(times, np.full((per_minute, 1), minute, np.float32))
    return store


def test_vectors_are_numbered_from_1_in_the_order_of_arrival() -> None:
    store = filled(0.01, per_minute=3)
    found = store.between(0, DAY)
    assert found.seqs.tolist() == list(range(1, 43))
    assert (store.last_seq, store.last_time) == (42, 14 * 60)
    assert found.vectors[:, 0].tolist() == [seq // 3 for seq in range(42)]


def test_an_empty_batch_is_no_vector() -> None:
    store = Store(2)
    store.append(np.empty(0), np.empty((0, 2), np.float32))
    assert (store.last_seq, store.last_time) == (0, None)
    assert store.between(0, DAY).vectors.shape == (0, 2)


def test_a_read_begins_after_its_start_and_holds_its_end() -> None:
    store = filled(0.01, per_minute=3)
    assert store.between(140, 200).times.tolist() == [160, 180, 200]


def test_six_hours_are_whole_and_two_weeks_are_an_even_sample() -> None:
    store = filled(16, per_minute=17)
    end = 16 * DAY
    assert len(store.between(end - DAY / 4, end).seqs) == 6 * 60 * 17
    older = store.between(0, end - DAY / 4)
    assert 80_000 < len(older.seqs) < 161_000
    assert older.times[0] == pytest.approx(2 * DAY, abs=60 * 256 * 4 / 17)
    assert np.ptp(np.histogram(older.times, 20)[0]) <= 2 * 256
    numbers = (older.seqs - 1) // 256
    assert set(np.bincount(numbers - numbers[0])[1:-1]) == {0, 256}


def test_a_month_is_thinned_more_than_once() -> None:
    store = filled(30, per_minute=17)
    older = store.between(0, 29.7 * DAY)
    assert older.times[0] == pytest.approx(16 * DAY, abs=DAY)
    assert 40_000 < len(older.seqs) < 161_000


def test_a_spread_is_whole_stretches_over_all_the_time() -> None:
    found = filled(9, per_minute=17).spread(2 * DAY, 9 * DAY, 10_000)
    assert 9_000 < len(found.seqs) <= 10_000
    assert set(np.bincount((found.seqs - 1) // 256)) <= {0, 256, len(found.seqs) % 256}
    assert np.ptp(np.histogram(found.times, 10)[0]) <= 2 * 256


def test_the_first_vectors_are_found_while_they_are_there() -> None:
    store = filled(0.5, per_minute=17)
    assert store.first(5_000).seqs.tolist() == list(range(1, 5_001))
    with pytest.raises(AssertionError, match="not there any more"):
        filled(8, per_minute=17).first(5_000)


def test_a_copy_goes_its_own_way() -> None:
    store = filled(0.01, per_minute=1)
    other = store.copy()
    other.append(np.array([5_000.0]), np.zeros((1, 1), np.float32))
    assert (store.last_seq, other.last_seq) == (14, 15)
    assert len(store.between(0, DAY).seqs) == 14


def test_rows_keep_their_columns_together() -> None:
    rows = Stored(np.arange(3), np.arange(3.0), np.eye(3, dtype=np.float32))
    assert rows.at(rows.seqs == 2).vectors.tolist() == [[0, 0, 1]]
