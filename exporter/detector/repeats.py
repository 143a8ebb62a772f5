"""Repeats: how many equal vectors are usual, and what they do to the other statistics.

A popular query, a client that tries again and a nightly job send the same vector several times.
This is no drift. But a vector with many copies moves the mean of a window as a new topic would.

1. **Popular vectors of the reference** are left out on both sides. Their features are known, so
   they are subtracted from the sums of a window, and their share may change.
2. **Other repeats** in a window make every statistic less certain, by the variance that they add.
3. **Too many of these** are drift of their own: the encoder is stuck. Bursts of clients that try
   again count for themselves, so that one in the reference does not hide a stuck encoder.
4. **Too much of one popular vector** is drift, too: the encoder or its input is stuck on this one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.detector.dependence import stretches
from exporter.detector.sums import Sums
from exporter.stats.arrays import Floats

_POPULAR = 0.002
"""Share of the reference from which a vector is popular. Rarer ones move a mean by less than its
own deviation."""
_FEWEST_COPIES = 3
_MOST_POPULAR = 64
"""Popular vectors, at most: each is looked up in every window."""
_LEFT = 0.1
"""Share of the reference that is not popular, at least. In FAQ and chat, most vectors are."""
_FEWEST_LEFT = 50
_SIZES = 5
"""Window sizes at which the usual shares are measured."""
_TOLERATED_SHARE = 0.1
"""Share of a window that may be repeats beyond the usual share: twice that of a popular query of
5 %, half of that of an encoder that is stuck for every fifth vector."""
_TOLERATED_POPULAR = 0.25
"""The same for the share of one popular vector. It is more, because the share of a regular job
grows whenever there are few other vectors."""
_TOLERATED_LEFT = 0.5
"""Part of what the usual share leaves of a window that is tolerated, at most."""
_TOLERATED = 2
"""Repeats that are tolerated beyond this share: a popular query varies most in a small window."""
_DECADES = 200.0
"""Decades per share of the window beyond what is tolerated: two for every 1 %."""
_BURSTS = 2
_BURST = 50
"""Two vectors of up to 50 copies each may be those of clients that try again."""
_MOST_IN_BURSTS = 0.9
"""Share of a window that bursts explain, at most."""
_BURST_DECADES = 5.5
"""Decades of repeats that such bursts explain, at most: drift if they last, but nothing sudden."""


def popular(fingerprints: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the hashes of the popular vectors among these, shape (n,) to (p,), most popular first.

    The geometry comes from the others. So the first ones only, if fewer than a tenth of the vectors
    would be left, or too few different ones.
    """
    n = len(fingerprints)
    hashes, copies = np.unique(fingerprints, return_counts=True)
    order = np.argsort(-copies, kind="stable")[:_MOST_POPULAR]
    order = order[copies[order] >= _least(n)]
    left = n - np.cumsum(copies[order])
    different = len(hashes) - np.arange(1, len(order) + 1)
    enough = (left >= max(_FEWEST_LEFT, _LEFT * n)) & (different >= _FEWEST_LEFT)
    return hashes[order[enough]]


def _least(n: int) -> float:
    """Return how many copies a popular vector has among n, at least."""
    return max(_FEWEST_COPIES, _POPULAR * n)


class Rest(NamedTuple):
    """A window without the popular vectors of the reference.

    Attributes
    ----------
    n : int
        Number of vectors.
    total : ndarray of int64, shape (f,)
        Sum of each feature.
    pairs, squares : int
        Sum of c (c - 1) over different vectors with c copies each, and of its square.
    repeats : int
        Vectors that equal an earlier one.
    most_popular : int
        Copies of the most frequent of the popular vectors, which are left out.
    """

    n: int
    total: NDArray[np.int64]
    pairs: int
    squares: int
    repeats: int
    most_popular: int


@dataclass(frozen=True, slots=True)
class Repeats:
    """What a reference says about equal vectors.

    Attributes
    ----------
    popular : ndarray of int64, shape (p,)
        Hashes of the popular vectors.
    features : ndarray of int64, shape (p, f)
        Their features, as `Features.total` sums them.
    size : ndarray, shape (g,)
        Logarithms of window sizes.
    tolerated : ndarray, shape (g,)
        Share of repeats that is no drift, by size, without popular vectors and bursts: the largest
        in windows of the reference, or 10 % more than the mean of these windows.
    tolerated_popular : ndarray, shape (g,)
        The same for the most frequent of the popular vectors, but 25 % more than the mean.
    usual_in_bursts : int
        The largest number of repeats that bursts made in one of these windows.
    reach : ndarray, shape (c,)
        Statistic of a single unusual vector, as a multiple of the mean of that statistic.
    """

    popular: NDArray[np.int64]
    features: NDArray[np.int64]
    size: Floats
    tolerated: Floats
    tolerated_popular: Floats
    usual_in_bursts: int
    reach: Floats

    @classmethod
    def fit(
        cls,
        fingerprints: NDArray[np.int64],
        positions: NDArray[np.intp],
        often: NDArray[np.int64],
        features: NDArray[np.int64],
        reach: Floats,
    ) -> Repeats:
        """Learn from a reference of n vectors, in the order of arrival.

        Parameters
        ----------
        fingerprints : ndarray of int64, shape (n,)
        positions : ndarray of intp, shape (n,)
            Place of each vector in its stream, ascending; a sample has gaps.
        often : ndarray of int64, shape (p,)
            Hashes of the popular vectors, as `popular` finds them.
        features : ndarray of int64, shape (p, f)
        reach : ndarray, shape (c,)
        """
        n = len(fingerprints)
        reference = _Reference(fingerprints, often)
        within = np.split(np.arange(n), _cuts(positions))
        lengths = [len(rows) for rows in within]
        stretch = int(np.median(np.repeat(lengths, lengths)))
        smallest = min(50, n // 4)
        # The share of repeats grows with the window. Where stretches are shorter than a window,
        # they are joined. First come those of quiet hours, which have little but a regular job.
        joined = reference.joined(within if stretch >= smallest else [])
        sizes = np.geomspace(smallest, n // 2, _SIZES).astype(np.intp)
        tolerated, tolerated_popular, usual = [], [], 0
        for size in sizes.tolist():
            repeats, bursts, most = reference.windows(within if size <= stretch else joined, size)
            tolerated.append(_tolerated((repeats - bursts) / size, _TOLERATED_SHARE))
            tolerated_popular.append(_tolerated(most / size, _TOLERATED_POPULAR))
            usual = max(usual, int(bursts.max()))
        if smallest <= stretch < n // 2:
            # There may be too few quiet hours to fill a window, and this share does not grow.
            _, _, most = reference.windows(within, stretch)
            at_most = np.where(sizes > stretch, most.max() / stretch, 0.0)
            tolerated_popular = np.maximum(tolerated_popular, at_most).tolist()
        return cls(
            often,
            features,
            np.log(sizes),
            np.array(tolerated),
            np.array(tolerated_popular),
            usual,
            reach,
        )

    def rest(self, window: Sums) -> Rest:
        """Return a window without the popular vectors."""
        copies = np.array([window.copies(key) for key in self.popular.tolist()], np.int64)
        pairs = copies * (copies - 1)
        return Rest(
            window.n - int(copies.sum()),
            window.total - copies @ self.features,
            window.pairs - int(pairs.sum()),
            window.squares - int((pairs * pairs).sum()),
            window.repeats - int(np.maximum(copies - 1, 0).sum()),
            int(copies.max(initial=0)),
        )

    def decades(self, window: Sums, rest: Rest) -> float:
        """Return the decades of surprise of the number of repeats.

        This is a rule, not a probability: equal vectors have many harmless causes that no
        reference shows. Shares as large as those of the reference and some more are tolerated, and
        the decades grow with the share beyond them.
        """
        return max(self._of_rest(window, rest), self._of_popular(window, rest))

    def _of_popular(self, window: Sums, rest: Rest) -> float:
        if not rest.most_popular:
            return 0.0
        share = float(np.interp(np.log(window.n), self.size, self.tolerated_popular))
        beyond = rest.most_popular - share * window.n - _TOLERATED
        return _DECADES * max(beyond, 0.0) / window.n

    def _of_rest(self, window: Sums, rest: Rest) -> float:
        """Return the decades of vectors that are not popular.

        Bursts as large as those of the reference are tolerated. The decades do not grow far while
        two bursts explain them: bursts leave a window soon, but an encoder that is stuck goes on.
        """
        if not rest.repeats:
            return 0.0
        share = float(np.interp(np.log(window.n), self.size, self.tolerated))
        beyond = rest.repeats - share * window.n - _TOLERATED
        if beyond <= 0:
            return 0.0
        bursts = _in_bursts(window.most_copies(_BURSTS, self.popular))
        if bursts > _MOST_IN_BURSTS * window.n:
            bursts = 0
        decades = _DECADES * max(beyond - min(bursts, self.usual_in_bursts), 0.0) / window.n
        if decades <= _BURST_DECADES:
            return decades
        return max(_DECADES * (beyond - bursts) / window.n, _BURST_DECADES)

    def variance(self, rest: Rest) -> Floats:
        """Return the variance that repeats add to each statistic, shape (c,).

        In units of the variance of a single vector, as 1/n is for n different vectors. A vector
        with c copies among n adds c (c - 1) / n^2 (Kish 1965, "Survey Sampling", for a mean with
        weights).

        A few vectors with many copies do not average out. They count as unusual vectors: their
        part is the root of the sum of squares, and it counts `reach` times.
        """
        few = math.sqrt(rest.squares)
        added: Floats = (rest.pairs + (self.reach - 1) * few) / rest.n**2
        return added


def _tolerated(shares: Floats, more: float) -> float:
    """Return the share of a window that is no drift, given those in windows of the reference."""
    usual = float(shares.mean())
    return max(float(shares.max()), usual + min(more, _TOLERATED_LEFT * (1 - usual)))


class _Reference:
    """The vectors of a reference, whose repeats are counted."""

    def __init__(self, fingerprints: NDArray[np.int64], often: NDArray[np.int64]) -> None:
        hashes, numbers, copies = np.unique(fingerprints, return_inverse=True, return_counts=True)
        self._middle = len(numbers) // 2
        self._numbers, self._copies = numbers, copies
        self._is_popular = np.isin(hashes, often)
        first = np.bincount(numbers[: self._middle], minlength=len(hashes))
        self._of_half = first, copies - first
        # In each half, what is popular in the other one, too, is left out. So a vector that is
        # popular on one day only counts as that of the next day will, which no reference knows.
        least = _least(self._middle)
        self._left_out = [self._is_popular & (other >= least) for other in self._of_half[::-1]]

    def windows(self, parts: Sequence[NDArray[np.intp]], size: int) -> NDArray[np.intp]:
        """Count in all windows within parts, which overlap by half, shape (3, w); see `count`."""
        windows = [
            self.count(rows[start : start + size])
            for rows in parts
            for start in range(0, len(rows) - size + 1, size // 2)
        ]
        return np.array(windows).T

    def count(self, rows: NDArray[np.intp]) -> tuple[int, int, int]:
        """Count repeats among rows of one half, those in bursts, and the most popular vector.

        A query that is always frequent has few copies in a small window, but it is no burst.
        """
        numbers, here = np.unique(self._numbers[rows], return_counts=True)
        counts = ~self._left_out[self._half(rows)][numbers]
        most = np.sort(here[counts & (self._copies[numbers] <= _BURST)])[-_BURSTS:]
        return (
            int((here[counts] - 1).sum()),
            _in_bursts(most.tolist()),
            int(here[self._is_popular[numbers]].max(initial=0)),
        )

    def joined(self, stretches: Sequence[NDArray[np.intp]]) -> list[NDArray[np.intp]]:
        """Join the stretches of each half, in two orders; or return the halves if there are none.

        First come those with the largest share of one popular vector, or of repeats in the half.
        """
        if not stretches:
            return np.split(np.arange(len(self._numbers)), [self._middle])
        halves = [[rows for rows in stretches if self._half(rows) == half] for half in (0, 1)]
        return [
            np.concatenate(sorted(half, key=share, reverse=True))
            for half in halves
            for share in (self._share_popular, self._share_repeated)
        ]

    def _half(self, rows: NDArray[np.intp]) -> int:
        return int(rows[0] >= self._middle)

    def _share_popular(self, rows: NDArray[np.intp]) -> float:
        return self.count(rows)[2] / len(rows)

    def _share_repeated(self, rows: NDArray[np.intp]) -> float:
        half = self._half(rows)
        is_repeated = (self._of_half[half] > 1) & ~self._left_out[half]
        return float(is_repeated[self._numbers[rows]].mean())


def _cuts(positions: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return where a reference is cut: at its middle, and where a sample of a stream has gaps."""
    gaps = np.flatnonzero(np.diff(stretches(positions))) + 1
    return np.union1d(gaps, [len(positions) // 2])


def _in_bursts(copies: Iterable[int]) -> int:
    """Count the repeats in bursts, by the most copies."""
    return sum(each - 1 for each in copies if each <= _BURST)
