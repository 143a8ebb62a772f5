"""Unrest: how much more the hours of a reference differ than chance and its season explain.

Topics come and go from day to day. A large window shows this alone as a surprise. How much of it is
usual is learned from the hours and days of the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.detector.calibration import Tails
from exporter.detector.season import Season
from exporter.detector.totals import Totals
from exporter.stats.arrays import Floats

_HOURS = (6, 24)
"""Hours of the means that are compared: those of a slow window, and a day."""
_MOST_LEVERAGE = 0.95
"""Where nearly everything is followed, what is left says nothing."""
_TINY = 1e-30
_ERRORS = 1.5
"""Standard errors that the excess must have to count at all."""


def unrest(
    known: tuple[Totals, Season],
    known_linear: tuple[Totals, Season],
    statistics: Callable[[Floats], Floats],
    tails: Tails,
    is_linear: NDArray[np.bool_],
) -> Floats:
    """Return the variance between hours, shape (c,), where that of a single vector counts as 1.

    This is by how much the means of some hours vary more than those of windows of as many vectors.
    The season of a week also follows much of what was new in its days. So the excess is divided by
    the share that it cannot follow. It shrinks towards zero by the share that chance explains.

    If each day is new, this is the variance of a new day. If days follow from each other, the
    season follows more of them than is assumed, and this is too little.

    Source: DerSimonian and Laird (1986), "Meta-analysis in clinical trials", for the variance
    between groups by the method of moments.

    Parameters
    ----------
    known, known_linear : tuple of (Totals, Season)
        Sums of features by the hour of a week, and the season fitted to them: of all f features,
        and of those that come first and are linear, for which there are more vectors.
    statistics : callable
        Turns shifts of feature means, shape (w, f), into statistics, shape (w, c).
    tails : Tails
        Their null distributions.
    is_linear : ndarray of bool, shape (c,)
        Which statistics read linear features only.

    Returns
    -------
    ndarray of float64, shape (c,)
        The larger one of those between six hours and between days; 0 or more.
    """
    found = [np.zeros(len(is_linear))]
    for hours in _HOURS:
        # An hour without vectors says nothing.
        filled = known[0].joined(hours).n > 0
        means = _Means.of(*known, hours, filled)
        linear = _Means.of(*known_linear, hours, filled)
        others = means.deviations[:, linear.deviations.shape[1] :]
        deviations = np.hstack([linear.deviations, others])
        n = np.where(is_linear, linear.n, means.n)
        mean, deviation = tails.moments(int(n.mean()))
        # By chance, the mean of the squares is what the season does not follow of 1.
        by_chance = 1 - np.where(is_linear, linear.followed, means.followed)
        excess = (n * statistics(deviations) / mean - by_chance).sum(axis=0)
        error = _ERRORS * deviation / mean * np.sqrt(np.square(by_chance).sum(axis=0))
        kept = np.clip(1 - np.square(error / np.maximum(excess, _TINY)), 0, 1)
        free = n * (1 - np.where(is_linear, linear.leverage, means.leverage))
        found.append(known[0].weeks * kept * excess / free.sum(axis=0))
    largest: Floats = np.max(found, axis=0)
    return largest + 0.0  # no -0.0


class _Means(NamedTuple):
    """Means of groups of hours.

    Attributes
    ----------
    deviations : ndarray of float64, shape (h, f)
        From the expectation.
    n : ndarray of float64, shape (h, 1)
        Number of vectors.
    followed, leverage : ndarray of float64, shape (h, 1)
        Share of the variance of each mean that the season follows, and that it could follow.
    """

    deviations: Floats
    n: Floats
    followed: Floats
    leverage: Floats

    @classmethod
    def of(cls, totals: Totals, season: Season, hours: int, filled: NDArray[np.bool_]) -> _Means:
        joined = totals.joined(hours)
        n = joined.n[filled, None]
        waves = joined.waves[filled] / n
        deviations = joined.features[filled] / n - [season.expected(each) for each in waves]
        followed = n[:, 0] * [season.uncertainty(each) for each in waves]
        leverage = np.minimum(totals.leverage(hours)[filled], _MOST_LEVERAGE)
        return cls(deviations, n, np.minimum(followed, 1)[:, None], leverage[:, None])
