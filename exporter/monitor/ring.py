"""The newest vectors of a model, in the order of their arrival."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.stats.arrays import Floats, Vectors
from ingest.store.changes import is_sampled


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """Stored vectors in the order of their numbers.

    Attributes
    ----------
    seqs : ndarray of int64, shape (m,)
    vectors : ndarray of float32, shape (m, d)
    times : ndarray of float64, shape (m,)
        When they were stored, in seconds since the epoch.
    cosines : ndarray of float32, shape (m,)
        Cosine of each vector with the one that it revises; NaN where it revises none, or where the
        cosine is not known.
    """

    seqs: NDArray[np.int64]
    vectors: Vectors
    times: Floats
    cosines: Vectors

    @classmethod
    def numbered(
        cls, vectors: Vectors, times: Floats, after: int = 0, cosines: Vectors | None = None
    ) -> Arrivals:
        """Assign the numbers after ``after``. Without cosines, no vector revises another."""
        if cosines is None:
            cosines = np.full(len(vectors), np.nan, np.float32)
        return cls(np.arange(after + 1, after + len(vectors) + 1), vectors, times, cosines)

    def __len__(self) -> int:
        return len(self.seqs)

    def part(self, chosen: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Arrivals:
        """Return some of them."""
        return self._map(lambda column: column[chosen])

    def sampled(self, level: int) -> Arrivals:
        """Return those in the sample of a level."""
        return self.part(is_sampled(self.seqs, level)) if level else self

    def within(self, seconds: float, now: float = math.inf) -> Arrivals:
        """Leave out the first ones that were stored so many seconds before the newest or more.

        If the newest is from after ``now``, because the clock was ahead then, ``now`` counts.
        """
        if not len(self):
            return self
        horizon = min(float(self.times[-1]), now) - seconds
        return self.part(slice(_first_later(self.times, horizon), None))

    def put(self, slots: NDArray[np.intp], arrivals: Arrivals) -> None:
        """Replace those at these places."""
        for name in self.__slots__:
            getattr(self, name)[slots] = getattr(arrivals, name)

    def resized(self, size: int) -> Arrivals:
        """Return a larger copy; its new places hold anything."""
        held = len(self)

        def copied(column: NDArray[Any]) -> NDArray[Any]:
            larger = np.empty((size, *column.shape[1:]), column.dtype)
            larger[:held] = column
            return larger

        return self._map(copied)

    def _map(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Arrivals:
        return Arrivals(*(change(getattr(self, name)) for name in self.__slots__))


def _first_later(times: NDArray[np.float64], horizon: float) -> int:
    """Return the place of the earliest time that is later than a horizon; the end if none is.

    Times ascend, unless the store's clock was ahead: those of vectors before this place are then
    later than they were. A query for what is later than the horizon begins there, too.
    """
    later = np.where(times > horizon, times, np.inf)
    first = int(np.argmin(later)) if len(later) else 0
    return first if first < len(later) and later[first] < np.inf else len(later)


class Ring:
    """The newest vectors of a stream, addressed by position: 0 for the first ever appended.

    Parameters
    ----------
    dimension : int
    capacity : int
        Vectors kept. Memory grows with the vectors that are there, up to this many.
    """

    def __init__(self, dimension: int, capacity: int) -> None:
        self.dimension = dimension
        self._capacity = capacity
        self._kept = Arrivals(
            np.empty(0, np.int64),
            np.empty((0, dimension), np.float32),
            np.empty(0, np.float64),
            np.empty(0, np.float32),
        )
        self.end = 0

    @property
    def start(self) -> int:
        """Position of the oldest vector kept."""
        return max(0, self.end - self._capacity)

    def append(self, arrivals: Arrivals) -> None:
        """Add the newest vectors."""
        self._grow(min(self._capacity, self.end + len(arrivals)))
        self._kept.put(self._slots(self.end, self.end + len(arrivals)), arrivals)
        self.end += len(arrivals)

    def _grow(self, size: int) -> None:
        held = len(self._kept)
        if size > held:
            # Before the ring is full, slot and position are the same: resizing keeps both.
            self._kept = self._kept.resized(min(self._capacity, max(size, 2 * held)))

    def _slots(self, first: int, last: int) -> NDArray[np.intp]:
        return np.arange(first, last) % self._capacity

    def recall(self, first: int, last: int) -> Arrivals:
        """Copy the vectors at positions first <= p < last."""
        return self._kept.part(self._slots(first, last))

    def cosines(self, first: int, last: int) -> Vectors:
        """Copy the cosines of the vectors at positions first <= p < last."""
        return self._kept.cosines[self._slots(first, last)]

    def time(self, position: int) -> float:
        """Return when the vector at a position was stored, in seconds since the epoch."""
        return float(self._kept.times[position % self._capacity])

    def after(self, horizon: float) -> int:
        """Return the position of the earliest vector that was stored later than ``horizon``."""
        times = self._kept.times[: self.end - self.start]
        oldest = self.start % self._capacity
        in_order = np.concatenate([times[oldest:], times[:oldest]])
        return self.start + _first_later(in_order, horizon)
