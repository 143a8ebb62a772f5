"""Exact statistics of every dimension, on demand: from the vectors rather than from bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.features import standard
from exporter.stats import ks, wasserstein
from exporter.stats.columns import sorted_columns


@dataclass(frozen=True, slots=True)
class Exact:
    """A window against its baseline, dimension by dimension.

    Attributes
    ----------
    ks : ndarray of float64, shape (d,)
        Kolmogorov-Smirnov statistic, 0 to 1.
    ks_p_value : ndarray of float64, shape (d,)
        Probability of so large a statistic in that dimension alone, asymptotically.
    wasserstein : ndarray of float64, shape (d,)
        Wasserstein-1 distance, in baseline standard deviations.
    """

    ks: NDArray[np.float64]
    ks_p_value: NDArray[np.float64]
    wasserstein: NDArray[np.float64]


def compare(reference: NDArray[np.float32], current: NDArray[np.float32]) -> Exact:
    """Compare a window, shape (m, d), with its baseline's vectors, shape (n, d).

    Raises
    ------
    ValueError
        If a sample is empty or their dimensions differ.
    """
    of_reference, of_current = sorted_columns(reference), sorted_columns(current)
    statistic = ks.of_columns(of_reference, of_current)
    _, scale = standard(reference)
    return Exact(
        ks=statistic,
        ks_p_value=ks.p_value(statistic, len(reference), len(current)),
        wasserstein=wasserstein.of_columns(of_reference, of_current) / scale,
    )
