"""Marginals: the view dimension by dimension, from counts in bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 256
_CELLS = 2048
_ROWS = 128
_TAIL = 0.002
"""Share of the reference beyond each end of the cells."""


@dataclass(frozen=True, slots=True)
class Marginals:
    """Distances of a window from the reference, per dimension.

    Attributes
    ----------
    ks : ndarray of float64, shape (d,)
        Kolmogorov-Smirnov statistic, at most 1/256 below the exact one.
    wasserstein : ndarray of float64, shape (d,)
        First Wasserstein distance, in reference standard deviations.
    """

    ks: NDArray[np.float64]
    wasserstein: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bins:
    """Bins of about 1/256 of the reference in every dimension.

    Quantile bins by binary search cost 25 us a vector. Here a value is scaled to one of 2,048
    equal cells, and a table says which bin the cell belongs to: two reads. Bin edges so fall
    on cell edges; the reference is counted in the same bins, which makes D exact at them.

    Attributes
    ----------
    low, step : ndarray of float32, shape (d,)
        Start of the cells, and cells per unit.
    bin_of : ndarray of uint8, shape (d * 2048,)
        Bin of each cell.
    share : ndarray of float64, shape (d, 256)
        Share of the reference up to and including each bin.
    width : ndarray of float64, shape (d, 256)
        Distance between the centres of mass of neighbouring bins, in standard deviations.
    """

    low: NDArray[np.float32]
    step: NDArray[np.float32]
    bin_of: NDArray[np.uint8]
    share: NDArray[np.float64]
    width: NDArray[np.float64]

    @classmethod
    def fit(cls, reference: NDArray[np.float32], scale: NDArray[np.float32]) -> Bins:
        """Cut the reference, shape (n, d), whose floored deviations are ``scale``."""
        n, d = reference.shape
        columns = np.sort(reference.T, axis=1)
        tail = int(_TAIL * n)
        low, high = columns[:, tail], columns[:, n - 1 - tail]
        # A margin, so that values at the ends are not on an edge.
        margin = 0.013 * (high - low) + 0.1 * scale
        # Far from 0 a small margin is lost in rounding, and a dimension that never varies has no
        # width.
        margin = np.maximum(margin, 4 * np.spacing(np.maximum(np.abs(low), np.abs(high))))
        low = (low - margin).astype(np.float32)
        step = (_CELLS / (high + margin - low)).astype(np.float32)
        cells = _cells(reference, low, step)
        in_cell = np.zeros(d * _CELLS, np.int64)
        np.add.at(in_cell, (cells + np.arange(d) * _CELLS).ravel(), 1)
        before = np.cumsum(in_cell.reshape(d, _CELLS), axis=1) - in_cell.reshape(d, _CELLS)
        bin_of = (before * BINS // n).clip(0, BINS - 1).astype(np.uint8)
        bins = cls(low, step, bin_of.ravel(), np.empty((d, BINS)), np.empty((d, BINS)))
        counts = np.zeros(bins.size, np.int32)
        bins.count(reference, counts, 1)
        bins.share[:] = np.cumsum(counts.reshape(d, BINS), axis=1) / n
        bins.width[:] = _widths(columns, bins.share, scale)
        return bins

    @property
    def size(self) -> int:
        """Number of counts: 256 a dimension."""
        return len(self.low) * BINS

    def count(self, vectors: NDArray[np.float32], counts: NDArray[np.int32], sign: int) -> None:
        """Add ``sign`` to the bin of each value of each vector, shape (n, d)."""
        for at in range(0, len(vectors), _ROWS):
            self.count_numbers(self.numbers(vectors[at : at + _ROWS]), counts, sign)

    def numbers(self, vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Tell the bin of each value of each vector, shape (n, d)."""
        first_cell = np.arange(len(self.low), dtype=np.int32) * _CELLS
        return self.bin_of.take(_cells(vectors, self.low, self.step) + first_cell)

    def count_numbers(
        self, numbers: NDArray[np.uint8], counts: NDArray[np.int32], sign: int
    ) -> None:
        """Add ``sign`` to each of these bins, shape (n, d)."""
        first_bin = np.arange(len(self.low)) * BINS
        for at in range(0, len(numbers), _ROWS):
            np.add.at(counts, (numbers[at : at + _ROWS] + first_bin).ravel(), np.int32(sign))

    def marginals(self, counts: NDArray[np.int32], n: int) -> Marginals:
        """Compare the counts of a window of n vectors with the reference."""
        gap = np.cumsum(counts.reshape(-1, BINS), axis=1) / n
        gap -= self.share
        np.abs(gap, out=gap)
        return Marginals(gap.max(axis=1), np.einsum("ij,ij->i", gap, self.width))


def _cells(
    rows: NDArray[np.float32], low: NDArray[np.float32], step: NDArray[np.float32]
) -> NDArray[np.int32]:
    with np.errstate(over="ignore"):
        cells = (rows - low) * step
    return np.clip(cells, 0, _CELLS - 1, out=cells).astype(np.int32)


def _widths(
    columns: NDArray[np.float32], share: NDArray[np.float64], scale: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Distance from each bin's mean to the next one's; an empty bin adds nothing."""
    d, n = columns.shape
    ends = np.rint(share * n).astype(np.intp)
    starts = np.hstack([np.zeros((d, 1), np.intp), ends[:, :-1]])
    sums = np.hstack([np.zeros((d, 1)), np.cumsum(columns, axis=1, dtype=np.float64)])
    rows = np.arange(d)[:, None]
    filled = ends > starts
    means = (sums[rows, ends] - sums[rows, starts]) / np.maximum(ends - starts, 1)
    # An empty bin takes the mean of the one before it, or the first value.
    last = np.maximum.accumulate(np.where(filled, np.arange(BINS), -1), axis=1)
    means = np.where(last >= 0, means[rows, np.maximum(last, 0)], columns[:, :1])
    return np.hstack([np.diff(means, axis=1), np.zeros((d, 1))]) / scale[:, None]
