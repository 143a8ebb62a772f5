"""Change point of a series: a step in its level."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from exporter.stats.autocorrelation import long_run_variance

_FREQUENCIES = 8
"""Degrees of freedom of the variance estimate."""
_ALPHA = 0.001
"""Share of series without a step in which one is found."""


def step(values: NDArray[np.float64], shortest: int) -> int | None:
    """Find the step in the level of equally spaced values, shape (n,); NaN for gaps.

    The series is cut where the means before and after differ most, in units of the standard
    deviation of their difference for independent values. The difference is then tested by
    Student's t with a variance that allows for autocorrelation, and Bonferroni's correction
    for the number of possible cuts.

    A single step is found. A wave, or a step up and back down, is not: what remains after one
    cut still varies slowly, which raises the variance.

    Parameters
    ----------
    values : ndarray
    shortest : int
        Minimum number of values in each level. If the best cut is closer to an end, there is no
        step: the new level may be a short excursion.

    Returns
    -------
    int or None
        Index of the first value of the new level; None without a step.
    """
    n = len(values)
    known = np.isfinite(values)
    at = np.arange(1, n)
    count, total = np.cumsum(known), np.cumsum(np.where(known, values, 0.0))
    before, after = count[:-1], known.sum() - count[:-1]
    comparable = (before > 0) & (after > 0)
    allowed = comparable & (at >= shortest) & (at <= n - shortest)
    if not allowed.any():
        return None
    at, before, after, sum_before = (array[comparable] for array in (at, before, after, total[:-1]))
    lower, upper = sum_before / before, (total[-1] - sum_before) / after
    change = np.abs(upper - lower) * np.sqrt(before * after / (before + after))
    best = int(change.argmax())
    if not allowed[comparable][best] or change[best] == 0:
        return None
    level = np.where(np.arange(n) < at[best], lower[best], upper[best])
    # Without the gaps: as zeros, they would lower the variance.
    variance = long_run_variance((values - level)[known], _FREQUENCIES)
    surprise = change[best] / max(variance, np.finfo(float).tiny) ** 0.5
    p_value = 2 * stdtr(_FREQUENCIES, -surprise) * allowed.sum()
    return int(at[best]) if p_value < _ALPHA else None
