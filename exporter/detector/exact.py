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


def compare(
    reference: NDArray[np.float32],
    current: NDArray[np.float32],
    dimensions: Sequence[int] | None = None,
) -> Exact:
    """Compare a window with the vectors of its baseline.

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
    if reference.shape[1] != current.shape[1]:
        raise ValueError(f"dimensions differ: {reference.shape[1]} and {current.shape[1]}")
    d = reference.shape[1]
    chosen = np.arange(d) if dimensions is None else np.array(dimensions, np.intp)
    of_reference, of_current = (
        sorted_columns(reference[:, chosen]),
        sorted_columns(current[:, chosen]),
    )
    _, scale = standard(reference)
    statistic = ks.of_columns(of_reference, of_current)
    return Exact(
        dimension=chosen,
        ks=statistic,
        ks_p_value=ks.p_value(statistic, len(reference), len(current)),
        wasserstein=wasserstein.of_columns(of_reference, of_current) / scale[chosen],
    )
