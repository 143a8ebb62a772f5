"""Running sums: all a window needs to be scored, in integers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from exporter.detector.features import Features
    from exporter.detector.marginals import Bins

_SPARSE = 1_024
"""Vectors from which counts of 256 bins take less space than a byte for each vector."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The sums of a few vectors on their way through windows.

    Attributes
    ----------
    n : int
    total : ndarray of int64
        Sum of each feature.
    bins : ndarray of uint8, shape (n, d), or of int32, shape (d * 256,)
        Bin of each value or, of many vectors, `Sums.bins`.
    fingerprints : ndarray of int64, shape (n,)
    """

    n: int
    total: NDArray[np.int64]
    bins: NDArray[Any]
    fingerprints: NDArray[np.int64]


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
        self._check(other)
        self.n += other.n
        self.total += other.total
        self.bins += other.bins
        self._count(other._copies.items(), 1)

    def copy(self) -> Sums:
        """Return sums that change independently."""
        twin = Sums(self._features, self._bins)
        twin.merge(self)
        return twin

    def take(self, part: Part) -> None:
        """Take in the vectors of a part that the same detector, or a copy of it, packed."""
        self._apply_part(part, 1)

    def drop(self, part: Part) -> None:
        """Let go of the vectors of a part taken before."""
        self._apply_part(part, -1)

    def _check(self, other: Sums) -> None:
        if other._features is not self._features:
            raise ValueError("sums of different detectors do not merge")

    def _apply(self, batch: ArrayLike, sign: int) -> None:
        vectors = checked(batch, self._features.dimension)
        self.n += sign * len(vectors)
        self.total += sign * self._features.total(vectors)
        self._bins.count(vectors, self.bins, sign)
        self._count(zip(fingerprints(vectors).tolist(), repeat(1)), sign)

    def _apply_part(self, part: Part, sign: int) -> None:
        self.n += sign * part.n
        self.total += sign * part.total
        if part.bins.ndim == 2:
            self._bins.count_numbers(part.bins, self.bins, sign)
        else:
            self.bins += sign * part.bins
        self._count(zip(part.fingerprints.tolist(), repeat(1)), sign)

    def _count(self, copies: Iterable[tuple[int, int]], sign: int) -> None:
        held = self._copies
        for key, count in copies:
            left = held.pop(key, 0) + sign * count
            if left:
                held[key] = left


def pack(features: Features, bins: Bins, batch: ArrayLike) -> Part:
    """Sum vectors, shape (n, d), in a byte for each value or less."""
    vectors = checked(batch, features.dimension)
    if len(vectors) < _SPARSE:
        found: NDArray[Any] = bins.numbers(vectors)
    else:
        found = np.zeros(bins.size, np.int32)
        bins.count(vectors, found, 1)
    return Part(len(vectors), features.total(vectors), found, fingerprints(vectors))


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


def fingerprints(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Hash vectors, shape (n, d), the same in every process.

    Equal vectors, and in practice only those, have equal hashes.
    """
    # Multilinear hashing modulo 2^64: two given vectors collide with at most 2^-32.
    hashes: NDArray[np.uint64] = np.einsum(
        "ij,j->i", vectors.view(np.uint32), _keys(vectors.shape[1])
    )
    return hashes.view(np.int64)


@lru_cache(maxsize=16)
def _keys(dimension: int) -> NDArray[np.uint64]:
    # A bit generator's raw stream never changes; what a Generator makes of it may.
    return np.random.PCG64(0).random_raw(dimension)
