"""The change point of a series: a step in its level."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from exporter.stats.autocorrelation import long_run_variance

_FREQUENCIES = 8
_ALPHA = 0.001


def step(values: NDArray[np.float64], shortest: int) -> int | None:
    """Find where the level of equally spaced values, shape (n,), changed most; NaN for gaps.

    Only a step that stands out alone is found: by Student's t, autocorrelation allowed for,
    with Bonferroni's correction at 0.1 %. Waves, and steps there and back, are none.

    Parameters
    ----------
    values : ndarray
    shortest : int
        Values that a level lasts at least.

    Returns
    -------
    int or None
        Index of the first value of the new level; None without a step.
    """
    n = len(values)
    known = np.isfinite(values)
    at = np.arange(shortest, n - shortest + 1)
    if not len(at):
        return None
    count, total = np.cumsum(known), np.cumsum(np.where(known, values, 0.0))
    before, after = count[at - 1], count[-1] - count[at - 1]
    at, before, after = (array[(before > 0) & (after > 0)] for array in (at, before, after))
    if not len(at):
        return None
    lower, upper = total[at - 1] / before, (total[-1] - total[at - 1]) / after
    step = np.abs(upper - lower) * np.sqrt(before * after / (before + after))
    best = int(step.argmax())
    level = np.where(np.arange(n) < at[best], lower[best], upper[best])
    variance = long_run_variance(np.where(known, values - level, 0.0), _FREQUENCIES)
    surprise = step[best] / max(variance, np.finfo(float).tiny) ** 0.5
    significant = 2 * stats.t.sf(surprise, _FREQUENCIES) * len(at) < _ALPHA
    return int(at[best]) if significant and step[best] > 0 else None
