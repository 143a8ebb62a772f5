"""Season: what feature means to expect at an hour of the day and a day of the week."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exporter.stats.arrays import Floats

_DAY = 86_400.0
_WEEK = 7 * _DAY
_HARMONICS = 2
"""Waves per period: each costs two vectors' worth of certainty in every few hundred."""

_UNEXPLAINED = 1 / 3
"""Share of the season's root mean square that may be missed: of a weekend, two weekly waves miss
0.4; of a sine, nothing."""


@dataclass(frozen=True, slots=True)
class Season:
    """A regression of feature means on waves of a day and of a week.

    Without times the only wave is the constant, and what is expected is the mean.

    Attributes
    ----------
    coefficients : ndarray of float64, shape (k, f)
        Of each wave for each feature.
    covariance : ndarray of float64, shape (k, k)
        Of the coefficients of a feature of unit variance.
    """

    coefficients: Floats
    covariance: Floats

    @classmethod
    def fit(cls, table: NDArray[np.float32], times: Floats | None) -> Season:
        """Learn from features, shape (n, f), of vectors stored at these times, shape (n,)."""
        waves = np.ones((len(table), 1)) if times is None else _waves(times)
        # The ridge of one vector keeps hours nobody saw from blowing up.
        gram = waves.T @ waves
        ridge = np.diag([0.0] + [1.0] * (len(gram) - 1))
        covariance = np.asarray(np.linalg.inv(gram + ridge), dtype=np.float64)
        products = waves.T.astype(np.float32) @ table
        coefficients: Floats = covariance @ products.astype(np.float64)
        return cls(coefficients, covariance)

    def expected(self, at: float | None) -> Floats:
        """Return the feature means to expect at a time; without one, those of all times."""
        if at is None or len(self.coefficients) == 1:
            expected: Floats = self.coefficients[0].copy()
        else:
            expected = _waves(np.array([at]))[0] @ self.coefficients
        return expected

    def uncertainty(self, at: float | None) -> float:
        """Return the variance of what is expected, for a feature of unit variance."""
        if at is None or len(self.covariance) == 1:
            return float(self.covariance[0, 0])
        waves = _waves(np.array([at]))[0]
        return float(waves @ self.covariance @ waves)

    def residual(self, table: NDArray[np.float32], times: Floats | None) -> NDArray[np.float32]:
        """Take what was to be expected out of the features it was learned from."""
        if times is None:
            return table
        usual = (_waves(times)[:, 1:] @ self.coefficients[1:]).astype(np.float32)
        return table - usual


@dataclass(frozen=True, slots=True)
class Swing:
    """The directions in which the season moves the mean, and how much of that it may miss.

    Waves are too smooth for a step, like that into a weekend. What a window moves within a third
    of the season's own swing, and in its directions only, is not news.

    Attributes
    ----------
    directions : ndarray of float64, shape (k, d)
        Orthonormal; none without a season.
    tolerance : ndarray of float64, shape (k,)
        Shift that does not count along each.
    """

    directions: Floats
    tolerance: Floats

    @classmethod
    def fit(cls, season: Season) -> Swing:
        """Find where a season of mean features, shape (k + 1, d), moves them."""
        waves = season.coefficients[1:]
        _, swing, directions = np.linalg.svd(waves, full_matrices=False)
        # Features of unit variance seem to swing by this much where nothing does.
        noise = waves.shape[1] * np.diag(season.covariance)[1:].mean() if len(waves) else 0.0
        # A wave's mean square is a half.
        swing = np.sqrt(np.maximum(np.square(swing) - noise, 0) / 2)
        return cls(directions, _UNEXPLAINED * swing)

    def beyond(self, shift: Floats) -> Floats:
        """Return what of a shift of the mean, shape (d,), the season does not excuse."""
        along = self.directions @ shift
        return shift - np.clip(along, -self.tolerance, self.tolerance) @ self.directions


def known_season(times: ArrayLike | None, n: int) -> Floats | None:
    """Return times that span a week, as an array; None if they do not tell of one.

    Raises
    ------
    ValueError
        If there is not one finite time for each of n vectors.
    """
    if times is None:
        return None
    array = np.asarray(times, dtype=np.float64)
    if array.shape != (n,) or not np.isfinite(array).all():
        raise ValueError(f"timestamps must be {n} finite numbers, got shape {array.shape}")
    # A week of a stream ends an arrival short of seven days.
    return array if np.ptp(array) > 0.99 * _WEEK else None


def _waves(times: Floats) -> Floats:
    """Evaluate the waves at some times, shape (n, k), the constant first."""
    turns = [
        2 * np.pi * harmonic / period * times
        for period in (_DAY, _WEEK)
        for harmonic in range(1, _HARMONICS + 1)
    ]
    return np.column_stack(
        [np.ones(len(times)), *map(np.cos, turns), *map(np.sin, turns)],
    )
