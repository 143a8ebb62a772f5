"""Season: the feature means to expect at an hour of the day and a day of the week."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from exporter.stats.arrays import Floats

_DAY = 86_400.0
_WEEK = 7 * _DAY
_HARMONICS = 2
"""Sine and cosine pairs per period. Each pair adds variance to the expected mean."""
_TERMS = 1 + 4 * _HARMONICS
"""Regression terms: the constant, and a sine and a cosine per harmonic of two periods."""
COVERED = 0.97
"""Share of a day or a week that the times must span."""
_SPANS = {"daily": _DAY, "weekly": _WEEK}
_OF = {
    name: [1 + _HARMONICS * (at + part) + h for part in (0, 2) for h in range(_HARMONICS)]
    for at, name in enumerate(_SPANS)
}
"""The terms of each season: cosines, then sines."""
_EXCHANGES = 20
"""Times that the hours of the vectors change places."""
_HOUR = 3_600.0
_FEWEST_HOURS = 64
"""Hours change places, or smaller parts of the time that the vectors span: sessions stay whole."""
_TINY = 1e-30
_WAVE_UNIT = 2.0**30
"""A regression term of 1 as an integer. Integers add up to the same sum in any order."""

_UNEXPLAINED = 1 / 3
"""Share of the season's root mean square that is tolerated.

Two weekly harmonics reproduce a sine exactly, but miss 40 % of a step into a weekend.
"""


@dataclass(frozen=True, slots=True)
class Season:
    """A harmonic regression of feature means on the time of day and of the week.

    Without times the only term is the constant, and the expectation is the mean.

    Attributes
    ----------
    coefficients : ndarray of float64, shape (k, f)
        Coefficient of each term for each feature; 0 for the terms of a season that is not known.
    covariance : ndarray of float64, shape (k, k)
        Covariance of the coefficients, for a feature of unit variance.
    is_fitted : ndarray of bool, shape (k,)
        Whether the times span the season of each term.
    """

    coefficients: Floats
    covariance: Floats
    is_fitted: NDArray[np.bool_]

    @classmethod
    def fit(
        cls,
        table: NDArray[np.float32],
        times: Floats | None,
        seasons: Sequence[str],
        random: np.random.Generator,
    ) -> Season:
        """Fit the regression to features, shape (n, f), of vectors stored at times, shape (n,).

        ``seasons`` are those that the times span; see `known_seasons`.

        Eight waves are many for a stream that follows none of them: their estimates would be noise
        that every window is compared with. So the coefficients shrink towards zero, in each
        combination of waves by the share of its size that chance explains. Chance is what is found
        in the residuals if hours have changed places.

        Source: Efron and Morris (1972), "Empirical Bayes on vector observations", for the
        shrinkage; Horn (1965), "A rationale and test for the number of factors in factor analysis",
        for the size by chance.
        """
        mean = table.mean(axis=0, dtype=np.float64)
        if times is None or not seasons:
            return cls(mean[None], np.array([[1 / len(table)]]), np.ones(1, bool))
        terms = [term for name in seasons for term in _OF[name]]
        waves = _waves(times)[:, terms]
        usual = waves.mean(axis=0)
        waves -= usual
        # A ridge of one vector bounds the coefficients where no vector was seen.
        covariance = np.linalg.inv(waves.T @ waves + np.eye(len(terms)))
        root = np.linalg.cholesky(covariance)

        white = (waves @ root).astype(np.float32)
        # Without any season, these coefficients have the variance of the features.
        found = white.T @ table
        rest = table - white @ found
        sizes, directions = np.linalg.eigh(_gram(found))
        hour = _hours(times)
        by_chance = np.mean(
            [
                np.linalg.eigvalsh(_gram(white[np.argsort(order[hour], kind="stable")].T @ rest))
                for order in (random.permutation(hour.max() + 1) for _ in range(_EXCHANGES))
            ],
            axis=0,
        )
        # The residuals of few hours are too small, because the waves explain some of any hours. So
        # the shrinkage is cautious: a weak season that is missed would be drift to large windows.
        # Where there is nothing, rounding may make less than nothing of either.
        kept = np.clip(1 - by_chance / np.maximum(sizes, _TINY), 0.0, 1.0)
        shrinkage = directions * kept @ directions.T
        # The constant is what the waves leave of the mean.
        lift = np.zeros((_TERMS, len(terms) + 1))
        lift[0, 0] = 1
        lift[0, 1:] = -usual
        lift[terms, np.arange(1, len(terms) + 1)] = 1
        own = np.zeros((len(terms) + 1,) * 2)
        own[0, 0] = 1 / len(table)
        own[1:, 1:] = root @ shrinkage @ root.T
        is_fitted = np.zeros(_TERMS, bool)
        is_fitted[[0, *terms]] = True
        return cls(
            lift @ np.vstack([mean, root @ shrinkage @ found]), lift @ own @ lift.T, is_fitted
        )

    @property
    def is_known(self) -> bool:
        """Whether a season was fitted."""
        return len(self.coefficients) > 1

    @property
    def seasons(self) -> tuple[str, ...]:
        """The seasons that were fitted."""
        if not self.is_known:
            return ()
        return tuple(name for name, terms in _OF.items() if self.is_fitted[terms].all())

    def expected(self, waves: Floats | None) -> Floats:
        """Return the feature means to expect of a window, shape (f,).

        Parameters
        ----------
        waves : ndarray of float64, shape (k,), or None
            Mean of the regression terms over the vectors of the window: see `mean_waves` and
            `waves_at`. None stands for the average over all times.
        """
        if waves is None or not self.is_known:
            expected: Floats = self.coefficients[0].copy()
        else:
            expected = waves @ self.coefficients
        return expected

    def uncertainty(self, waves: Floats | None) -> float:
        """Return the variance of the expectation, for a feature of unit variance."""
        if waves is None or not self.is_known:
            return float(self.covariance[0, 0])
        return float(waves @ self.covariance @ waves)

    def residual(self, table: NDArray[np.float32], times: Floats | None) -> NDArray[np.float32]:
        """Subtract the season from the features that it was fitted to, shape (n, f)."""
        if times is None or not self.is_known:
            return table
        usual = (_waves(times)[:, 1:] @ self.coefficients[1:]).astype(np.float32)
        return table - usual


@dataclass(frozen=True, slots=True)
class Swing:
    """The directions in which the season moves the mean, and the residual tolerated along each.

    Sines are too smooth for a step, such as the one into a weekend. So a third of the season's own
    amplitude is tolerated, in the season's directions only.

    Attributes
    ----------
    directions : ndarray of float64, shape (k, d)
        Orthonormal rows; empty without a season.
    tolerance : ndarray of float64, shape (k,)
        Shift along each direction that does not count.
    """

    directions: Floats
    tolerance: Floats

    @classmethod
    def fit(cls, season: Season) -> Swing:
        """Find the directions in which a season of d mean features moves them."""
        waves = season.coefficients[1:]
        _, swing, directions = np.linalg.svd(waves, full_matrices=False)
        # Estimation noise alone gives features of unit variance this much amplitude.
        fitted = season.is_fitted[1:]
        variances = np.diag(season.covariance)[1:][fitted]
        noise = waves.shape[1] * variances.mean() if len(variances) else 0.0
        # A wave's mean square is a half.
        swing = np.sqrt(np.maximum(np.square(swing) - noise, 0) / 2)
        return cls(directions, _UNEXPLAINED * swing)

    def beyond(self, shift: Floats) -> Floats:
        """Return a shift of the mean, shape (d,), less what is tolerated of it."""
        along = self.directions @ shift
        return shift - np.clip(along, -self.tolerance, self.tolerance) @ self.directions


def _hours(times: Floats) -> NDArray[np.intp]:
    """Return the number of the hour of each row, or of a smaller part of what the rows span."""
    seconds = min(np.ptp(times) / _FEWEST_HOURS, _HOUR)
    hours: NDArray[np.intp] = ((times - times.min()) / seconds).astype(np.intp)
    return hours


def _gram(rows: NDArray[np.float32]) -> Floats:
    wide = rows.astype(np.float64)
    product: Floats = wide @ wide.T
    return product


def checked_times(times: ArrayLike, n: int) -> Floats:
    """Return the times of n vectors as an array.

    Raises
    ------
    ValueError
        If the times are not n finite numbers.
    """
    array = np.asarray(times, dtype=np.float64)
    if array.shape != (n,) or not np.isfinite(array).all():
        raise ValueError(f"timestamps must be {n} finite numbers, got shape {array.shape}")
    return array


def known_seasons(times: Floats) -> tuple[str, ...]:
    """Return the seasons whose whole length the times of a reference span."""
    # A day of a stream begins and ends with an arrival, not with its first and last second.
    return tuple(name for name, length in _SPANS.items() if np.ptp(times) > COVERED * length)


def waves_at(time: float) -> Floats:
    """Return the regression terms at one time, in seconds since the epoch, shape (k,)."""
    waves: Floats = _waves(np.array([time]))[0]
    return waves


def no_waves() -> NDArray[np.int64]:
    """Return the integer sum of the regression terms over no vectors, shape (k,)."""
    return np.zeros(_TERMS, np.int64)


def each_waves(times: Floats) -> NDArray[np.int64]:
    """Return the regression terms at times, shape (n, k), rounded to integers."""
    return np.rint(_waves(times) * _WAVE_UNIT).astype(np.int64)


def total_waves(times: Floats) -> NDArray[np.int64]:
    """Return the integer sum of the regression terms over vectors stored at times, shape (k,).

    Each term is rounded before it is added, so that sums do not depend on the order.
    """
    total: NDArray[np.int64] = each_waves(times).sum(axis=0)
    return total


def mean_waves(total: NDArray[np.int64], n: int) -> Floats:
    """Return the mean of the regression terms over n vectors from their integer sum."""
    mean: Floats = total / (_WAVE_UNIT * n)
    return mean


def counted(total: NDArray[np.int64]) -> int:
    """Return how many vectors an integer sum of the regression terms holds."""
    return int(total[0] // int(_WAVE_UNIT))


def _waves(times: Floats) -> Floats:
    """Evaluate the regression terms at times, shape (n, k), the constant first."""
    turns = [
        2 * np.pi * harmonic / period * times
        for period in (_DAY, _WEEK)
        for harmonic in range(1, _HARMONICS + 1)
    ]
    return np.column_stack(
        [np.ones(len(times)), *map(np.cos, turns), *map(np.sin, turns)],
    )
