"""A store in memory: what PostgreSQL keeps of one model, for the reads that the exporter does."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.traffic.source import Vectors

_WHOLE_SECONDS = 6 * 3_600.0
"""Age up to which every vector is kept, as the longest window needs."""
_KEPT_SECONDS = 14 * 86_400.0
"""Age up to which a sample is kept, as the comparison of two weeks needs."""
_SAMPLED = 160_000
"""Maximum vectors of that sample."""
_STRETCH = 256
"""Vectors of a stretch, as in a large `Stretches`."""


class Stored(NamedTuple):
    """Consecutive rows: numbers, times in seconds since the epoch, and vectors, shape (m, d)."""

    seqs: NDArray[np.int64]
    times: NDArray[np.float64]
    vectors: Vectors

    def at(self, rows: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Stored:
        """Return some of the rows."""
        return Stored(self.seqs[rows], self.times[rows], self.vectors[rows])


class Store:
    """The vectors of one model, numbered from 1.

    Older vectors are a sample of stretches: every second, fourth, ... stretch by number.

    Parameters
    ----------
    dimension : int

    Attributes
    ----------
    last_seq : int
        Number of the newest vector.
    last_time : float or None
        When it was stored.
    """

    def __init__(self, dimension: int) -> None:
        self._empty = Stored(np.empty(0, np.int64), np.empty(0), np.empty((0, dimension), "f4"))
        self._sampled: deque[Stored] = deque()
        self._whole: deque[Stored] = deque()
        self._sampled_count = 0
        self._step = 1
        self.last_seq = 0
        self.last_time: float | None = None

    def copy(self) -> Store:
        """Return another store of the same vectors."""
        other = Store(self._empty.vectors.shape[1])
        other.__dict__.update(self.__dict__)
        other._sampled, other._whole = self._sampled.copy(), self._whole.copy()
        return other

    def append(self, times: NDArray[np.float64], vectors: Vectors) -> None:
        """Store the newest vectors, shape (m, d), with their times, shape (m,)."""
        if not len(times):
            return
        seqs = np.arange(self.last_seq + 1, self.last_seq + 1 + len(times))
        self._whole.append(Stored(seqs, times, vectors))
        self.last_seq = int(seqs[-1])
        self.last_time = float(times[-1])
        while self._whole[0].times[-1] < self.last_time - _WHOLE_SECONDS:
            self._sample(self._whole.popleft())
        while self._sampled and self._sampled[0].times[-1] < self.last_time - _KEPT_SECONDS:
            self._sampled_count -= len(self._sampled.popleft().seqs)

    def _sample(self, block: Stored) -> None:
        kept = self._thinned(block)
        if len(kept.seqs):
            self._sampled.append(kept)
            self._sampled_count += len(kept.seqs)
        if self._sampled_count > _SAMPLED:
            self._step *= 2
            halved = (self._thinned(block) for block in self._sampled)
            self._sampled = deque(block for block in halved if len(block.seqs))
            self._sampled_count = sum(len(block.seqs) for block in self._sampled)

    def _thinned(self, block: Stored) -> Stored:
        return block.at((block.seqs - 1) // _STRETCH % self._step == 0)

    def first(self, count: int) -> Stored:
        """Return the first vectors ever; none of them may have left the store."""
        found = self.between(-np.inf, np.inf).at(slice(count))
        assert list(found.seqs[[0, -1]]) == [1, count], "the first vectors are not there any more"
        return found

    def spread(self, start: float, end: float, most: int) -> Stored:
        """Return stretches of at most so many vectors, spread evenly over a span."""
        # What is newer than six hours is not sampled yet.
        found = self._thinned(self.between(start, end))
        if len(found.seqs) <= most:
            return found
        stretch = (found.seqs - 1) // _STRETCH
        numbers = np.unique(stretch)
        even = np.linspace(0, len(numbers) - 1, most // _STRETCH).astype(np.intp)
        return found.at(np.isin(stretch, numbers[even]))

    def after(self, seq: int) -> Stored:
        """Return the vectors after a number; all of them if they are of the newest six hours."""
        blocks: list[Stored] = []
        for block in reversed(self._whole):
            if block.seqs[-1] <= seq:
                break
            blocks.insert(0, block)
        if not blocks:
            return self._empty
        joined = Stored(*(np.concatenate(columns) for columns in zip(*blocks, strict=True)))
        return joined.at(joined.seqs > seq)

    def between(self, start: float, stop: float) -> Stored:
        """Return the vectors stored at start < time <= stop, in order.

        All of the newest six hours, and a sample of the older ones.
        """
        blocks = [
            block
            for kept in (self._sampled, self._whole)
            for block in kept
            if len(block.seqs) and block.times[-1] > start and block.times[0] <= stop
        ]
        if not blocks:
            return self._empty
        joined = Stored(*(np.concatenate(columns) for columns in zip(*blocks, strict=True)))
        return joined.at((joined.times > start) & (joined.times <= stop))
