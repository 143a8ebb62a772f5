"""Total variation between two samples, bounded from below with cross-fitting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.stats.arrays import Floats

_CAUTION = 2.5
"""Standard errors by which a set must stand out on the other folds. Of two samples of the same
distribution, half have no such cut. A share of 10 % among 1,000 stands out by more."""


class Bound(NamedTuple):
    """An estimate that does not exceed the total variation on average.

    Attributes
    ----------
    estimate : float
        Between -1 and 1. Its expectation is 0 if both samples have the same distribution.
    error : float
        Its standard error.
    """

    estimate: float
    error: float


def lower_bound(
    scores: Sequence[Floats], is_current: NDArray[np.bool_], fold: NDArray[np.intp]
) -> Bound:
    """Estimate how much more of one sample than of another lies in a set.

    Total variation is the largest value of P(A) - Q(A) over all sets A. Here A is the set of
    vectors with a score above a cut, or empty. For each fold, the other folds choose the score and
    the cut, so the difference in the fold itself is unbiased. The set is empty unless it stands
    out on the other folds, which halves the noise when nothing has changed.

    Parameters
    ----------
    scores : sequence of ndarray, shape (m,)
        Scores of the vectors of both samples, each from a model that was fitted without the
        vector's fold. A higher score belongs rather to the current sample.
    is_current : ndarray of bool, shape (m,)
        Whether a vector belongs to the current sample P, else to the reference Q.
    fold : ndarray of intp, shape (m,)
        Folds 0 to k - 1. Each has vectors of both samples. If neighbouring vectors resemble each
        other, a fold must be a stretch of them.

    Returns
    -------
    Bound
        The error is that of independent vectors, or that which the folds show, whichever is
        larger.
    """
    folds = int(fold.max()) + 1
    difference, variance = np.zeros(folds), np.zeros(folds)
    for each in range(folds):
        here = fold == each
        cuts = [_cut(score[~here], is_current[~here]) for score in scores]
        best = max(range(len(cuts)), key=lambda at: cuts[at].gain)
        count = np.array([(here & is_current).sum(), (here & ~is_current).sum()])
        if cuts[best].gain <= 0:
            # Without a set nothing is known of the variance, so it is the largest possible.
            variance[each] = (0.25 / count).sum()
            continue
        above = scores[best][here] > cuts[best].level
        inside = np.array([above[is_current[here]].sum(), above[~is_current[here]].sum()])
        difference[each] = inside[0] / count[0] - inside[1] / count[1]
        share = cuts[best].share
        variance[each] = (share * (1 - share) / count).sum()
    independent = np.sqrt(variance.sum()) / folds
    between = difference.std(ddof=1) / np.sqrt(folds)
    return Bound(float(difference.mean()), float(max(independent, between)))


class _Cut(NamedTuple):
    """What lies above a level: how far it stands out, and the shares of both samples."""

    gain: float
    level: float
    share: Floats


def _cut(score: Floats, is_current: NDArray[np.bool_]) -> _Cut:
    """Choose the cut above which the current sample has most more than the reference."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.diff(score[order]) != 0, True)  # a cut never separates equal scores
    sides = np.stack([is_current[order], ~is_current[order]])
    above = np.cumsum(sides, axis=1)[:, ends]
    count = above[:, -1:]
    share = above / count
    error = np.sqrt((share * (1 - share) / count).sum(axis=0))
    gain = share[0] - share[1] - _CAUTION * error
    best = int(gain.argmax())
    # Halfway to the next score: vectors of another fold lie near the edges of both sides.
    levels = np.append(score[order][ends], -np.inf)
    return _Cut(float(gain[best]), float(levels[best : best + 2].mean()), share[:, best])
