"""Compare vectors of the same ids: which are sent again, and which revise the earlier vector."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-6
"""Largest cosine distance, and largest relative difference in length, of the same vector.

An encoder on a GPU does not return exactly the same floats twice.
"""


def compare(
    before: NDArray[np.float32], after: NDArray[np.float32]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Compare each row of ``before`` with the same row of ``after``.

    A vector that is all zeros is the same only as another one.

    Parameters
    ----------
    before, after : ndarray of float32, shape (n, d)
        Finite.

    Returns
    -------
    same : ndarray of bool, shape (n,)
        Whether the rows are equal, or differ by at most :data:`TOLERANCE` in cosine distance and
        in relative length.
    cosine : ndarray of float64, shape (n,)
        Cosine similarity, -1 to 1; NaN if one of the rows is all zeros.
    """
    # In float32, the squares of long vectors overflow and the cosine has too few digits.
    old, new = before.astype(np.float64), after.astype(np.float64)
    old_length, new_length = np.linalg.norm(old, axis=1), np.linalg.norm(new, axis=1)
    with np.errstate(invalid="ignore"):
        cosine = np.einsum("ij,ij->i", old, new) / (old_length * new_length)
    cosine = np.clip(cosine, -1, 1)
    longer = np.maximum(old_length, new_length)
    is_near = (1 - cosine <= TOLERANCE) & (abs(new_length - old_length) <= TOLERANCE * longer)
    return is_near | (old == new).all(axis=1), cosine
