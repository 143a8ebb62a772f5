"""Features: numbers of one vector whose means over a window show drift.

Each feature is rounded to an integer before it is summed. Sums of integers do not depend on
their order, so removing a vector from a window subtracts exactly what adding it added, even
years later.

The features of a vector do not depend on the batch it came in either. Every step before the
rounding is elementwise, or exact in floating point (products with the axes, energy, sum of
absolute values), or a floating-point sum over the numbers of one vector (energy off the leading
axes, length, product with the centroid). numpy sums each row of a C-ordered array by itself, in an
order that depends on the row's length only. It does not document this; a test checks it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.detector.axes import Axes
from exporter.stats.arrays import Floats

_ROWS = 128
"""Vectors processed at a time: they fit the cache. A sum of 128 features is exact in float32."""
_UNIT = 1024.0
"""Integer that stands for a feature of 1."""
_FINE = 65536.0
"""Integer that stands for 1 in features that vary little."""
_AXIS_UNIT = 2.0**20
"""Integer that stands for an axis coefficient of 1. A sum of 4,096 products of a value (14 bits)
and a coefficient (21 bits) fits the 53 bits of a float64, so it is exact."""
LIMIT = 8.0
"""Limit for values, in standard deviations, so that one outlier cannot dominate a mean."""
_SQUARE_LIMIT = 16.0
"""Limit for squares, so that one outlier cannot dominate a mean."""

SCALE_FLOOR = 0.2
"""Minimum standard deviation of a dimension, as a share of the median dimension's.

Real encoders have dead dimensions. Without a floor, noise of 1 % in them would be drift.
"""
PROBE_FLOOR = 0.15
"""Minimum standard deviation along an axis, in standardised units: above that of noise of 1 %."""
_SCALE_LEAST = 1e-30
"""Minimum standard deviation of any dimension: a smaller one has no reciprocal in float32."""
NORM_FLOOR = 0.005
"""Minimum standard deviation of the logarithm of the norm, which does not vary for unit vectors."""


@dataclass(frozen=True, slots=True)
class Shift:
    """Differences of feature means between w windows and the reference.

    Attributes
    ----------
    mean : ndarray, shape (w, d)
        Standardised vectors.
    axes : ndarray, shape (w, k)
        The same along the reference's principal axes.
    moments : ndarray, shape (w, 2 d)
        Standardised vectors, then their squares.
    shape : ndarray, shape (w, p + 3)
        Squares along the leading and quiet axes; then the logarithms of the squared length
        (energy), of the energy off the leading axes, and of the squared sum of absolute values,
        all of standardised vectors.
    norm : ndarray, shape (w, 2)
        Standardised log norm, and its square.
    """

    mean: NDArray[Any]
    axes: NDArray[Any]
    moments: NDArray[Any]
    shape: NDArray[Any]
    norm: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Features:
    """How to compute the features of a vector.

    Attributes
    ----------
    centre, scale : ndarray of float32, shape (d,)
        Mean and floored standard deviation of the reference.
    probes : ndarray of float64, shape (d, p)
        Axes whose squares are features, as integers; the leading ones first.
    probe_scale : ndarray of float64, shape (p,)
        Standard deviation of the reference along them.
    leading : int
        Number of leading axes among them.
    log_norm : ndarray of float64, shape (2,)
        Mean and floored standard deviation of the reference's log norm.
    unit : ndarray of float64, shape (2 d + p + 6,)
        Integer that stands for 1 of each feature. The features are: standardised values, their
        squares, squares along the probes, three log sizes, the log norm, its square, and the
        cosine similarity to the centroid.
    """

    centre: NDArray[np.float32]
    scale: NDArray[np.float32]
    probes: Floats
    probe_scale: Floats
    leading: int
    log_norm: Floats
    unit: Floats

    @classmethod
    def fit(
        cls,
        shaping: NDArray[np.float32],
        axes: Axes,
        held_out: NDArray[np.float32],
    ) -> Features:
        """Take centre, scale and norms from vectors, shape (n, d), that the axes were fitted to.

        Deviations along the axes come from ``held_out``, other vectors of the reference,
        standardised. Those of the vectors that the axes were fitted to are too small.
        """
        centre, scale = standard(shaping)
        probes = np.hstack([axes.leading, axes.quiet])
        deviations = (held_out @ probes).std(axis=0, dtype=np.float64)
        logs = np.log(lengths(shaping.astype(np.float64)))
        return cls(
            centre,
            scale,
            np.rint(probes.astype(np.float64) * _AXIS_UNIT),
            np.maximum(deviations, PROBE_FLOOR),
            axes.leading.shape[1],
            np.array([logs.mean(), max(float(logs.std()), NORM_FLOOR)]),
            np.r_[
                np.full(2 * len(centre) + probes.shape[1], _UNIT),
                _FINE,
                _FINE,
                _FINE,
                _UNIT,
                _UNIT,
                _FINE,
            ],
        )

    @property
    def dimension(self) -> int:
        """Dimension of the vectors."""
        return len(self.centre)

    @property
    def size(self) -> int:
        """Number of features."""
        return len(self.unit)

    def standardise(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return vectors, shape (n, d), in standard deviations from the mean, within the limit."""
        with np.errstate(over="ignore"):
            standardised: NDArray[np.float32] = (vectors - self.centre) / self.scale
        return np.clip(standardised, -LIMIT, LIMIT, out=standardised)

    def total(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Sum the integer features of vectors, shape (n, d)."""
        total = np.zeros(self.size, np.int64)
        d = self.dimension
        for wide, narrow in self._measure(vectors):
            ones = np.ones(len(narrow), np.float32)
            total[:d] += (ones @ wide[0]).astype(np.int64)
            total[d : 2 * d] += (ones @ wide[1]).astype(np.int64)
            total[2 * d :] += narrow.sum(axis=0).astype(np.int64)
        return total

    def each(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the integer features of each vector, shape (n, size)."""
        rows = [np.hstack([*wide, narrow]) for wide, narrow in self._measure(vectors)]
        return np.vstack(rows).astype(np.int64)

    def table(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the features of each vector, shape (n, size)."""
        return np.vstack(
            [
                (np.hstack([*wide, narrow]) / self.unit).astype(np.float32)
                for wide, narrow in self._measure(vectors)
            ]
        )

    def shift(self, means: NDArray[Any], axes: NDArray[Any]) -> Shift:
        """Split differences of feature means, shape (w, size), by kind; axes: shape (d, k)."""
        d = self.dimension
        return Shift(
            means[:, :d],
            means[:, :d].astype(np.float32) @ axes,
            means[:, : 2 * d],
            means[:, 2 * d : -3],
            means[:, -3:-1],
        )

    def _measure(
        self, vectors: NDArray[np.float32]
    ) -> Iterator[tuple[tuple[NDArray[np.float32], NDArray[np.float32]], Floats]]:
        """Yield the integer features of a few vectors at a time: (values, squares), others."""
        for at in range(0, len(vectors), _ROWS):
            rows = vectors[at : at + _ROWS]
            mean = self._standardise(rows)
            square = np.minimum(mean * mean * np.float32(1 / _UNIT), _SQUARE_LIMIT * _UNIT)
            yield (
                (mean, np.rint(square)),
                self._narrow(rows.astype(np.float64), mean.astype(np.float64)),
            )

    def _standardise(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):
            mean = (rows - self.centre) * (np.float32(_UNIT) / self.scale)
        limit = np.float32(LIMIT * _UNIT)
        return np.rint(np.clip(mean, -limit, limit, out=mean), out=mean)

    def _narrow(self, rows: Floats, mean: Floats) -> Floats:
        p = len(self.probe_scale)
        narrow = np.empty((len(rows), p + 6))
        along = mean @ self.probes  # exact: integers below 2 ** 53
        along *= 1 / (_UNIT * _AXIS_UNIT)
        along *= along
        energy = np.einsum("ij,ij->i", mean, mean) / _UNIT**2
        off = energy - along[:, : self.leading].sum(axis=1)
        narrow[:, :p] = _UNIT * np.minimum(along / self.probe_scale**2, _SQUARE_LIMIT)
        absolute = np.abs(mean).sum(axis=1) / _UNIT
        narrow[:, p] = _FINE * np.log(np.maximum(energy, 1e-6))
        narrow[:, p + 1] = _FINE * np.log(np.maximum(off, 1e-6))
        narrow[:, p + 2] = _FINE * np.log(np.maximum(absolute * absolute, 1e-6))
        length = lengths(rows)
        norm = np.clip((np.log(length) - self.log_norm[0]) / self.log_norm[1], -LIMIT, LIMIT)
        narrow[:, p + 3] = _UNIT * norm
        narrow[:, p + 4] = _UNIT * np.minimum(norm * norm, _SQUARE_LIMIT)
        centre = self.centre.astype(np.float64)
        cosine = np.einsum("ij,j->i", rows, centre) / (length * lengths(centre[None]))
        narrow[:, p + 5] = _FINE * np.clip(cosine, -1, 1)
        return np.rint(narrow, out=narrow)


def standard(reference: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and floored standard deviation of each dimension."""
    deviation = reference.std(axis=0, dtype=np.float64)
    alive = deviation[deviation > 0]
    floor = SCALE_FLOOR * float(np.median(alive)) if len(alive) else 1.0
    centre = reference.mean(axis=0, dtype=np.float64)
    scale = np.maximum(deviation, max(floor, _SCALE_LEAST))
    return centre.astype(np.float32), scale.astype(np.float32)


def lengths(vectors: Floats) -> Floats:
    """Return the Euclidean lengths, floored so that a zero vector has a logarithm."""
    length: Floats = np.maximum(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)), 1e-30)
    return length
