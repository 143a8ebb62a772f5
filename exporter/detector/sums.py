"""Running sums: everything a window needs to be scored, in integers."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exporter.detector.waves import counted, each_waves, mean_waves, no_waves, total_waves
from exporter.stats.arrays import Floats

if TYPE_CHECKING:
    from exporter.detector.equality import Equality
    from exporter.detector.features import Features
    from exporter.detector.marginals import Bins

COUNTED = 128
"""Vectors from which a part is packed with counts. They are added in a tenth of the time, and take
at most twice the space of one byte per component."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The sums of consecutive vectors, packed to wait in a window.

    Attributes
    ----------
    n : int
        Number of vectors.
    total : ndarray of int64
        Sum of each feature.
    bins : ndarray of uint8, shape (n, d), or of unsigned integers, shape (256 * d,)
        Bin of each component or, if `is_counted`, the counts of bins, as in `Sums.bins`.
    fingerprints : ndarray of int64, shape (n,)
        Hash of each vector.
    waves : ndarray of int64
        Sum of the seasonal regression terms at the times of the vectors; see `Sums.mean_waves`.
    """

    n: int
    total: NDArray[np.int64]
    bins: NDArray[Any]
    fingerprints: NDArray[np.int64]
    waves: NDArray[np.int64]

    @property
    def is_counted(self) -> bool:
        """Whether it has counts rather than the bin of each component."""
        return self.bins.ndim == 1

    def joined(self, later: Part) -> Part:
        """Return the part of these vectors and those of a later part; neither has counts."""
        assert not self.is_counted
        assert not later.is_counted
        return Part(
            self.n + later.n,
            self.total + later.total,
            np.concatenate([self.bins, later.bins]),
            np.concatenate([self.fingerprints, later.fingerprints]),
            self.waves + later.waves,
        )


class Sums:
    """Running sums over one window of vectors.

    All sums are integers, so vectors can be added and removed in any order and in any batches with
    exactly the same result.

    Made by `Detector.sums`.

    Attributes
    ----------
    n : int
        Vectors in the window.
    total : ndarray of int64
        Sum of each feature.
    bins : ndarray of int32, shape (256 * d,)
        Vectors per bin of each dimension, bin by bin.
    pairs, squares : int
        Sum of c (c - 1) over different vectors with c copies each, and of its square.
    """

    def __init__(self, features: Features, bins: Bins, equality: Equality) -> None:
        self._features = features
        self._bins = bins
        self._equality = equality
        self._copies: dict[int, int] = {}
        self._waves = no_waves()
        self.n = self.pairs = self.squares = 0
        self.total = np.zeros(features.size, np.int64)
        self.bins = np.zeros(bins.size, np.int32)

    @property
    def repeats(self) -> int:
        """Vectors that equal an earlier one of the window; see `Equality`."""
        return self.n - len(self._copies)

    def most_copies(self, number: int, besides: NDArray[np.int64]) -> list[int]:
        """Return how many copies a number of vectors have that have most of them.

        Those whose hashes are given do not count.
        """
        left_out = set(besides.tolist())
        others = (copies for key, copies in self._copies.items() if key not in left_out)
        return heapq.nlargest(number, others)

    def copies(self, fingerprint: int) -> int:
        """Return how many vectors of the window have a hash."""
        return self._copies.get(fingerprint, 0)

    @property
    def mean_waves(self) -> Floats | None:
        """Mean of the seasonal regression terms over the vectors; None unless all have times."""
        if self.n == 0 or counted(self._waves) != self.n:
            return None
        return mean_waves(self._waves, self.n)

    def add(self, batch: ArrayLike, times: Floats | None = None) -> None:
        """Add vectors, shape (m, d), stored at times, shape (m,), in seconds since the epoch."""
        self._apply(batch, times, 1)

    def remove(self, batch: ArrayLike, times: Floats | None = None) -> None:
        """Remove vectors that were added before, with the same times."""
        self._apply(batch, times, -1)

    def take(self, part: Part) -> None:
        """Add the vectors of a part that the same detector, or a copy of it, packed."""
        self._apply_part(part, 1)

    def drop(self, part: Part) -> None:
        """Remove the vectors of a part that was taken before."""
        self._apply_part(part, -1)

    def _apply(self, batch: ArrayLike, times: Floats | None, sign: int) -> None:
        vectors = checked(batch, self._features.dimension)
        self.n += sign * len(vectors)
        self.total += sign * self._features.total(vectors)
        self._bins.count(vectors, self.bins, sign)
        if times is not None:
            self._waves += sign * total_waves(times)
        self._count_copies(self._equality.fingerprints(vectors), sign)

    def _apply_part(self, part: Part, sign: int) -> None:
        self.n += sign * part.n
        self.total += sign * part.total
        self._waves += sign * part.waves
        _count(self._bins, part, self.bins, sign)
        self._count_copies(part.fingerprints, sign)

    def _count_copies(self, keys: NDArray[np.int64], sign: int) -> None:
        held = self._copies
        for key in keys.tolist():
            before = held.pop(key, 0)
            left = before + sign
            if left:
                held[key] = left
            if before > 1 or left > 1:
                pairs, fewer = left * (left - 1), before * (before - 1)
                self.pairs += pairs - fewer
                self.squares += pairs * pairs - fewer * fewer


def pack(
    features: Features,
    bins: Bins,
    equality: Equality,
    batch: ArrayLike,
    times: Floats | None = None,
) -> Part:
    """Sum vectors, shape (n, d), into a part that takes two bytes per component or less."""
    vectors = checked(batch, features.dimension)
    if len(vectors) < COUNTED:
        found: NDArray[Any] = bins.numbers(vectors)
    else:
        found = np.zeros(bins.size, np.min_scalar_type(len(vectors)))
        bins.count(vectors, found, 1)
    waves = no_waves() if times is None else total_waves(times)
    keys = equality.fingerprints(vectors)
    return Part(len(vectors), features.total(vectors), found, keys, waves)


def pack_each(
    features: Features,
    bins: Bins,
    equality: Equality,
    batch: ArrayLike,
    times: Floats | None = None,
) -> list[Part]:
    """Pack vectors, shape (n, d), into a part for each."""
    vectors = checked(batch, features.dimension)
    n = len(vectors)
    totals, found = features.each(vectors), bins.numbers(vectors)
    keys = equality.fingerprints(vectors)
    waves = np.tile(no_waves(), (n, 1)) if times is None else each_waves(times)
    return [
        Part(1, totals[at], found[at : at + 1], keys[at : at + 1], waves[at]) for at in range(n)
    ]


def without_first(bins: Bins, whole: Part, head: Part) -> Part:
    """Return the part that is left when the first vectors are removed."""
    return _left(bins, whole, head, slice(head.n, None))


def without_last(bins: Bins, whole: Part, tail: Part) -> Part:
    """Return the part that is left when the last vectors are removed."""
    return _left(bins, whole, tail, slice(whole.n - tail.n))


def _left(bins: Bins, whole: Part, part: Part, rows: slice) -> Part:
    if whole.is_counted:
        left = whole.bins.copy()
        _count(bins, part, left, -1)
    else:
        left = whole.bins[rows]
    return Part(
        whole.n - part.n,
        whole.total - part.total,
        left,
        whole.fingerprints[rows],
        whole.waves - part.waves,
    )


def _count(bins: Bins, part: Part, counts: NDArray[np.integer[Any]], sign: int) -> None:
    """Add the vectors of a part to the counts of bins, or remove them."""
    if not part.is_counted:
        bins.count_numbers(part.bins, counts, sign)
        return
    # To add arrays of one type is faster than to add bytes.
    change = part.bins.astype(counts.dtype)
    if sign > 0:
        counts += change
    else:
        counts -= change


def checked(batch: ArrayLike, dimension: int) -> NDArray[np.float32]:
    """Return vectors as float32, shape (m, d).

    Raises
    ------
    ValueError
        If the shape is another one, or a component is not finite in float32.
    """
    array = np.asarray(batch)
    if array.ndim != 2 or array.shape[1] != dimension:
        raise ValueError(f"vectors must have shape (n, {dimension}), got {array.shape}")
    with np.errstate(over="ignore"):
        vectors = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise ValueError("vectors must be finite in float32")
    return vectors
