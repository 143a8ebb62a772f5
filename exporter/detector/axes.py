"""Principal axes of a reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST = 512
"""Axes kept: beyond, a few thousand vectors cannot tell one from another."""
_DENSE = 1024
"""Largest dimension whose full covariance is diagonalised."""
_PROBES = 64
_DEAD = 0.1
"""Variance, of a mean of 1, below which rounding to int8 would look like drift."""


@dataclass(frozen=True, slots=True)
class Axes:
    """Orthonormal axes, the one with the largest variance first.

    Attributes
    ----------
    vectors : ndarray of float32, shape (d, k)
    quiet : ndarray of float32, shape (d, q)
        Axes of little variance: where noise shows.
    """

    vectors: NDArray[np.float32]
    quiet: NDArray[np.float32]

    @property
    def leading(self) -> NDArray[np.float32]:
        """The first few: where new clusters show."""
        return self.vectors[:, : min(_PROBES, len(self.vectors) // 2)]

    @classmethod
    def fit(cls, centred: NDArray[np.float32], random: np.random.Generator) -> Axes:
        """Find the axes of centred vectors, shape (n, d)."""
        n, d = centred.shape
        keep = min(_MOST, d)
        if d <= _DENSE:
            _, vectors = np.linalg.eigh(centred.T @ centred)
            vectors = vectors[:, ::-1]
            rest = vectors[:, d // 2 :]
            vectors = np.ascontiguousarray(vectors[:, :keep])
        else:
            vectors = _subspace(centred, keep, random)
            rest = random.standard_normal((d, _PROBES)).astype(np.float32)
            rest = np.linalg.qr(rest - vectors @ (vectors.T @ rest))[0]
        alive = np.square(centred @ rest).sum(axis=0) > _DEAD * n
        return cls(vectors, np.ascontiguousarray(rest[:, alive][:, -_PROBES:]))


def _subspace(
    centred: NDArray[np.float32], keep: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """Find leading axes by subspace iteration; the covariance is never formed.

    Source: Halko, Martinsson, Tropp (2011), algorithm 4.4.
    """
    guess = random.standard_normal((centred.shape[1], keep)).astype(np.float32)
    for _ in range(2):
        guess = np.linalg.qr(centred.T @ (centred @ guess))[0]
    inside = centred @ guess
    _, turn = np.linalg.eigh(inside.T @ inside)
    vectors: NDArray[np.float32] = guess @ np.ascontiguousarray(turn[:, ::-1])
    return vectors
