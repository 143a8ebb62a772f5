"""Quality of vectors: signs of a degraded model that need no baseline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1_024
"""Vectors that are copied in double precision at a time; as many as dimensions, if more."""
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


def assess(vectors: NDArray[np.float32], fingerprints: NDArray[np.int64] | None = None) -> Quality:
    """Assess vectors.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
        At least two.
    fingerprints : ndarray of int64, shape (n,), optional
        Those of a detector. Without them, only equal bits make equal vectors.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    squares, largest = np.zeros(vectors.shape[1]), 0.0
    for centred in _centred(vectors, mean):
        squares += np.einsum("ij,ij->j", centred, centred)
        largest = max(float(centred.max()), -float(centred.min()), largest)
    # In units of 1 / sqrt(n), which cancel.
    deviation = np.sqrt(squares)
    if fingerprints is None:
        # Copies of all vectors would take as much memory again. Two of 50,000 have the same hash,
        # of 64 bits, with a probability of 1e-10.
        different = {hash(row.tobytes()) for row in vectors}
    else:
        different = set(fingerprints.tolist())
    return Quality(
        norm=float(norms(vectors).mean()),
        effective_rank=_effective_rank(vectors, mean, largest),
        dead_dimensions=int((deviation <= _DEAD * np.median(deviation)).sum()),
        duplicate_ratio=1 - len(different) / len(vectors),
    )


def norms(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the Euclidean norm of each vector, shape (n, d)."""
    # Squares of float32 may need a double: that of 1e20 overflows, that of 1e-23 is 0.
    squares: NDArray[np.float64] = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    return np.sqrt(squares)


def _centred(
    vectors: NDArray[np.float32], mean: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    """Yield the vectors without their mean, a block at a time."""
    # Fewer vectors than dimensions are one block: XX' needs each pair of them.
    size = max(_BLOCK, vectors.shape[1])
    for start in range(0, len(vectors), size):
        yield vectors[start : start + size] - mean


def _effective_rank(
    vectors: NDArray[np.float32], mean: NDArray[np.float64], largest: float
) -> float:
    """Return the participation ratio of vectors whose largest difference from the mean is known.

    The eigenvalues of a matrix C sum to its trace, and their squares to its squared norm.
    """
    if largest == 0:
        return 1.0
    is_wide = len(vectors) < vectors.shape[1]
    products = np.zeros((min(vectors.shape),) * 2)
    for centred in _centred(vectors, mean):
        # The rank does not depend on the scale. At this one, float32 is precise enough, and half as
        # expensive.
        scaled = np.divide(centred, largest, out=centred).astype(np.float32)
        # X'X and XX' have the same norm and trace. The smaller one is cheaper.
        products += scaled @ scaled.T if is_wide else scaled.T @ scaled
    squares = float(np.square(products).sum())
    return float(np.trace(products)) ** 2 / squares
