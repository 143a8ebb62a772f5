"""Two-sample Kolmogorov-Smirnov statistic of every dimension."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import kolmogorov

from exporter.stats.columns import sorted_columns

_STEP = 16
"""Every 16th point is searched first."""


def statistic(reference: ArrayLike, current: ArrayLike) -> NDArray[np.float64]:
    """Largest distance of the two empirical distribution functions, per dimension.

    D = sup_t |F_reference(t) - F_current(t)|, exactly, ties included.

    Not suitable to decide by the smallest of d p-values whether a window drifted: the tests are
    dependent, and a correction for their number costs most of the power. Use the detector's score.

    Parameters
    ----------
    reference : array_like, shape (n, d)
    current : array_like, shape (m, d)

    Returns
    -------
    ndarray of float64, shape (d,)
        Between 0 and 1.

    Raises
    ------
    ValueError
        If a sample is empty or not finite, or their dimensions differ.
    """
    return of_columns(sorted_columns(reference), sorted_columns(current))


def of_columns(reference: NDArray[Any], current: NDArray[Any]) -> NDArray[np.float64]:
    """Return the statistic of samples that `columns.sorted_columns` has sorted."""
    if len(reference) != len(current):
        raise ValueError(f"dimensions differ: {len(reference)} and {len(current)}")
    return np.array([_distance(x, y) for x, y in zip(reference, current, strict=True)])


def p_value(statistic: ArrayLike, n: int, m: int) -> NDArray[np.float64]:
    """Return the asymptotic p-value of statistics of samples of n and m values.

    It is conservative if values tie. Source: Kolmogorov's limit law, with sqrt(nm / (n + m)).
    """
    return np.asarray(kolmogorov(np.sqrt(n * m / (n + m)) * np.asarray(statistic)))


def _distance(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Distance of two sorted rows.

    Between two points of y only F_x moves, and it only grows, so the supremum is attained
    at a point of y or just before one:

        D = max over j of  j/m - #{x <= y_j}/n  and  #{x < y_j}/n - (j-1)/m,   j = 1..m

    (among equal y the last j wins on the left, the first on the right). Both counts grow
    with j, so the values at every 16th point bound those between. Only stretches whose bound
    exceeds the best value found so far are searched completely.
    """
    n, m = len(x), len(y)
    knots = np.append(np.arange(0, m - 1, _STEP), m - 1)
    below, upto = _counts(x, y[knots])
    best = max(((knots + 1) / m - upto / n).max(), (below / n - knots / m).max())
    bound = np.maximum(knots[1:] / m - upto[:-1] / n, below[1:] / n - (knots[:-1] + 1) / m)
    (open_,) = np.nonzero(bound > best)
    if len(open_):
        points = (knots[open_, None] + np.arange(1, _STEP)).ravel()
        points = points[points < m]
        below, upto = _counts(x, y[points])
        best = max(best, ((points + 1) / m - upto / n).max(), (below / n - points / m).max())
    return float(best)


def _counts(x: NDArray[Any], at: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Count the x below, and the x below or equal to, each of some points."""
    below = np.searchsorted(x, at, side="left")
    # The two differ only at points that equal some x.
    meets = x[np.minimum(below, len(x) - 1)] == at
    upto = below
    if meets.any():
        upto = below.copy()
        upto[meets] = np.searchsorted(x, at[meets], side="right")
    return below, upto
