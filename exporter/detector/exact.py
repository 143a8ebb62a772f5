"""Exact statistics per dimension: from the vectors themselves, not from bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.detector.features import standard
from exporter.stats import ks, wasserstein
from exporter.stats.columns import sorted_columns


@dataclass(frozen=True, slots=True, eq=False)
class Exact:
    """A window compared with its baseline, per dimension.

    Attributes
    ----------
    dimension : ndarray of intp, shape (k,)
        The dimensions compared.
    ks : ndarray of float64, shape (k,)
        Kolmogorov-Smirnov statistic, 0 to 1.
    ks_p_value : ndarray of float64, shape (k,)
        Asymptotic p-value of the statistic in that dimension alone.
    wasserstein : ndarray of float64, shape (k,)
        Wasserstein-1 distance, in baseline standard deviations.
    """

    dimension: NDArray[np.intp]
    ks: NDArray[np.float64]
    ks_p_value: NDArray[np.float64]
    wasserstein: NDArray[np.float64]


class Reference:
    """The vectors of a baseline, which are sorted once for any number of windows.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
    dimensions : sequence of int, optional
        Dimensions to compare; all by default.

    Raises
    ------
    ValueError
        If there are no vectors.
    """

    def __init__(
        self, vectors: NDArray[np.float32], dimensions: Sequence[int] | None = None
    ) -> None:
        self._count, self._dimension = vectors.shape
        every = range(self._dimension)
        self._chosen = np.array(every if dimensions is None else dimensions, np.intp)
        self._columns = sorted_columns(vectors[:, self._chosen])
        _, scale = standard(vectors)
        self._scale = scale[self._chosen]

    def compare(self, current: NDArray[np.float32]) -> Exact:
        """Compare a window with them.

        Parameters
        ----------
        current : ndarray of float32, shape (m, d)

        Raises
        ------
        ValueError
            If the window is empty or has another dimension.
        """
        if current.shape[1] != self._dimension:
            raise ValueError(f"dimensions differ: {self._dimension} and {current.shape[1]}")
        columns = sorted_columns(current[:, self._chosen])
        statistic = ks.of_columns(self._columns, columns)
        return Exact(
            dimension=self._chosen,
            ks=statistic,
            ks_p_value=ks.p_value(statistic, self._count, len(current)),
            wasserstein=wasserstein.of_columns(self._columns, columns) / self._scale,
        )


def compare(
    reference: NDArray[np.float32],
    current: NDArray[np.float32],
    dimensions: Sequence[int] | None = None,
) -> Exact:
    """Compare one window with the vectors of its baseline.

    Parameters
    ----------
    reference : ndarray of float32, shape (n, d)
    current : ndarray of float32, shape (m, d)
    dimensions : sequence of int, optional
        Dimensions to compare; all by default.

    Raises
    ------
    ValueError
        If a sample is empty or their dimensions differ.
    """
    return Reference(reference, dimensions).compare(current)
