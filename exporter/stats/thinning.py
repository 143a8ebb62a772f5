"""Thinning: fewer rows from everywhere, whatever rhythm they come in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def thinned(n: int, most: int) -> NDArray[np.intp]:
    """Return which of n rows to look at: all or, of more than ``most``, one in each of many cells.

    Rows at equal distances would have the rhythm of the traffic: where titles and bodies alternate,
    every second row is a title. So a row stands at a random place in its cell, and the widths of
    the cells, which differ by one, come in a random order. Both are the same in every call.

    Source: stratified sampling with one row per stratum; Cochran (1977), "Sampling Techniques",
    chapter 8, on why equal distances fail if the rows are periodic.

    Parameters
    ----------
    n : int
    most : int
        At least 1 unless n is 0.

    Returns
    -------
    ndarray of intp, shape (min(n, most),)
        In ascending order, all different.
    """
    if n <= most:
        return np.arange(n)
    random = np.random.default_rng(0)
    width = random.permutation(np.diff(np.arange(most + 1) * n // most))
    rows: NDArray[np.intp] = np.cumsum(width) - width + random.integers(width)
    return rows
