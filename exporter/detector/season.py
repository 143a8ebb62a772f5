"""Season: the feature means to expect at an hour of the day and a day of the week."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.detector.totals import Totals
from exporter.detector.waves import OF_SEASON, TERMS, waves_of
from exporter.stats.arrays import Floats

_EXCHANGES = 20
"""Times that the hours of the vectors change places."""
_RIDGE = 0.01
"""Ridge of the regression, as a share of the vectors.

It takes 2 % of a season that all hours show. At an hour that no vector shows, it bounds how far the
mean may be from the usual one: with a ridge of one vector, anything would be expected there.
"""
_TINY = 1e-30
_UNEXPLAINED = 1 / 3
"""Share of the season's root mean square that is tolerated.

Two harmonics reproduce a sine exactly, but miss 40 % of a step, other than that into a weekend.
"""


@dataclass(frozen=True, slots=True)
class Season:
    """A regression of feature means on waves of the day and of the week, and on weekends.

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
    def fit(cls, totals: Totals, seasons: Sequence[str], random: np.random.Generator) -> Season:
        """Fit the regression to the sums of vectors.

        ``seasons`` are those that the times span; see `known_seasons`.

        Nine terms are many for a stream that follows none of them: their estimates would be noise
        that every window is compared with. So the coefficients shrink towards zero, in each
        combination of terms by the share of its size that chance explains. Chance is what is found
        in the residuals if hours have changed places.

        Source: Efron and Morris (1972), "Empirical Bayes on vector observations", for the
        shrinkage; Horn (1965), "A rationale and test for the number of factors in factor analysis",
        for the size by chance.
        """
        n = totals.n.sum()
        mean = totals.features.sum(axis=0) / n
        if not seasons:
            return cls(mean[None], np.array([[1 / n]]), np.ones(1, bool))
        terms = [term for name in seasons for term in OF_SEASON[name]]
        is_filled = totals.n > 0
        each = totals.n[is_filled, None]
        waves = totals.waves[is_filled][:, terms] / each
        usual = (each * waves).sum(axis=0) / n
        waves -= usual
        covariance = np.linalg.inv(waves.T @ (each * waves) + _RIDGE * n * np.eye(len(terms)))
        root = np.linalg.cholesky(covariance)

        white = waves @ root
        features = totals.features[is_filled]
        # Without any season, these coefficients have the variance of the features.
        found = white.T @ features
        rest = features - each * (white @ found)
        sizes, directions = np.linalg.eigh(found @ found.T)
        by_chance = np.mean(
            [_sizes_by_chance(white, each[:, 0], rest, random) for _ in range(_EXCHANGES)], axis=0
        )
        # The residuals of few hours are too small, because the waves explain some of any hours. So
        # the shrinkage is cautious: a weak season that is missed would be drift to large windows.
        # Where there is nothing, rounding may make less than nothing of either.
        kept = np.clip(1 - by_chance / np.maximum(sizes, _TINY), 0.0, 1.0)
        shrinkage = directions * kept @ directions.T
        # The constant is what the waves leave of the mean.
        lift = np.zeros((TERMS, len(terms) + 1))
        lift[0, 0] = 1
        lift[0, 1:] = -usual
        lift[terms, np.arange(1, len(terms) + 1)] = 1
        own = np.zeros((len(terms) + 1,) * 2)
        own[0, 0] = 1 / n
        own[1:, 1:] = root @ shrinkage @ root.T
        is_fitted = np.zeros(TERMS, bool)
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
        return tuple(name for name, terms in OF_SEASON.items() if self.is_fitted[terms].all())

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
        usual = (waves_of(times)[:, 1:] @ self.coefficients[1:]).astype(np.float32)
        return table - usual


@dataclass(frozen=True, slots=True)
class Swing:
    """The directions in which the season moves the mean, and the residual tolerated along each.

    Sines are too smooth for a step, such as the one into working hours. So a third of the season's
    own amplitude is tolerated, in the season's directions only.

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


def _sizes_by_chance(white: Floats, n: Floats, rest: Floats, random: np.random.Generator) -> Floats:
    """Return the sizes of what is found in residuals, shape (h, f), if hours have changed places.

    An hour of n vectors takes n places in the order of arrival, where the terms, shape (h, k), have
    other means.
    """
    order = random.permutation(len(n))
    ends = np.append(0.0, np.cumsum(n))
    upto = np.vstack([np.zeros(white.shape[1]), np.cumsum(n[:, None] * white, axis=0)])
    new_ends = np.append(0.0, np.cumsum(n[order]))
    new_upto = np.column_stack([np.interp(new_ends, ends, column) for column in upto.T])
    found = (np.diff(new_upto, axis=0) / n[order, None]).T @ rest[order]
    return np.asarray(np.linalg.eigvalsh(found @ found.T), np.float64)
