"""Principal axes of a reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST = 512
"""Maximum number of axes. A few thousand vectors do not determine more of them."""
_DENSE = 1024
"""Largest dimension for which the whole covariance matrix is diagonalised."""
_PROBES = 64
"""Maximum number of leading axes, and of quiet axes."""
_DEAD = 0.1
"""Minimum variance of a quiet axis, where the mean is 1. Below it, rounding to int8 is visible."""


@dataclass(frozen=True, slots=True)
class Axes:
    """Orthonormal principal axes, in order of falling variance.

    Attributes
    ----------
    vectors : ndarray of float32, shape (d, k)
    quiet : ndarray of float32, shape (d, q)
        Axes of small variance, on which noise is visible.
    """

    vectors: NDArray[np.float32]
    quiet: NDArray[np.float32]

    @property
    def leading(self) -> NDArray[np.float32]:
        """The first axes, on which new clusters are visible; shape (d, p)."""
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
    """Find the leading axes by subspace iteration, without the covariance matrix.

    Source: Halko, Martinsson, Tropp (2011), algorithm 4.4.
    """
    guess = random.standard_normal((centred.shape[1], keep)).astype(np.float32)
    for _ in range(2):
        guess = np.linalg.qr(centred.T @ (centred @ guess))[0]
    inside = centred @ guess
    _, turn = np.linalg.eigh(inside.T @ inside)
    vectors: NDArray[np.float32] = guess @ np.ascontiguousarray(turn[:, ::-1])
    return vectors
