"""Slope of a series that may have autocorrelation, outliers and gaps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from exporter.stats.autocorrelation import long_run_variance

_FREQUENCIES = 4
_CLIP = 4.0
"""Residuals are clipped to this many robust deviations."""
_DEVIATION = 1.4826
"""Standard deviation of a normal distribution, in median absolute deviations."""


class Slope(NamedTuple):
    """Change per step, and its p-value."""

    per_step: float
    p_value: float


def slope(values: NDArray[np.float64]) -> Slope:
    """Fit a line to equally spaced values, shape (n,); NaN for gaps.

    The slope is that of Theil and Sen, refined by least squares on clipped residuals. Its p-value
    allows for autocorrelation. For hours of 14 days it holds its level under white, heavy-tailed
    and moving-average noise, and under daily and weekly waves. A random walk counts as a trend.
    """
    from scipy.stats import theilslopes  # late: see `enrichment`

    steps = np.arange(len(values), dtype=np.float64)
    known = np.isfinite(values)
    rough, intercept, *_ = theilslopes(values[known], steps[known])
    residual = values - (intercept + rough * steps)
    limit = _CLIP * _DEVIATION * np.nanmedian(np.abs(residual))
    centred = np.where(known, steps - steps[known].mean(), 0.0)
    residual = np.where(known, np.clip(residual, -limit, limit), 0.0)
    energy = float(centred @ centred)
    correction = float(centred @ residual) / energy
    residual -= np.where(known, residual[known].mean() + correction * centred, 0.0)
    found = float(rough) + correction
    variance = len(values) * long_run_variance(centred * residual, _FREQUENCIES)
    if variance == 0:
        return Slope(found, 1.0 if found == 0 else 0.0)
    surprise = abs(found) * energy / variance**0.5
    return Slope(found, float(2 * stdtr(_FREQUENCIES, -surprise)))
