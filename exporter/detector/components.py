"""Components: each sees one kind of drift in a shift of feature means.

A statistic is a squared length, or the largest of squared lengths, and grows with the square
of the shift; dividing by 1/n + 1/n_reference makes windows of all sizes comparable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.detector.features import Shift
from exporter.stats.arrays import Floats

_RIDGE = 0.2
"""Share of the mean variance added to every axis: small variances are the ones least known."""
NOISE = 0.1
"""Noise to learn the signs of, as a share of the norm."""
TOLERATED_NOISE = 0.03
"""Noise that does not count: encoders with a few huge dimensions lose as much in int8."""
_FACTOR_TOLERANCE = 1 / 9
"""Share of what that noise does that is no common factor yet: what noise of 1 % does."""
_NORM_TOLERANCE = 0.002
"""Relative change of the norm that does not count."""
_DIRECTIONS = 1024
_CLUSTERS = 200
_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Topics:
    """Sum over clusters of squared shifts towards each, weighted by the cluster's share.

    sum_c p_c <c, s>^2 / var, in the ridged metric of `Mean`, over 200 clusters of the
    reference. Finds changed odds of known topics: these move the mean within the few
    directions in which topics differ, and only noise lies in the others.

    Source: the sum of discriminants is the locally most powerful test against shifts
    distributed as the clusters are (Rao's score test).

    Attributes
    ----------
    discriminants : ndarray of float32, shape (k, 200)
    """

    discriminants: NDArray[np.float32]

    @classmethod
    def fit(
        cls, along: NDArray[np.float32], variances: Floats, random: np.random.Generator
    ) -> Topics:
        """Cluster vectors given along axes of these variances."""
        centres, share = _clusters(along, random)
        return cls(np.ascontiguousarray((_discriminants(centres, variances) * np.sqrt(share)).T))

    def __call__(self, shift: Shift) -> Floats:
        """Return the statistic of each window."""
        towards = shift.axes @ self.discriminants
        return _squared_length(towards)


@dataclass(frozen=True, slots=True)
class Mean:
    """Hotelling's T^2 with a ridge, sum_i s_i^2 / (v_i + r) over principal axes.

    Finds shifts along axes where the reference itself varies little: new topics, another
    model. Off the kept axes every direction counts as having the remaining mean variance.

    Source: Hotelling (1931); the ridge: Chen, Paul, Prentice, Wang (2011).
    """

    weights: Floats
    rest: float

    @classmethod
    def fit(cls, variances: Floats, dimension: int) -> Mean:
        """Weigh axes of these variances; the standardised dimensions' mean variance is 1."""
        others = dimension - len(variances)
        rest = max(dimension - float(variances.sum()), 0.0) / others if others else 1.0
        return cls(1 / (variances + _RIDGE), 1 / (rest + _RIDGE))

    def __call__(self, shift: Shift) -> Floats:
        """Return the statistic of each window."""
        along = shift.axes * shift.axes
        off = _squared_length(shift.mean) - along.sum(axis=1)
        result: Floats = along @ self.weights + self.rest * np.maximum(off, 0)
        return result


@dataclass(frozen=True, slots=True)
class Direction:
    """Largest shift towards any of about a thousand vectors of the reference.

    max over anchors a of <a, s>^2 / var, in the ridged metric of `Mean`. A new topic rarely
    points where no old vector does, and one direction has far less noise than all of them:
    it sees new topics at two thirds of the share that T^2 needs.

    Attributes
    ----------
    anchors : ndarray of float32, shape (k, 1024)
        Discriminants along the axes, scaled to unit variance of the reference.
    """

    anchors: NDArray[np.float32]

    @classmethod
    def fit(
        cls, along: NDArray[np.float32], variances: Floats, random: np.random.Generator
    ) -> Direction:
        """Take anchors from vectors given along axes of these variances."""
        chosen = random.permutation(len(along))[:_DIRECTIONS]
        return cls(np.ascontiguousarray(_discriminants(along[chosen], variances).T))

    def __call__(self, shift: Shift) -> Floats:
        """Return the statistic of each window."""
        nearest = (shift.axes @ self.anchors).max(axis=1)
        result: Floats = np.square(np.maximum(nearest, 0), dtype=np.float64)
        return result


@dataclass(frozen=True, slots=True)
class Dimension:
    """Largest change of mean or mean square of a single dimension.

    Finds zeroed or swapped dimensions.

    Attributes
    ----------
    weights : ndarray of float64, shape (2 d,)
        Reciprocal variances of the means, then of the mean squares.
    """

    weights: Floats

    @classmethod
    def fit(cls, moments: NDArray[np.float32]) -> Dimension:
        """Take the deviations of means and squares, shape (n, 2 d), of the reference.

        Floored: a dead dimension may begin to rustle.
        """
        floor = np.repeat([1.0, 0.5], moments.shape[1] // 2)
        return cls(1 / np.maximum(moments.var(axis=0, dtype=np.float64), floor))

    def __call__(self, shift: Shift) -> Floats:
        """Return the statistic of each window."""
        result: Floats = (shift.moments * shift.moments * self.weights).max(axis=1)
        return result


@dataclass(frozen=True, slots=True)
class Spread:
    """Hotelling's T^2 of squares along leading and quiet axes, and of three log sizes.

    Finds collapse, noise and clusters that leave the mean in place.

    Attributes
    ----------
    whitening : ndarray of float64, shape (p + 3, p + 3)
    """

    whitening: Floats

    @classmethod
    def fit(cls, shape: NDArray[np.float32]) -> Spread:
        """Whiten these features, shape (n, p + 3), of the reference."""
        # Squares deviate by about 1.4, log energies by 0.1 or more, unless the axis is dead.
        floor = np.r_[np.full(shape.shape[1] - 3, 0.5), 0.02, 0.02, 0.02]
        deviation = np.maximum(shape.std(axis=0, dtype=np.float64), floor)
        values, vectors = np.linalg.eigh(np.cov((shape / deviation).T))
        return cls(vectors / np.sqrt(values + _RIDGE / 4) / deviation[:, None])

    def __call__(self, shift: Shift) -> Floats:
        """Return the statistic of each window."""
        white = shift.shape @ self.whitening
        return _squared_length(white)


@dataclass(frozen=True, slots=True)
class Distortion:
    """Hotelling's T^2 of five signs that the same vectors arrive distorted.

    The log norm and its square; the shift along the centroid, which scaling causes; the
    change in all features of `Spread` that a common factor on the deviations causes; and the
    one that noise causes. Finds scaling, missing normalisation, collapse and noise, also where
    norms differ so much by themselves that they say little.

    Unit vectors have no variance of the norm to compare with: each direction is floored at a
    variance of 1/2 (in units of 0.5 % of the norm).

    Attributes
    ----------
    centroid : ndarray of float64, shape (k,)
        Discriminant of scaling along the axes, of unit variance.
    shape : ndarray of float64, shape (p + 3, 2)
        Discriminants of a common factor and of noise.
    tolerance : ndarray of float64, shape (5,)
        Shifts that do not count: of rounding to int8, say.
    whitening : ndarray of float64, shape (5, 5)
    """

    centroid: Floats
    shape: Floats
    tolerance: Floats
    whitening: Floats

    @classmethod
    def fit(
        cls,
        shaping: Shift,
        noise: Floats,
        tolerated: Floats,
        variances: Floats,
        centroid: Floats,
        spread: Spread,
        norm_deviation: float,
    ) -> Distortion:
        """Learn the signs.

        Parameters
        ----------
        shaping : Shift
            Features of vectors of the reference, one a row.
        noise, tolerated : ndarray, shape (p + 3,)
            What `NOISE` and `TOLERATED_NOISE` of the norm add to their mean shape.
        variances, centroid : ndarray, shape (k,)
            Of the reference, along its axes.
        spread : Spread
        norm_deviation : float
            What one of the norm features is in logarithms.
        """
        usual = shaping.shape.mean(axis=0, dtype=np.float64)
        # A factor moves squares in proportion to themselves, and every log size as much.
        factor = np.r_[usual[:-3], 1, 1, 1]
        shape = spread.whitening @ spread.whitening.T @ np.column_stack([factor, noise])
        deviations = (shaping.shape @ shape).std(axis=0)
        shape /= np.where(deviations > 0, deviations, 1.0)
        towards = _discriminants(centroid[None], variances)[0].astype(np.float64)
        signs = _signs(shaping, towards, shape)
        values, vectors = np.linalg.eigh(np.cov(signs.T))
        norm = _NORM_TOLERANCE / norm_deviation
        of_noise = np.abs(tolerated @ shape) * [_FACTOR_TOLERANCE, 1]
        return cls(
            towards,
            shape,
            np.array([norm, norm**2, 0, *of_noise]),
            vectors / np.sqrt(np.maximum(values, 0.5)),
        )

    def __call__(self, shift: Shift) -> Floats:
        """Return the statistic of each window."""
        signs = _signs(shift, self.centroid, self.shape)
        counted = np.copysign(np.maximum(np.abs(signs) - self.tolerance, 0), signs)
        white = counted @ self.whitening
        return _squared_length(white)


def _squared_length(rows: NDArray[Any]) -> Floats:
    result: Floats = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return result


def _signs(shift: Shift, centroid: Floats, shape: Floats) -> Floats:
    along = (shift.axes @ centroid)[:, None]
    return np.concatenate([shift.norm, along, shift.shape @ shape], axis=1)


def _discriminants(directions: NDArray[Any], variances: Floats) -> NDArray[np.float32]:
    """Turn directions, shape (m, k), into linear tests for shifts along them."""
    tests = directions / (variances + _RIDGE)
    deviations = np.sqrt(np.square(tests) @ variances)
    result: NDArray[np.float32] = (tests / np.maximum(deviations, 1e-9)[:, None]).astype("f4")
    return result


def _clusters(
    along: NDArray[np.float32], random: np.random.Generator
) -> tuple[NDArray[np.float32], Floats]:
    """Return centres, shape (m, k), and shares of clusters, shape (m, 1), by Lloyd's algorithm.

    A few rounds: the clusters stand for where topics lie, nobody looks at them.
    """
    n = len(along)
    centres = along[random.permutation(n)[: min(_CLUSTERS, n // 5)]]
    members = np.zeros((len(centres), n), np.float32)
    for _ in range(_ROUNDS):
        nearest = (np.square(centres).sum(axis=1) - 2 * along @ centres.T).argmin(axis=1)
        members[:] = 0
        members[nearest, np.arange(n)] = 1
        size = members.sum(axis=1, keepdims=True)
        centres = np.where(size > 0, members @ along / np.maximum(size, 1), centres)
    return centres, size / n
