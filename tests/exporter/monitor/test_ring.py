"""Rings: the newest vectors, in order, whatever wraps around."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.monitor.ring import Arrivals, Ring

Vectors = NDArray[np.float32]


def test_a_ring_keeps_order_across_its_end(vectors: Vectors) -> None:
    ring = Ring(8, 10)
    for at in range(0, 25, 5):
        numbers = np.arange(at, at + 5)
        ring.append(
            Arrivals(numbers, vectors[numbers], numbers.astype(float), numbers.astype(np.float32))
        )
    held = ring.recall(15, 25)
    assert held.seqs.tolist() == list(range(15, 25))
    np.testing.assert_array_equal(held.vectors, vectors[15:25])
    assert held.times.tolist() == held.cosines.tolist() == list(range(15, 25))
    assert (ring.start, ring.end) == (15, 25)
    assert [ring.time(p) for p in (15, 24)] == [15.0, 24.0]
    assert ring.cosines(15, 25).tolist() == list(range(15, 25))


@pytest.mark.parametrize("count", [0, 4, 10, 15, 23])
def test_the_oldest_vector_after_a_time_is_found_wherever_the_ring_wraps(
    count: int, vectors: Vectors
) -> None:
    ring = Ring(8, 10)
    # Two vectors arrive at the same time.
    times = np.arange(count, dtype=np.float64) // 2
    for at in range(count):
        part = slice(at, at + 1)
        ring.append(Arrivals.numbered(vectors[part], times[part], after=at))
    for horizon in np.arange(-1, count / 2 + 1, 0.5):
        later = [p for p in range(ring.start, ring.end) if times[p] > horizon]
        assert ring.after(horizon) == min(later, default=count)


def test_arrivals_within_seconds_are_those_before_the_newest(vectors: Vectors) -> None:
    arrivals = Arrivals.numbered(vectors[:4], np.array([1.0, 5.0, 9.0, 10.0]))
    assert arrivals.within(5).seqs.tolist() == [3, 4]
    stepped_back = Arrivals.numbered(vectors[:4], np.array([1.0, 9.0, 2.0, 10.0]))
    assert stepped_back.within(5).seqs.tolist() == [2, 3, 4]
    assert len(arrivals.part(slice(0)).within(5)) == 0
    # The newest was stored while the clock was ahead.
    assert arrivals.within(5, now=6).seqs.tolist() == [2, 3, 4]


def test_arrivals_of_a_level_are_those_of_its_sample(vectors: Vectors) -> None:
    arrivals = Arrivals.numbered(vectors[:640], np.zeros(640), after=1_000)
    assert arrivals.sampled(0) is arrivals
    half, quarter = arrivals.sampled(4), arrivals.sampled(8)
    # Three deviations of a random half and quarter.
    assert len(half) == pytest.approx(320, abs=38)
    assert len(quarter) == pytest.approx(160, abs=33)
    assert set(quarter.seqs) < set(half.seqs) < set(range(1_001, 1_641))
    np.testing.assert_array_equal(half.vectors, vectors[half.seqs - 1_001])
