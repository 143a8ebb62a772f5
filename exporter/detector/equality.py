"""Equality: which vectors count as equal.

An encoder on a GPU returns other last digits for the same text in another batch, or in another
precision. Such vectors differ by less than a fiftieth of their length, and those of two texts by
far more. So each vector gets a fingerprint: the hash of its cell in a random grid.

The grid is one of directions and lengths, not of places. So vectors that all become shorter do not
become equal. Those to which one large constant is added do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist

from exporter.detector.features import lengths
from exporter.stats.arrays import Floats
from exporter.stats.thinning import thinned

_TOLERANCE = 0.015
"""Largest tolerance, as a share of the length of a vector. Half precision moves the embedding of a
sentence by 0.0005, bfloat16 by 0.004; two texts hardly differ by less than 0.1."""
_NEAR = 0.03
"""Largest tolerance, as a share of the distance between vectors of the reference."""
_FAR = 0.95
"""Quantile of the distances between vectors that stands for them. So most of the reference may be
equal, and a fiftieth of it far away."""
_LEAST = 2.0**-24
"""Tolerance from which only equal bits count: a float32 is no more precise."""
_GAP = 3.0
_STEPS = 12
"""Tolerances that are tried, each a third of the one before."""
_MOST_BETWEEN = 0.01
"""Share of the vectors, at most, that have others between one tolerance and this many. Where there
are more, vectors that differ little are different ones, as the outputs of a classifier."""
_LEAST_ALONE = 0.02
"""Share of the vectors, at least, that equal no other one. Where nearly all have a near one, they
may be outputs of a classifier that is sure of a few classes, or come from a fixed set of texts."""
_ROUNDING = 3e-5
"""Tolerance within which only the last digits of float32 differ. Vectors of a fixed set of texts
have no others between this and a larger one."""
_FEWEST_DIFFERENT = 50
"""Vectors in such a set, at least, besides those that are alone: few may be the classes of a
classifier."""
_AXES = 16
"""Random axes of the grid. More tell vectors apart better, but a border parts equal ones more
often, unless the cells are wider."""
_CELL = 16.0
"""Width of a cell, in tolerances. Vectors that differ by one tolerance share a cell with a
probability of 0.44, by a tenth of one with 0.92, by three with 0.07, by ten with 0.00004."""
_SAMPLE = 500
_ROWS = 50
"""Rows of the sample that are compared with all others at a time."""
_BLOCK = 1_024
"""Rows that are copied in double precision at a time."""
_FINE = 2.0**-38
"""Integers stand for multiples of this. A sum over 16,384 dimensions is exact in float64."""


@dataclass(frozen=True, slots=True, eq=False)
class Equality:
    """Which vectors count as equal.

    Attributes
    ----------
    scale : ndarray of float32, shape (d,)
        Floored standard deviation of each dimension: no dimension alone decides.
    cell : float
        Width of a cell along a random axis, as a share of the length of a vector. If it is 0,
        vectors are equal only if all their bits are.
    """

    scale: NDArray[np.float32]
    cell: float

    @classmethod
    def fit(cls, vectors: NDArray[np.float32], scale: NDArray[np.float32]) -> Equality:
        """Take the largest tolerance that a reference, shape (n, d), shows to be safe."""
        # Distances along the axes, as the grid sees them, are those of the vectors within a third.
        places = np.vstack([found for _, found in _places(vectors, scale)])
        places /= math.sqrt(_AXES)
        chosen = places[thinned(len(places), _SAMPLE)]
        largest = min(_TOLERANCE, _NEAR * float(np.quantile(pdist(chosen), _FAR)))
        tolerances = largest * _GAP ** -np.arange(-1.0, _STEPS)
        *near, rounded = _near(chosen, places, np.append(tolerances, _ROUNDING)).T
        for tolerance, within, beyond in zip(tolerances[1:], near[1:], near, strict=False):
            if tolerance > _LEAST and _is_safe(within, beyond, rounded, len(places)):
                return cls(scale, _CELL * float(tolerance))
        return cls(scale, 0.0)

    def fingerprints(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Hash vectors, shape (n, d), the same in every process and in every batch.

        Two vectors of different cells have one hash with a probability of at most 2^-32
        (multilinear hashing modulo 2^64).
        """
        if not self.cell:
            return _hashes(vectors.view(np.uint32))
        hashes = np.empty(len(vectors), np.int64)
        for rows, places in _places(vectors, self.scale):
            cells = np.floor(places / self.cell + _borders())
            hashes[rows] = _hashes(cells.astype(np.int64).view(np.uint64))
        return hashes


def _places(
    vectors: NDArray[np.float32], scale: NDArray[np.float32]
) -> Iterator[tuple[slice, Floats]]:
    """Yield where vectors are along the random axes, shape (m, k), a block of rows at a time.

    This does not depend on the block: the sums are exact, and numpy sums each row by itself; see
    `features`.
    """
    unit, signs = 1 / scale.astype(np.float64), _signs(len(scale) + 1)
    for at in range(0, len(vectors), _BLOCK):
        rows = slice(at, at + _BLOCK)
        scaled = np.multiply(vectors[rows], unit, dtype=np.float64)
        length = lengths(scaled)
        scaled *= (1 / (_FINE * length))[:, None]
        whole = np.rint(scaled, out=scaled) @ signs[:-1]
        whole += np.rint(np.log(length) / _FINE)[:, None] * signs[-1]
        yield rows, whole * _FINE


def _near(some: Floats, places: Floats, distances: Floats) -> NDArray[np.intp]:
    """Count, for each of some places, those within each of some distances, shape (m, k)."""
    counts = np.empty((len(some), len(distances)), np.intp)
    for at in range(0, len(some), _ROWS):
        found = cdist(some[at : at + _ROWS], places)
        for each, distance in enumerate(distances):
            counts[at : at + _ROWS, each] = np.count_nonzero(found <= distance, axis=1)
    return counts


def _is_safe(
    within: NDArray[np.intp], beyond: NDArray[np.intp], rounded: NDArray[np.intp], n: int
) -> bool:
    """Return whether a tolerance makes no different vectors equal.

    Few have others just beyond it. And some have no other within it, or they are a fixed set.

    Parameters
    ----------
    within, beyond, rounded : ndarray of intp, shape (m,)
        How many of n vectors are within the tolerance of some, within `_GAP` times the tolerance,
        and within `_ROUNDING`; each includes itself.
    n : int
    """
    if np.mean(beyond > within) > _MOST_BETWEEN:
        return False
    different = n * np.mean((within > 1) / within)
    is_fixed = np.mean(within > rounded) <= _MOST_BETWEEN and different >= _FEWEST_DIFFERENT
    return bool(is_fixed or np.mean(within == 1) >= _LEAST_ALONE)


def _hashes(words: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.int64]:
    hashes: NDArray[np.uint64] = np.einsum("ij,j->i", words, _keys(words.shape[1]))
    return hashes.view(np.int64)


# The raw stream of a bit generator never changes between versions; that of a Generator may.


@lru_cache(maxsize=16)
def _keys(number: int) -> NDArray[np.uint64]:
    return np.random.PCG64(0).random_raw(number)


@lru_cache(maxsize=16)
def _signs(dimension: int) -> Floats:
    """Return the random axes, 1 or -1 for each dimension, shape (d, k)."""
    bits = np.random.PCG64(1).random_raw(dimension)[:, None] >> np.arange(_AXES, dtype=np.uint64)
    return np.where(bits & 1, 1.0, -1.0)


@lru_cache(maxsize=1)
def _borders() -> Floats:
    """Return where cells begin along each axis: not at 0, where many a vector is."""
    return np.random.PCG64(2).random_raw(_AXES) / 2.0**64
