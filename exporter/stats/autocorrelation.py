"""Long-run variance: the variance of the mean of autocorrelated values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def long_run_variance(values: NDArray[np.float64], frequencies: int) -> float:
    """Estimate n times the variance of the mean of n centred values, shape (n,).

    It is the mean square of the projections on the first cosines, normalised to unit length. A
    mean divided by its estimated deviation follows Student's t with ``frequencies`` degrees of
    freedom. Fewer frequencies give less power; with more, slow waves look significant.

    Source: Lazarus, Lewis, Stock, Watson, "HAR inference" (2018), the equal-weighted cosine
    estimator.
    """
    n = len(values)
    turns = np.pi * np.outer(np.arange(1, frequencies + 1), np.arange(n) + 0.5) / n
    return float(np.square(np.cos(turns) @ values).mean() * 2 / n)
