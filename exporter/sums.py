"""Running sums: all a window needs to be scored, in integers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from exporter.features import Features
    from exporter.marginals import Bins


class Sums:
    """Running sums over one window of vectors.

    Everything is an integer, so adding and removing a vector leaves no trace, in any order
    and any batches, and sums of parts merge to exactly the sums of the whole.

    Made by `Detector.sums`; only sums of one detector merge.

    Attributes
    ----------
    n : int
        Vectors in the window.
    total : ndarray of int64
        Sum of each feature.
    bins : ndarray of int32, shape (d * 256,)
        Vectors per bin of each dimension.
    """

    def __init__(self, features: Features, bins: Bins) -> None:
        self._features = features
        self._bins = bins
        self._copies: dict[int, int] = {}
        self.n = 0
        self.total = np.zeros(features.size, np.int64)
        self.bins = np.zeros(bins.size, np.int32)

    @property
    def repeats(self) -> int:
        """Vectors that equal an earlier one of the window, bit by bit."""
        return self.n - len(self._copies)

    def add(self, batch: ArrayLike) -> None:
        """Take in vectors, shape (m, d)."""
        self._apply(batch, 1)

    def remove(self, batch: ArrayLike) -> None:
        """Let go of vectors added before, shape (m, d)."""
        self._apply(batch, -1)

    def merge(self, other: Sums) -> None:
        """Take in all vectors of another window of the same detector."""
        if other._features is not self._features:
            raise ValueError("sums of different detectors do not merge")
        self.n += other.n
        self.total += other.total
        self.bins += other.bins
        for key, copies in other._copies.items():
            self._copies[key] = self._copies.get(key, 0) + copies

    def copy(self) -> Sums:
        """Return sums that change independently."""
        twin = Sums(self._features, self._bins)
        twin.merge(self)
        return twin

    def _apply(self, batch: ArrayLike, sign: int) -> None:
        vectors = checked(batch, self._features.dimension)
        self.n += sign * len(vectors)
        self.total += sign * self._features.total(vectors)
        self._bins.count(vectors, self.bins, sign)
        for key in fingerprints(vectors):
            copies = self._copies.pop(key, 0) + sign
            if copies:
                self._copies[key] = copies


def checked(batch: ArrayLike, dimension: int) -> NDArray[np.float32]:
    """Return vectors as float32, shape (m, d), or say what is wrong with them."""
    array = np.asarray(batch)
    if array.ndim != 2 or array.shape[1] != dimension:
        raise ValueError(f"vectors must have shape (n, {dimension}), got {array.shape}")
    with np.errstate(over="ignore"):
        vectors = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise ValueError("vectors must be finite in float32")
    return vectors


def fingerprints(vectors: NDArray[np.float32]) -> list[int]:
    """Hash each vector; equal vectors, and in practice only those, have equal hashes."""
    return [hash(row.tobytes()) for row in vectors]
