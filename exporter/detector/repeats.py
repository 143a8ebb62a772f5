"""Repeats: how many equal vectors are usual, and what they do to the other statistics.

A popular query, a client that tries again and a nightly job send the same vector several times.
This is no drift. But a vector with many copies moves the mean of a window as a new topic would.

1. **Popular vectors of the reference** are left out on both sides. Their features are known, so
   they are subtracted from the sums of a window, and their share may change.
2. **Other repeats** in a window make every statistic less certain, by the variance that they add.
3. **Too many repeats** are drift of their own: the encoder is stuck. Bursts of clients that try
   again count for themselves, so that one in the reference does not hide a stuck encoder.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
"""Window sizes at which the share of repeats is measured."""
_TOLERATED_SHARE = 0.1
"""Share of a window that may be repeats beyond the usual share: twice that of a popular query of
5 %, half of that of an encoder that is stuck for every fifth vector."""
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
    order = order[copies[order] >= max(_FEWEST_COPIES, _POPULAR * n)]
    left = n - np.cumsum(copies[order])
    different = len(hashes) - np.arange(1, len(order) + 1)
    enough = (left >= max(_FEWEST_LEFT, _LEFT * n)) & (different >= _FEWEST_LEFT)
    return hashes[order[enough]]


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
    """

    n: int
    total: NDArray[np.int64]
    pairs: int
    squares: int


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
        Share of repeats without bursts that is no drift, by size: the largest in windows of
        consecutive vectors of the reference, or 10 % more than the mean of these windows.
    usual_in_bursts : int
        The largest number of repeats that bursts made in one of these windows.
    reach : ndarray, shape (c,)
        Statistic of a single unusual vector, as a multiple of the mean of that statistic.
    """

    popular: NDArray[np.int64]
    features: NDArray[np.int64]
    size: Floats
    tolerated: Floats
    usual_in_bursts: int
    reach: Floats

    @classmethod
    def fit(
        cls,
        fingerprints: NDArray[np.int64],
        popular: NDArray[np.int64],
        features: NDArray[np.int64],
        reach: Floats,
    ) -> Repeats:
        """Learn from the hashes of a reference, shape (n,), in the order of arrival."""
        n = len(fingerprints)
        _, numbers, copies = np.unique(fingerprints, return_inverse=True, return_counts=True)
        sizes = np.geomspace(min(50, n // 4), n // 2, _SIZES).astype(np.intp)
        tolerated, usual = [], 0
        for size in sizes.tolist():
            starts = range(0, n - size + 1, size // 2)
            windows = [_count(numbers[start : start + size], copies) for start in starts]
            repeats, bursts = np.array(windows).T
            shares = (repeats - bursts) / size
            tolerated.append(max(shares.max(), shares.mean() + _TOLERATED_SHARE))
            usual = max(usual, int(bursts.max()))
        return cls(popular, features, np.log(sizes), np.array(tolerated), usual, reach)

    def rest(self, window: Sums) -> Rest:
        """Return a window without the popular vectors."""
        copies = np.array([window.copies(key) for key in self.popular.tolist()], np.int64)
        pairs = copies * (copies - 1)
        return Rest(
            window.n - int(copies.sum()),
            window.total - copies @ self.features,
            window.pairs - int(pairs.sum()),
            window.squares - int((pairs * pairs).sum()),
        )

    def decades(self, window: Sums) -> float:
        """Return the decades of surprise of the number of repeats.

        This is a rule, not a probability: equal vectors have many harmless causes that no
        reference shows. Bursts as large as those of the reference and a share of others are
        tolerated, and the decades grow with the share beyond them. They do not grow far while two
        bursts explain it: bursts leave a window soon, but an encoder that is stuck goes on.
        """
        if not window.repeats:
            return 0.0
        share = float(np.interp(np.log(window.n), self.size, self.tolerated))
        beyond = window.repeats - share * window.n - _TOLERATED
        if beyond <= 0:
            return 0.0
        bursts = _in_bursts(window.most_copies(_BURSTS), window.n)
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


def _count(window: NDArray[np.intp], copies: NDArray[np.intp]) -> tuple[int, int]:
    """Count the repeats of a window of the reference, and those of them that are in bursts.

    A query that is always frequent has few copies in a small window, but it is no burst.

    Parameters
    ----------
    window : ndarray, shape (w,)
        Number of each vector; equal ones have the same.
    copies : ndarray, shape (k,)
        Copies in the whole reference, by this number.
    """
    numbers, here = np.unique(window, return_counts=True)
    most = np.sort(here[copies[numbers] <= _BURST])[-_BURSTS:]
    return len(window) - len(numbers), _in_bursts(most.tolist(), len(window))


def _in_bursts(copies: Iterable[int], n: int) -> int:
    """Count the repeats in bursts, by the most copies; none if they are nearly the whole window."""
    bursts = sum(each - 1 for each in copies if each <= _BURST)
    return bursts if bursts <= _MOST_IN_BURSTS * n else 0
