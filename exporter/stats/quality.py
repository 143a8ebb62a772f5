"""Quality of vectors as such: signs of a degraded model, whatever the baseline says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DEAD = 1e-3
"""Share of the median standard deviation below which a dimension carries nothing."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What is seen of some vectors without comparing them.

    Attributes
    ----------
    norm : float
        Mean Euclidean norm.
    effective_rank : float
        Dimensions that the vectors really use, 1 to d: the participation ratio
        (sum of l)^2 / sum of l^2 of the covariance's eigenvalues l.
    dead_dimensions : int
        Dimensions that hardly vary.
    duplicate_ratio : float
        Share of vectors that equal an earlier one, 0 to 1.
    """

    norm: float
    effective_rank: float
    dead_dimensions: int
    duplicate_ratio: float


def assess(vectors: NDArray[np.float32]) -> Quality:
    """Assess vectors, shape (n, d) with n of at least 2."""
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    deviation = np.sqrt(np.einsum("ij,ij->j", centred, centred) / len(vectors))
    return Quality(
        norm=float(norms(vectors).mean()),
        effective_rank=_effective_rank(centred),
        dead_dimensions=int((deviation <= _DEAD * np.median(deviation)).sum()),
        duplicate_ratio=1 - len({row.tobytes() for row in vectors}) / len(vectors),
    )


def norms(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the Euclidean norm of each vector, shape (n, d)."""
    # A float32 squared may be none: 1e20 is too large, 1e-23 too small.
    squares: NDArray[np.float64] = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    return np.sqrt(squares)


def _effective_rank(centred: NDArray[np.float64]) -> float:
    """Get by without eigenvalues: their sum is C's trace, that of their squares |C|^2."""
    largest = max(float(centred.max()), -float(centred.min()))
    if largest == 0:
        return 1.0
    # The rank has no scale. At this one, products of float32, at half the cost, hold it.
    scaled = (centred / largest).astype(np.float32)
    # |X'X| = |XX'|: the smaller of the two is enough.
    small = scaled @ scaled.T if len(scaled) < scaled.shape[1] else scaled.T @ scaled
    squares = float(np.square(small, dtype=np.float64).sum())
    return float(np.trace(small, dtype=np.float64)) ** 2 / squares
