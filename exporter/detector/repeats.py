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
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
        Share of a window that is no drift as repeats without popular vectors and bursts, by size:
        the largest in windows of consecutive vectors of the reference, or 10 % more than the mean
        of these windows.
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
        """Learn from the hashes of a reference, shape (n,), in the order of arrival.

        The share of repeats grows with the window, so windows are as large as those to judge. But
        at night, a regular job may have a share that it has in no window of all hours. So windows
        also lie within the stretches of a sample, which are shorter.
        """
        n = len(fingerprints)
        hashes, numbers, copies = np.unique(fingerprints, return_inverse=True, return_counts=True)
        of_popular = np.isin(hashes, often)
        # In each half, what is popular in the other one, too, is left out. So a vector that is
        # popular on one day only counts as that of the next day will, which no reference knows.
        in_first = np.bincount(numbers[: n // 2], minlength=len(hashes))
        known = [of_popular & (half >= _least(n // 2)) for half in (copies - in_first, in_first)]
        halves = _between([n // 2], n)
        gaps = np.flatnonzero(np.diff(stretches(positions))) + 1
        within = _between(np.union1d(gaps, [n // 2]), n)
        stretch, smallest = _median_length(within), min(50, n // 4)
        sizes = np.geomspace(smallest, n // 2, _SIZES).astype(np.intp)
        tolerated, tolerated_popular, usual = [], [], 0
        for size in sizes.tolist():
            parts = {size: halves}
            if stretch >= smallest:
                parts[min(size, stretch)] = within
            shares, shares_popular = [], []
            for length, ranges in parts.items():
                windows = [
                    _count(numbers[at : at + length], copies, known[at >= n // 2], of_popular)
                    for part in ranges
                    for at in range(part.start, part.stop - length + 1, length // 2)
                ]
                repeats, bursts, most = np.array(windows).T
                shares.append(_tolerated((repeats - bursts) / length, _TOLERATED_SHARE))
                shares_popular.append(_tolerated(most / length, _TOLERATED_POPULAR))
                usual = max(usual, int(bursts.max()))
            tolerated.append(max(shares))
            tolerated_popular.append(max(shares_popular))
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


def _between(cuts: ArrayLike, n: int) -> list[range]:
    edges = np.concatenate([[0], cuts, [n]]).tolist()
    return [range(first, last) for first, last in pairwise(edges)]


def _median_length(parts: Sequence[range]) -> int:
    """Return the length of the part that the median vector is in."""
    lengths = [len(part) for part in parts]
    return int(np.median(np.repeat(lengths, lengths)))


def _tolerated(shares: Floats, more: float) -> float:
    """Return the share of a window that is no drift, given those in windows of the reference."""
    usual = float(shares.mean())
    return max(float(shares.max()), usual + min(more, _TOLERATED_LEFT * (1 - usual)))


def _count(
    window: NDArray[np.intp],
    copies: NDArray[np.intp],
    known: NDArray[np.bool_],
    of_popular: NDArray[np.bool_],
) -> tuple[int, int, int]:
    """Count the repeats of a window of the reference, those in bursts, and the most popular vector.

    A query that is always frequent has few copies in a small window, but it is no burst.

    Parameters
    ----------
    window : ndarray, shape (w,)
        Number of each vector; equal ones have the same.
    copies : ndarray, shape (k,)
        Copies in the whole reference, by this number.
    known : ndarray of bool, shape (k,)
        Whether a vector is left out of the repeats.
    of_popular : ndarray of bool, shape (k,)
        Whether a vector is popular in the whole reference.
    """
    numbers, here = np.unique(window, return_counts=True)
    left = ~known[numbers]
    most = np.sort(here[left & (copies[numbers] <= _BURST)])[-_BURSTS:]
    return (
        int((here[left] - 1).sum()),
        _in_bursts(most.tolist()),
        int(here[of_popular[numbers]].max(initial=0)),
    )


def _in_bursts(copies: Iterable[int]) -> int:
    """Count the repeats in bursts, by the most copies."""
    return sum(each - 1 for each in copies if each <= _BURST)
