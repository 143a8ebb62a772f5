"""Magnitudes: whether bytes are numbers, told by how much the magnitudes of the numbers differ."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

USUAL = 4.0
"""Largest usual spread. It is 1.6 for normally distributed numbers, and above 8 for bytes of
another type, whose mantissas are read as exponents."""
FEWEST = 4
"""Numbers, other than zero, without which nothing can be told."""
_LARGEST, _SMALLEST = 2.0**40, 2.0**-40
"""Limits of the largest component of a vector, beyond which all of it is absurd."""


def spread(numbers: NDArray[Any], fewest: int = FEWEST) -> float:
    """Return how much magnitudes differ: the standard deviation of their binary logarithms.

    Parameters
    ----------
    numbers : ndarray, shape (n,)
    fewest : int
        Numbers, other than zero, without which nothing can be told.

    Returns
    -------
    float
        Infinite for what is absurd, NaN if nothing can be told.
    """
    with np.errstate(invalid="ignore"):
        sizes = np.abs(numbers[numbers != 0].astype(np.float64))
    is_finite = np.isfinite(sizes)
    # A few that are not finite are a fault of the vector.
    if 2 * is_finite.sum() < len(sizes):
        return np.inf
    sizes = sizes[is_finite]
    if len(sizes) < fewest:
        return np.nan
    return float(np.log2(sizes).std()) if _SMALLEST < sizes.max() < _LARGEST else np.inf
