"""Quality of vectors: signs of a degraded model that need no baseline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DEAD = 1e-3
"""Dimensions with at most this share of the median standard deviation are dead."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Properties of a sample of vectors.

    Attributes
    ----------
    norm : float
        Mean Euclidean norm.
    effective_rank : float
        Number of dimensions that the vectors use, 1 to d: the participation ratio
        (sum of l)^2 / (sum of l^2) of the eigenvalues l of the covariance.
    dead_dimensions : int
        Number of dimensions that hardly vary.
    duplicate_ratio : float
        Share of vectors that equal an earlier one, 0 to 1.
    """

    norm: float
    effective_rank: float
    dead_dimensions: int
    duplicate_ratio: float


def assess(vectors: NDArray[np.float32]) -> Quality:
    """Assess vectors, shape (n, d), n at least 2."""
    centred = np.subtract(vectors, vectors.mean(axis=0, dtype=np.float64), dtype=np.float64)
    # In units of 1 / sqrt(n), which cancel.
    deviation = np.sqrt(np.einsum("ij,ij->j", centred, centred))
    return Quality(
        norm=float(norms(vectors).mean()),
        effective_rank=_effective_rank(centred),
        dead_dimensions=int((deviation <= _DEAD * np.median(deviation)).sum()),
        duplicate_ratio=1 - len({row.tobytes() for row in vectors}) / len(vectors),
    )


def norms(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the Euclidean norm of each vector, shape (n, d)."""
    # Squares of float32 may need a double: that of 1e20 overflows, that of 1e-23 is 0.
    squares: NDArray[np.float64] = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    return np.sqrt(squares)


def _effective_rank(centred: NDArray[np.float64]) -> float:
    """Return the participation ratio.

    The eigenvalues of a matrix C sum to its trace, and their squares to its squared norm.
    """
    largest = max(float(centred.max()), -float(centred.min()))
    if largest == 0:
        return 1.0
    # The rank does not depend on the scale. At this one, float32 is precise enough, and half as
    # expensive.
    scaled = (centred / largest).astype(np.float32)
    # X'X and XX' have the same norm and trace. The smaller one is cheaper.
    small = scaled @ scaled.T if len(scaled) < scaled.shape[1] else scaled.T @ scaled
    squares = float(np.square(small, dtype=np.float64).sum())
    return float(np.trace(small, dtype=np.float64)) ** 2 / squares
