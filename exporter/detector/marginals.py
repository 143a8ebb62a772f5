"""Marginals: a window and the reference compared per dimension, from counts in bins."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.integer[Any]]

BINS = 256
"""Bins per dimension."""
_BLOCK = 16
"""Bins that are summed together; also the number of such blocks."""
_CELLS = 2048
"""Equal cells per dimension; each belongs to one bin."""
_ROWS = 128
"""Vectors processed at a time: they fit the cache."""
_TAIL = 0.002
"""Share of the reference beyond each end of the cells."""
_ATOM = 64
"""A value held by 1/64 of the reference or more is an atom. That is four bins' worth, so an atom
can take one of them for itself."""
_MOST_ATOMS = 8
"""Atoms per dimension, at most. Each costs two comparisons per value."""


@dataclass(frozen=True, slots=True)
class Marginals:
    """Distances of a window from the reference, per dimension.

    Attributes
    ----------
    ks : ndarray of float64, shape (d,)
        Kolmogorov-Smirnov statistic, compared at the edges of bins. It is never above the exact
        one. It is below by at most the largest share of the reference in one bin, not counting
        the bins of atoms: about 1/256, unless much of a dimension lies within 1/2048 of its range.
    wasserstein : ndarray of float64, shape (d,)
        First Wasserstein distance, in reference standard deviations.
    expected : ndarray of float64, shape (d,)
        Its expectation without drift, if vectors arrive independently.
    """

    ks: NDArray[np.float64]
    wasserstein: NDArray[np.float64]
    expected: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bins:
    """Bins of about 1/256 of the reference in every dimension.

    To find a value's bin by binary search costs 25 us for a vector. Instead, a value is scaled
    to one of 2,048 equal cells, and a table maps cells to bins: two reads. So bin edges are cell
    edges. The reference is counted in the same bins, which makes D exact at the edges.

    An atom is a value that many reference vectors share exactly, such as 0 after a ReLU. It cuts
    its cell in three: values below it, the atom, values above it. The atom has its own bin.

    Attributes
    ----------
    n : int
        Vectors of the reference.
    low, step : ndarray of float32, shape (d,)
        Start of the cells, and cells per unit.
    bin_of : ndarray of uint8, shape (d * (2048 + 2 a),)
        Bin of each cell.
    share : ndarray of float32, shape (d, 256)
        Share of the reference up to and including each bin.
    width : ndarray of float32, shape (d, 256)
        Distance between the centres of mass of neighbouring bins, in standard deviations. Like the
        shares, they are in memory bin by bin, as the counts are.
    noise : ndarray of float64, shape (d,)
        Integral of the standard deviation of a vector's distribution function, in standard
        deviations of the dimension; see `marginals`.
    atoms : ndarray of float32, shape (a, d)
        Atoms of each dimension in ascending order, padded with infinity.
    """

    n: int
    low: NDArray[np.float32]
    step: NDArray[np.float32]
    bin_of: NDArray[np.uint8]
    share: NDArray[np.float32]
    width: NDArray[np.float32]
    noise: NDArray[np.float64]
    atoms: NDArray[np.float32]

    def __post_init__(self) -> None:
        # Stored detectors may have them in double precision, dimension by dimension.
        for name in ("share", "width"):
            object.__setattr__(self, name, np.asfortranarray(getattr(self, name), np.float32))

    @classmethod
    def fit(cls, reference: NDArray[np.float32], scale: NDArray[np.float32]) -> Bins:
        """Cut the reference, shape (n, d), whose floored deviations are ``scale``."""
        n, d = reference.shape
        columns = np.sort(reference.T, axis=1)
        tail = int(_TAIL * n)
        low, high = columns[:, tail], columns[:, n - 1 - tail]
        # A margin keeps values at the ends away from an edge.
        margin = 0.013 * (high - low) + 0.1 * scale
        # Rounding must not remove the margin of a dimension far from 0, nor leave a constant
        # dimension without width.
        margin = np.maximum(margin, 4 * np.spacing(np.maximum(np.abs(low), np.abs(high))))
        low = (low - margin).astype(np.float32)
        step = (_CELLS / (high + margin - low)).astype(np.float32)
        atoms = _atoms(columns)
        cells = _cells(reference, low, step, atoms)
        per_dimension = _CELLS + 2 * len(atoms)
        in_cell = np.zeros((d, per_dimension), np.int64)
        cells += np.arange(d) * per_dimension
        # A few rows at a time: other threads wait while np.add.at runs.
        for at in range(0, n, _ROWS):
            np.add.at(in_cell.reshape(-1), cells[at : at + _ROWS].ravel(), 1)
        before = np.cumsum(in_cell, axis=1) - in_cell
        bin_of = (before * BINS // n).clip(0, BINS - 1).astype(np.uint8)
        # The values below an atom may have the bin in which it begins. It ends three bins later.
        rank, dimension = np.nonzero(np.isfinite(atoms))
        bin_of[dimension, _cells(atoms, low, step, atoms)[rank, dimension]] += 1
        nothing = np.empty((d, 0), np.float32)
        bins = cls(n, low, step, bin_of.ravel(), nothing, nothing, np.empty(d), atoms)
        counts = np.zeros(bins.size, np.int32)
        bins.count(reference, counts, 1)
        share = np.cumsum(counts.reshape(BINS, d).T, axis=1) / n
        width = _widths(columns, share, scale)
        noise = np.einsum("ij,ij->i", np.sqrt(share * (1 - share)), width)
        single = {"share": share.astype(np.float32), "width": width.astype(np.float32)}
        return replace(bins, noise=noise, **single)

    @property
    def size(self) -> int:
        """Number of counts: 256 per dimension."""
        return len(self.low) * BINS

    def count(self, vectors: NDArray[np.float32], counts: Counts, sign: int) -> None:
        """Add ``sign`` to the bin of each value of each vector, shape (n, d)."""
        for at in range(0, len(vectors), _ROWS):
            self.count_numbers(self.numbers(vectors[at : at + _ROWS]), counts, sign)

    def numbers(self, vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the bin of each value of each vector, shape (n, d)."""
        per_dimension = _CELLS + 2 * len(self.atoms)
        first_cell = np.arange(len(self.low), dtype=np.int32) * per_dimension
        return self.bin_of.take(_cells(vectors, self.low, self.step, self.atoms) + first_cell)

    def count_numbers(self, numbers: NDArray[np.uint8], counts: Counts, sign: int) -> None:
        """Add ``sign`` to each of these bins, shape (n, d)."""
        d = len(self.low)
        # Counts may be unsigned.
        change = np.add if sign > 0 else np.subtract
        for at in range(0, len(numbers), _ROWS):
            places = numbers[at : at + _ROWS].astype(np.intp)
            places *= d
            places += np.arange(d)
            change.at(counts, places.ravel(), counts.dtype.type(1))

    def marginals(self, counts: NDArray[np.int32], n: int) -> Marginals:
        """Compare the counts of a window of n vectors with the reference.

        The Wasserstein distance is the integral of the gap between two distribution functions.
        Without drift, the gap where the share is F is about normal, with the variance
        F (1 - F) (1/n + 1/n_reference). Its mean absolute value is sqrt(2 / pi) deviations.

        Distances are in single precision: their error is 1e-6 of the largest of a dimension.
        """
        gap = _running(counts.reshape(BINS, -1))
        gap /= np.float32(n)
        gap -= self.share.T
        np.abs(gap, out=gap)
        expected = math.sqrt(2 / math.pi * (1 / n + 1 / self.n)) * self.noise
        moved = np.einsum("ij,ij->j", gap, self.width.T)
        return Marginals(gap.max(axis=0).astype(np.float64), moved.astype(np.float64), expected)


def _running(counts: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the running sums of counts, shape (256, d), over the bins.

    They are exact below 2^24. np.cumsum takes four times as long: it adds number by number, and
    this adds rows.
    """
    sums = counts.astype(np.float32)
    blocks = sums.reshape(_BLOCK, _BLOCK, -1)
    for row in range(1, _BLOCK):
        blocks[:, row] += blocks[:, row - 1]
    for block in range(1, _BLOCK):
        blocks[block] += blocks[block - 1, -1]
    return sums


def _atoms(columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """Find the values that many of n sorted values share, columns of shape (d, n) to (a, d)."""
    d, n = columns.shape
    least = math.ceil(n / _ATOM)
    found: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * d
    for dimension in np.flatnonzero(
        (columns[:, least - 1 :] == columns[:, : 1 - least]).any(axis=1)
    ):
        values, counts = np.unique(columns[dimension], return_counts=True)
        most = np.argsort(-counts, kind="stable")[:_MOST_ATOMS]
        found[dimension] = np.sort(values[most][counts[most] >= least])
    atoms = np.full((max(map(len, found)), d), np.inf, np.float32)
    for of_dimension, column in zip(found, atoms.T, strict=True):
        column[: len(of_dimension)] = of_dimension
    return atoms


def _cells(
    rows: NDArray[np.float32],
    low: NDArray[np.float32],
    step: NDArray[np.float32],
    atoms: NDArray[np.float32],
) -> NDArray[np.int32]:
    """Return the cell of each value, shape (n, d). Cells grow with the value."""
    with np.errstate(over="ignore"):
        cells = (rows - low) * step
    numbers: NDArray[np.int32] = np.clip(cells, 0, _CELLS - 1, out=cells).astype(np.int32)
    for atom in atoms:
        having = np.flatnonzero(np.isfinite(atom))
        # A slice is faster than an index, but often only a few dimensions have an atom.
        columns = slice(None) if len(having) == len(atom) else having
        numbers[:, columns] += rows[:, columns] >= atom[columns]
        numbers[:, columns] += rows[:, columns] > atom[columns]
    return numbers


def _widths(
    columns: NDArray[np.float32], share: NDArray[np.float64], scale: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the distance from each bin's mean to that of the next bin, shape (d, 256).

    The distance to an empty bin is 0.
    """
    d, n = columns.shape
    ends = np.rint(share * n).astype(np.intp)
    starts = np.hstack([np.zeros((d, 1), np.intp), ends[:, :-1]])
    sums = np.hstack([np.zeros((d, 1)), np.cumsum(columns, axis=1, dtype=np.float64)])
    rows = np.arange(d)[:, None]
    filled = ends > starts
    means = (sums[rows, ends] - sums[rows, starts]) / np.maximum(ends - starts, 1)
    # An empty bin takes the mean of the bin before it. Without one, it takes the first value.
    last = np.maximum.accumulate(np.where(filled, np.arange(BINS), -1), axis=1)
    means = np.where(last >= 0, means[rows, np.maximum(last, 0)], columns[:, :1])
    return np.hstack([np.diff(means, axis=1), np.zeros((d, 1))]) / scale[:, None]
