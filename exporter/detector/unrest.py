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


def unrest(
    known: tuple[Totals, Season],
    known_linear: tuple[Totals, Season],
    statistics: Callable[[Floats], Floats],
    tails: Tails,
    is_linear: NDArray[np.bool_],
) -> Floats:
    """Return the variance between hours, shape (c,), where that of a single vector counts as 1.

    Of each statistic, this is what the means of some hours exceed those of windows of as many
    vectors by. The season of a week also follows much of what was new in its days. So the excess is
    divided by the share that it cannot follow.

    Source: DerSimonian and Laird (1986), "Meta-analysis in clinical trials", for the variance
    between groups by the method of moments.

    Parameters
    ----------
    known, known_linear : tuple of (Totals, Season)
        Sums of features by the hour of a week, and the season fitted to them: of all f features,
        and of those that come first and are linear.
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

    def of_hours(hours: int) -> Floats:
        of_all, of_linear = (_Means.of(*each, hours) for each in (known, known_linear))
        n, followed, leverage = (
            np.where(is_linear, linear[:, None], whole[:, None])
            for whole, linear in zip(of_all[1:], of_linear[1:], strict=True)
        )
        deviations = of_all.deviations
        deviations[:, : of_linear.deviations.shape[1]] = of_linear.deviations
        # By chance alone, the squares are what the season does not follow of 1.
        squares = n * statistics(deviations) / tails.mean_of(int(n.mean()))
        excess = squares - (1 - followed)
        found: Floats = excess.sum(axis=0) / (n * (1 - leverage)).sum(axis=0)
        return found * known[0].weeks

    variance: Floats = np.max([np.zeros(len(is_linear)), *map(of_hours, _HOURS)], axis=0)
    return variance


class _Means(NamedTuple):
    """Means of hours: how far they are from the expectation, shape (h, f), and others, shape (h,).

    Their number of vectors, the share of their variance that the season follows, and the share that
    it could follow.
    """

    deviations: Floats
    n: Floats
    followed: Floats
    leverage: Floats

    @classmethod
    def of(cls, totals: Totals, season: Season, hours: int) -> _Means:
        joined = totals.joined(hours)
        n = np.maximum(joined.n, 1)
        waves = joined.waves / n[:, None]
        deviations = joined.features / n[:, None] - [season.expected(each) for each in waves]
        followed = n * [season.uncertainty(each) for each in waves]
        leverage = np.minimum(totals.leverage(hours), _MOST_LEVERAGE)
        return cls(deviations, joined.n, np.minimum(followed, 1), leverage)
