"""Equality: which vectors count as equal.

An encoder on a GPU returns other last digits for the same text in another batch, or in another
precision. Such vectors are far closer to each other than those of two texts. So each vector gets a
fingerprint: the hash of its cell in a random grid, which is as wide as the reference allows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist

from exporter.stats.arrays import Floats
from exporter.stats.thinning import thinned

_AXES = 16
"""Random axes of the grid. More tell vectors apart better, but a border parts equal ones more
often, unless the cells are wider."""
_CELL = 16.0
"""Width of a cell, in tolerances. Vectors that differ by one tolerance share a cell with a
probability of 0.44, by a tenth of one with 0.92, by three with 0.07, by ten with 0.00004."""
_TOLERANCES = (3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
"""Tolerances that are tried, in units of the distance of two vectors of the reference. Half
precision moves a sentence embedding by 0.0005, bfloat16 by 0.004; two texts hardly differ by less
than 0.1."""
_GAP = 3.0
_MOST_BETWEEN = 0.01
"""Share of the vectors, at most, that have others between one tolerance and this many. Where there
are more, vectors that differ little are different ones, as the outputs of a classifier."""
_SAMPLE = 500
_ROWS = 50
_WIDE = 0.9
"""Quantile of the distances that is their unit: neither equal nor outlying vectors decide it."""
_FINE = 2**16
"""Integer that stands for the width of a cell."""
_LIMIT = 2.0**36
"""Limit for a component, so that a sum over 16,384 of them is exact in float64."""


@dataclass(frozen=True, slots=True)
class Equality:
    """Which vectors count as equal.

    Attributes
    ----------
    cell : float
        Width of a cell along a random axis, in the units of the vectors. If it is 0, vectors are
        equal only if all their bits are.
    """

    cell: float

    @classmethod
    def fit(cls, vectors: NDArray[np.float32]) -> Equality:
        """Take the largest tolerance that a reference, shape (n, d), shows to be safe.

        It is safe if hardly any vector has others just beyond it.
        """
        places = vectors.astype(np.float64) @ _signs(vectors.shape[1])
        chosen = places[thinned(len(places), _SAMPLE)]
        unit = float(np.quantile(pdist(chosen), _WIDE))
        for tolerance in _TOLERANCES:
            least = tolerance * unit
            if _share_between(chosen, places, least, _GAP * least) <= _MOST_BETWEEN:
                return cls(_CELL * least / math.sqrt(_AXES))
        return cls(0.0)

    def fingerprints(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Hash vectors, shape (n, d), the same in every process and in every batch.

        Two vectors of different cells have one hash with a probability of at most 2^-32
        (multilinear hashing modulo 2^64).
        """
        if not self.cell:
            return _hashes(vectors.view(np.uint32))
        # Sums of integers do not depend on their order, but those of other numbers do.
        fine = np.multiply(vectors, _FINE / self.cell, dtype=np.float64)
        np.rint(np.clip(fine, -_LIMIT, _LIMIT, out=fine), out=fine)
        along = (fine @ _signs(vectors.shape[1])).astype(np.int64)
        return _hashes(((along + _borders()) // _FINE).view(np.uint64))


def _share_between(some: Floats, places: Floats, least: float, most: float) -> float:
    """Return the share of some places, shape (m, k), that have others between two distances."""
    between = 0
    for at in range(0, len(some), _ROWS):
        distances = cdist(some[at : at + _ROWS], places)
        between += int(((distances > least) & (distances <= most)).any(axis=1).sum())
    return between / len(some)


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
def _borders() -> NDArray[np.int64]:
    """Return where cells begin along each axis: not at 0, where many a vector is."""
    return np.random.PCG64(2).random_raw(_AXES).astype(np.int64) % _FINE
