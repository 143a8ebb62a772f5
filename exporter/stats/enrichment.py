"""Enrichment: whether something is more frequent in one sample than in another.

`scipy.stats` is imported late, by the functions that use it: its import takes a third of the start
of an exporter, and 47 MB. Most exporters need it only once a window drifts, or for a trend.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exporter.stats.arrays import Floats

_BLOCKS = 20
_TINY = 1e-250
"""p-values below it are computed as logarithms."""


def log_p_value(
    count: ArrayLike, n: int, other_count: ArrayLike, other_n: int, effect: ArrayLike = 1.0
) -> Floats:
    """Return the logarithm of the one-sided p-value of Fisher's exact test.

    Parameters
    ----------
    count, other_count : array_like of int
        How many of the first and of the other sample have a property.
    n, other_n : int
        Sizes of the samples.
    effect : array_like of float
        The `design_effect` of the samples, one for all or one for each count. All numbers are
        divided by it and rounded.

    Returns
    -------
    ndarray
        Natural logarithm of the probability that so many or more of those with the property fall
        into the first sample by chance. p-values themselves would underflow.
    """
    from scipy.stats import hypergeom

    ours, theirs, size, other_size = np.broadcast_arrays(
        *(_divided(number, effect) for number in (count, other_count, n, other_n))
    )
    every, together = size + other_size, ours + theirs
    p = np.asarray(hypergeom.sf(ours - 1, every, together, size), np.float64)
    log_p: Floats = np.asarray(np.log(np.clip(p, _TINY, 1.0)))
    under = p < _TINY
    if under.any():  # slow, so only where it is needed
        log_p[under] = hypergeom.logsf(ours[under] - 1, every[under], together[under], size[under])
    return log_p


def _divided(number: ArrayLike, effect: ArrayLike) -> NDArray[np.intp]:
    divided: NDArray[np.intp] = np.rint(np.asarray(number) / np.asarray(effect)).astype(np.intp)
    return divided


def log_p_value_in_blocks(
    rows: NDArray[np.intp], n: int, other_rows: NDArray[np.intp], other_n: int
) -> float:
    """Return the logarithm of the one-sided p-value of a t-test of the shares in blocks.

    Neighbouring vectors resemble each other where they come in sessions. Fisher's test counts each
    by itself and is too sure then. A block of consecutive vectors holds whole sessions.

    Parameters
    ----------
    rows, other_rows : ndarray of intp
        Which vectors of the first and of the other sample have the property, in order of arrival.
    n, other_n : int
        Sizes of the samples. The smaller one has twenty blocks, the other one more of that length.
    """
    from scipy.stats import t

    length = max(min(n, other_n) // _BLOCKS, 1)
    shares, others = _shares(rows, n, length), _shares(other_rows, other_n, length)
    if min(len(shares), len(others)) < 2:
        return 0.0
    # A sample whose blocks happen to have none does not know how much shares vary. Without a
    # change, both vary alike.
    variance = max(shares.var(ddof=1), others.var(ddof=1), 1 / (length * max(n, other_n)))
    error = np.sqrt(variance * (1 / len(shares) + 1 / len(others)))
    freedom = min(len(shares), len(others)) - 1
    return float(t.logsf((shares.mean() - others.mean()) / error, freedom))


def _shares(rows: NDArray[np.intp], n: int, length: int) -> Floats:
    """Return the share of the rows in each whole block of some length."""
    blocks = n // length
    within = rows[rows < blocks * length]
    return np.bincount(within // length, minlength=blocks) / length
