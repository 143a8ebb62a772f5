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
    assert ring.after(20.0) == 21
    assert [ring.time(p) for p in (15, 24)] == [15.0, 24.0]
    assert ring.cosines(15, 25).tolist() == list(range(15, 25))


def test_arrivals_within_seconds_are_those_before_the_newest(vectors: Vectors) -> None:
    arrivals = Arrivals.numbered(vectors[:4], np.array([1.0, 5.0, 9.0, 10.0]))
    assert arrivals.within(5).seqs.tolist() == [3, 4]
    stepped_back = Arrivals.numbered(vectors[:4], np.array([1.0, 9.0, 2.0, 10.0]))
    assert stepped_back.within(5).seqs.tolist() == [2, 3, 4]
    assert len(arrivals.part(slice(0)).within(5)) == 0


def test_arrivals_of_a_level_are_those_of_its_sample(vectors: Vectors) -> None:
    arrivals = Arrivals.numbered(vectors[:640], np.zeros(640), after=1_000)
    assert arrivals.sampled(0) is arrivals
    half, quarter = arrivals.sampled(4), arrivals.sampled(8)
    # Three deviations of a random half and quarter.
    assert len(half) == pytest.approx(320, abs=38)
    assert len(quarter) == pytest.approx(160, abs=33)
    assert set(quarter.seqs) < set(half.seqs) < set(range(1_001, 1_641))
    np.testing.assert_array_equal(half.vectors, vectors[half.seqs - 1_001])
