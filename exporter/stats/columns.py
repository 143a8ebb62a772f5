"""Sorted columns: the form of a sample that the exact statistics read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def sorted_columns(vectors: ArrayLike) -> NDArray[Any]:
    """Sort each dimension of a sample. Keep the result if a sample is compared often.

    Parameters
    ----------
    vectors : array_like, shape (n, d)
        Finite numbers. Half precision is widened, which is exact.

    Returns
    -------
    ndarray of float32 or float64, shape (d, n)
        One ascending row per dimension, contiguous because all readers iterate along it.

    Raises
    ------
    ValueError
        If the sample is empty, not two-dimensional or not finite.
    """
    array = np.asarray(vectors)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"vectors must have shape (n, d) with n, d > 0, got {array.shape}")
    kind = np.float64 if array.dtype.itemsize > 4 or array.dtype.kind != "f" else np.float32
    columns = np.ascontiguousarray(array.T, dtype=kind)
    if columns is array or columns.base is not None:
        columns = columns.copy()
    columns.sort(axis=1)
    # Infinities and NaN sort to the ends.
    if not (np.isfinite(columns[:, 0]).all() and np.isfinite(columns[:, -1]).all()):
        raise ValueError("vectors must be finite")
    return columns
