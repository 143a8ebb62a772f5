"""Shares: how often each value occurs in one sample, and whether that differs from another."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from exporter.stats.arrays import Floats

OTHER = "(other)"
"""All values that are not listed."""
_BLOCKS = 10
_FEWEST = 50
"""Observations of each sample below which nothing is tested."""
_LEAST = 0.01
"""Values with a smaller share in both samples are not listed."""
_ALPHA = 0.01
"""Chance that a value is called changed if no share is, over all values together."""


@dataclass(frozen=True, slots=True)
class Share:
    """How often a value occurs in a sample, and in another one before it.

    Attributes
    ----------
    value : str
    share, share_before : float
        Ratio of the observations with this value, 0 to 1.
    p_value : float
        Chance of such a difference without a change; 1 for samples that are too small. It is not
        corrected for the number of values.
    changed : bool
        Whether the difference is surer than chance, over all values together.
    """

    value: str
    share: float
    share_before: float
    p_value: float
    changed: bool


def compare(
    values: Sequence[str], before: Sequence[str], most: int, always: Collection[str] = ()
) -> tuple[Share, ...]:
    """Compare the shares of values in a sample with those in an earlier one.

    Observations of one session have the same value, and a client that tries again sends some twice.
    So they do not count one by one. Each sample is cut into ten blocks of consecutive observations,
    and a t-test allows for as much variance as there is between the blocks of either sample, and at
    least for that of independent observations.

    Parameters
    ----------
    values, before : sequence of str
        In the order of arrival; none is `OTHER`.
    most : int
        Values that are listed, at most.
    always : collection of str
        Values that are listed first, whatever their shares.

    Returns
    -------
    tuple of Share
        The values with the largest shares, largest first, then `OTHER` if there are more. Empty
        without observations on either side.

    Notes
    -----
    The ratio of that variance to that of independent observations is the design effect (Kish 1965,
    "Survey Sampling"); batch means estimate it. The Bonferroni correction is applied over the
    values that are listed. Shares that follow the hours of the day differ between a few hours and a
    day: the test does not allow for that.
    """
    if not len(values) or not len(before):
        return ()
    names, codes = np.unique(np.array([*values, *before], object), return_inverse=True)
    now, then = codes[: len(values)], codes[len(values) :]
    shares, shares_before = (
        np.bincount(side, minlength=len(names)) / len(side) for side in (now, then)
    )
    largest = np.maximum(shares, shares_before)
    sure = np.isin(names, list(always))
    order = np.lexsort((-largest, ~sure))
    listed = order[(sure | (largest >= _LEAST))[order]][:most]
    listed = listed[np.argsort(-largest[listed], kind="stable")]
    # The last column counts all others.
    column = np.full(len(names), len(listed), np.intp)
    column[listed] = np.arange(len(listed))
    columns = len(listed) + (len(listed) < len(names))
    named = [*names[listed].tolist(), OTHER][:columns]
    one_hot = np.eye(columns)
    p_values = _p_values(one_hot[column[now]], one_hot[column[then]])
    return tuple(
        Share(
            name,
            float((column[now] == at).mean()),
            float((column[then] == at).mean()),
            float(p_values[at]),
            bool(p_values[at] * columns <= _ALPHA),
        )
        for at, name in enumerate(named)
    )


def _p_values(now: Floats, before: Floats) -> Floats:
    """Compare the mean of each column, shape (n, c) and (m, c); two-sided."""
    n, m = len(now), len(before)
    if min(n, m) < _FEWEST:
        return np.ones(now.shape[1])
    # Half an observation more: a share of 0 or 1 is not known exactly.
    pooled = (now.sum(axis=0) + before.sum(axis=0) + 0.5) / (n + m + 1)
    variance = np.max([_variance(now), _variance(before), pooled * (1 - pooled)], axis=0)
    error = np.sqrt(variance * (1 / n + 1 / m))
    difference = np.abs(now.mean(axis=0) - before.mean(axis=0))
    p_values: Floats = 2 * stdtr(_BLOCKS - 1, -difference / error)
    return p_values


def _variance(observed: Floats) -> Floats:
    """Return the variance of a mean of n rows, times n, from the means of ten blocks of rows."""
    length = len(observed) // _BLOCKS
    blocks = observed[: _BLOCKS * length].reshape(_BLOCKS, length, -1).mean(axis=1)
    variance: Floats = length * blocks.var(axis=0, ddof=1)
    return variance
