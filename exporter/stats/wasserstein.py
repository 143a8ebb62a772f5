"""First Wasserstein distance of every dimension."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exporter.stats.columns import sorted_columns

_ROWS = 32
"""Dimensions processed at a time: the working copy in double precision fits the cache."""


def distance(reference: ArrayLike, current: ArrayLike) -> NDArray[np.float64]:
    """Return the mean distance by which values must move to turn one sample into the other.

    W_1 = integral over 0 < q < 1 of |Q_reference(q) - Q_current(q)|, per dimension, exactly.

    Not suitable to compare dimensions of different scale. Divide by the standard deviations of
    the reference first.

    Parameters
    ----------
    reference : array_like, shape (n, d)
    current : array_like, shape (m, d)

    Returns
    -------
    ndarray of float64, shape (d,)
        In the units of the values.

    Raises
    ------
    ValueError
        If a sample is empty or not finite, or their dimensions differ.
    """
    return of_columns(sorted_columns(reference), sorted_columns(current))


def of_columns(reference: NDArray[Any], current: NDArray[Any]) -> NDArray[np.float64]:
    """Return the distances of samples that `columns.sorted_columns` has sorted."""
    if len(reference) != len(current):
        raise ValueError(f"dimensions differ: {len(reference)} and {len(current)}")
    of_reference, of_current, weight = _steps(reference.shape[1], current.shape[1])
    moved = np.empty(len(reference))
    for at in range(0, len(reference), _ROWS):
        rows = slice(at, at + _ROWS)
        gap = np.subtract(
            reference[rows].take(of_reference, axis=1),
            current[rows].take(of_current, axis=1),
            dtype=np.float64,
        )
        moved[rows] = np.abs(gap, out=gap) @ weight
    return moved


def _steps(n: int, m: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Cut 0..1 where a quantile function steps. The cuts are the same in every dimension.

    Returns
    -------
    of_reference, of_current : ndarray of intp
        Index of the order statistic that each function equals between two cuts.
    weight : ndarray of float64
        Length of each piece.
    """
    # In units of 1 / (n m) the cuts are integers.
    cuts = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    return cuts[:-1] // m, cuts[:-1] // n, np.diff(cuts) / (n * m)
