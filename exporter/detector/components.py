"""Components: each is a statistic that sees one kind of drift in a shift of feature means.

A component is one class with a `fit`, a call and its `Traits`, and one line in `Components`.
Calibration, combination and storage follow from these.

Every statistic is a squared length, or the largest of several squares, so it grows with the
square of the shift. Without drift its mean is proportional to 1/n + 1/n_reference; after
division by that factor, windows of all sizes are comparable.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, Self, get_type_hints

import numpy as np
from numpy.typing import NDArray

from exporter.detector.axes import Axes
from exporter.detector.calibration import Traits
from exporter.detector.features import Features, Shift
from exporter.stats.arrays import Floats, Vectors
from exporter.stats.quality import norms

_RIDGE = 0.2
"""Added to the variance of every axis, in units of the mean variance. Small variances are the
least certain ones; the ridge keeps them from dominating."""
_NOISE = 0.1
"""Noise used to learn what noise does to the features, as a share of the norm."""
_TOLERATED_NOISE = 0.03
"""Noise that is not drift, as a share of the norm. Rounding to int8 costs encoders with a few
huge dimensions this much."""
_FACTOR_TOLERANCE = 1 / 9
"""Tolerated change along the common-factor direction, as a share of the change that
`_TOLERATED_NOISE` causes there: (1 % / 3 %)^2, the effect of noise of 1 %."""
_NORM_TOLERANCE = 0.002
"""Relative change of the norm that is not drift."""
_DIRECTIONS = 1024
"""Anchors of `Direction`, at most."""
_CLUSTERS = 200
"""Clusters of `Topics`, at most; a fifth of the vectors if these are few."""
_ROUNDS = 6
"""Rounds of Lloyd's algorithm."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The half of the reference that components are fitted to.

    Attributes
    ----------
    vectors : ndarray of float32, shape (n, d)
    features : Features
    axes : Axes
    each : Shift
        Features of each vector, one vector per row.
    fit : Shift
        Mean of these features less that of the other half, one row: how much better the geometry
        fits the half that shaped it.
    variances : ndarray of float64, shape (k,)
        Variances of the other half along the axes. The half that the axes were fitted to
        would give values that are too small.
    random : numpy.random.Generator
        Components draw from it in their order.
    """

    vectors: Vectors
    features: Features
    axes: Axes
    each: Shift
    fit: Shift
    variances: Floats
    random: np.random.Generator

    @classmethod
    def of(
        cls,
        vectors: Vectors,
        features: Features,
        axes: Axes,
        held_out: Vectors,
        random: np.random.Generator,
    ) -> Sample:
        """Measure vectors; ``held_out``, shape (m, d), is the other half."""
        table, other = features.table(vectors), features.table(held_out)
        fit = table.mean(axis=0, dtype=np.float64) - other.mean(axis=0, dtype=np.float64)
        along = features.shift(other, axes.vectors).axes
        return cls(
            vectors=vectors,
            features=features,
            axes=axes,
            each=features.shift(table, axes.vectors),
            fit=features.shift(fit[None], axes.vectors),
            variances=along.var(axis=0, dtype=np.float64),
            random=random,
        )

    def noise_effects(self) -> tuple[Floats, Floats]:
        """Return what much noise and what tolerated noise adds to the mean of `Shift.shape`."""
        vectors = self.vectors[: len(self.vectors) // 4]
        lengths = (norms(vectors)[:, None] / np.sqrt(vectors.shape[1])).astype(np.float32)
        noise = self.random.standard_normal(vectors.shape, np.float32) * lengths
        usual, much, tolerated = (
            self.features.shift(
                self.features.table(vectors + np.float32(share) * noise), self.axes.vectors
            ).shape.mean(axis=0, dtype=np.float64)
            for share in (0.0, _NOISE, _TOLERATED_NOISE)
        )
        return much - usual, tolerated - usual


class Component(Protocol):
    """What every component provides; also a frozen dataclass of arrays, so that it is stored."""

    traits: ClassVar[Traits]

    @classmethod
    def fit(cls, sample: Sample) -> Self:
        """Fit to a sample of the reference."""

    def __call__(self, shift: Shift) -> Floats:
        """Return the statistic of each of w windows, shape (w,)."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Squared shifts towards each cluster of the reference, weighted by the cluster's share.

    T = sum_c p_c <w_c, s>^2 with w_c = (V + rI)^-1 c, scaled to unit variance, over at most
    200 clusters with centres c and shares p_c; r is the ridge of `Mean`. Finds known topics in
    other proportions: these move the mean within the few directions in which topics differ,
    and all other directions hold only noise.

    Without the ridge, T would be the score statistic for a random shift: towards cluster c
    with probability p_c, either way, by the same number of standard deviations for every
    cluster. That test has the largest average power against small shifts of this kind. The
    ridge and the estimated clusters make T an approximation of it.

    Source: Goeman, van de Geer, van Houwelingen (2006), "Testing against a high dimensional
    alternative", for the score test of a random effect.

    Attributes
    ----------
    discriminants : ndarray of float32, shape (k, c)
        sqrt(p_c) w_c for each cluster.
    """

    traits: ClassVar[Traits] = Traits(weight=0.25, linear=True)

    discriminants: NDArray[np.float32]

    @classmethod
    def fit(cls, sample: Sample) -> Topics:
        """Cluster the sample along its axes."""
        centres, share = _clusters(sample.each.axes, sample.random)
        tests = _discriminants(centres, sample.variances) * np.sqrt(share)
        return cls(np.ascontiguousarray(tests.T))

    def __call__(self, shift: Shift) -> Floats:
        """Return the statistic of each window."""
        towards = shift.axes @ self.discriminants
        return _squared_length(towards)


@dataclass(frozen=True, slots=True)
class Mean:
    """Hotelling's T^2 with a ridge: sum_i s_i^2 / (v_i + r) over principal axes.

    Finds shifts along axes where the reference varies little: new topics, another model.
    Directions outside the kept axes share the mean of the remaining variance.

    Source: Hotelling (1931); the ridge: Chen, Paul, Prentice, Wang (2011).

    Attributes
    ----------
    weights : ndarray of float64, shape (k,)
        1 / (v_i + r) of each axis.
    rest : float
        The same for every direction outside the axes.
    """

    traits: ClassVar[Traits] = Traits(weight=0.2, linear=True)

    weights: Floats
    rest: float

    @classmethod
    def fit(cls, sample: Sample) -> Mean:
        """Weight the axes by the sample's variances.

        Dimensions are standardised, so their variances sum to about d.
        """
        variances, dimension = sample.variances, sample.features.dimension
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

    max over anchors a of max(<w_a, s>, 0)^2 with w_a as in `Topics`. A new topic usually lies
    in the direction of some old vector, and one direction has far less noise than all of them
    together: this statistic finds new topics at two thirds of the share that T^2 needs.

    Attributes
    ----------
    anchors : ndarray of float32, shape (k, a)
        w_a of at most 1,024 anchors.
    """

    traits: ClassVar[Traits] = Traits(weight=0.2, linear=True)

    anchors: NDArray[np.float32]

    @classmethod
    def fit(cls, sample: Sample) -> Direction:
        """Draw the anchors from the sample."""
        along = sample.each.axes
        chosen = sample.random.permutation(len(along))[:_DIRECTIONS]
        return cls(np.ascontiguousarray(_discriminants(along[chosen], sample.variances).T))

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
        Reciprocal variances of the values, then of their squares.
    """

    traits: ClassVar[Traits] = Traits(weight=0.07)

    weights: Floats

    @classmethod
    def fit(cls, sample: Sample) -> Dimension:
        """Take the variances of the sample, floored: a little noise in a dead dimension is fine."""
        moments = sample.each.moments
        floor = np.repeat([1.0, 0.5], moments.shape[1] // 2)
        return cls(1 / np.maximum(moments.var(axis=0, dtype=np.float64), floor))

    def __call__(self, shift: Shift) -> Floats:
        """Return the statistic of each window."""
        result: Floats = (shift.moments * shift.moments * self.weights).max(axis=1)
        return result


@dataclass(frozen=True, slots=True)
class Spread:
    """Hotelling's T^2 of the shape features: squares along axes, and three log sizes.

    Finds collapse, noise and clusters that leave the mean in place.

    The axes fit the vectors that shaped them better than any others. So a window that holds some
    of these again, in any share, is shifted towards their mean. A shift counts from the nearest
    such point.

    Attributes
    ----------
    whitening : ndarray of float64, shape (p + 3, p + 3)
        Turns a shift of these features into one of about unit covariance.
    fit_again : ndarray of float64, shape (p + 3,)
        Shift of a window of vectors that shaped the axes, whitened.
    """

    traits: ClassVar[Traits] = Traits(weight=0.03)

    whitening: Floats
    fit_again: Floats

    @classmethod
    def fit(cls, sample: Sample) -> Spread:
        """Take the covariance of the sample, with a ridge."""
        shape = sample.each.shape
        # Squares have a deviation of about 1.4 and log sizes of 0.1 or more, except on dead axes.
        floor = np.r_[np.full(shape.shape[1] - 3, 0.5), 0.02, 0.02, 0.02]
        deviation = np.maximum(shape.std(axis=0, dtype=np.float64), floor)
        values, vectors = np.linalg.eigh(np.cov((shape / deviation).T))
        whitening = vectors / np.sqrt(values + _RIDGE / 4) / deviation[:, None]
        return cls(whitening, sample.fit.shape[0] @ whitening)

    def __call__(self, shift: Shift) -> Floats:
        """Return the statistic of each window."""
        return _squared_length(_beyond(shift.shape @ self.whitening, self.fit_again))


@dataclass(frozen=True, slots=True)
class Distortion:
    """Hotelling's T^2 of five signs that the same vectors arrive distorted.

    The signs are: the log norm; its square; the shift along the centroid, which scaling causes;
    the change of all shape features that a common factor on the vectors causes; and the change
    that noise causes. A shift counts from the nearest one that vectors of the reference cause; see
    `Spread`. Finds scaling, missing normalisation, collapse and noise, also where norms
    vary so much that they say little.

    Unit vectors have no variance of the norm to compare with. So the variance in each
    direction is at least 1/2, in units of 0.5 % of the norm.

    Attributes
    ----------
    centroid : ndarray of float64, shape (k,)
        Discriminant of scaling along the axes, of unit variance.
    shape : ndarray of float64, shape (p + 3, 2)
        Discriminants of a common factor and of noise.
    tolerance : ndarray of float64, shape (5,)
        Shift of each sign that is not drift, such as that of rounding to int8.
    whitening : ndarray of float64, shape (5, 5)
    fit_again : ndarray of float64, shape (5,)
        Shift of a window of vectors that shaped the axes, whitened, without tolerance.
    """

    # The five signs have at least unit variance together.
    traits: ClassVar[Traits] = Traits(weight=0.05, least_mean=5.0)

    centroid: Floats
    shape: Floats
    tolerance: Floats
    whitening: Floats
    fit_again: Floats

    @classmethod
    def fit(cls, sample: Sample) -> Distortion:
        """Learn the signs from the sample, and from the sample with noise."""
        features, each = sample.features, sample.each
        noise, tolerated_noise = sample.noise_effects()
        usual = each.shape.mean(axis=0, dtype=np.float64)
        # A factor changes squares in proportion to themselves, and every log size alike.
        factor = np.r_[usual[:-3], 1, 1, 1]
        whitening = Spread.fit(sample).whitening
        shape = whitening @ whitening.T @ np.column_stack([factor, noise])
        deviations = (each.shape @ shape).std(axis=0)
        shape /= np.where(deviations > 0, deviations, 1.0)
        centroid = (features.centre / features.scale) @ sample.axes.vectors
        towards = _discriminants(centroid[None], sample.variances)[0].astype(np.float64)
        signs = _signs(each, towards, shape)
        values, vectors = np.linalg.eigh(np.cov(signs.T))
        norm = _NORM_TOLERANCE / float(features.log_norm[1])
        of_noise = np.abs(tolerated_noise @ shape) * [_FACTOR_TOLERANCE, 1]
        white = vectors / np.sqrt(np.maximum(values, 0.5))
        return cls(
            towards,
            shape,
            np.array([norm, norm**2, 0, *of_noise]),
            white,
            _signs(sample.fit, towards, shape)[0] @ white,
        )

    def __call__(self, shift: Shift) -> Floats:
        """Return the statistic of each window."""
        signs = _signs(shift, self.centroid, self.shape)
        counted = np.copysign(np.maximum(np.abs(signs) - self.tolerance, 0), signs)
        return _squared_length(_beyond(counted @ self.whitening, self.fit_again))


@dataclass(frozen=True, slots=True)
class Components:
    """The components that read feature means. The order of the fields is their order everywhere."""

    topics: Topics
    mean: Mean
    direction: Direction
    dimension: Dimension
    spread: Spread
    distortion: Distortion

    @classmethod
    def kinds(cls) -> dict[str, type[Component]]:
        """Return the class of each component by name."""
        kinds: dict[str, type[Component]] = get_type_hints(cls)
        return kinds

    @classmethod
    def fit(cls, sample: Sample) -> Components:
        """Fit all components to a sample of the reference."""
        fitted: dict[str, Any] = {name: kind.fit(sample) for name, kind in cls.kinds().items()}
        return cls(**fitted)

    def statistics(self, shift: Shift) -> Floats:
        """Return the statistic of each window and component, shape (w, c)."""
        return np.array([component(shift) for component in self._all()]).T

    def _all(self) -> Iterator[Component]:
        return (getattr(self, field.name) for field in fields(self))


TRAITS: dict[str, Traits] = {name: kind.traits for name, kind in Components.kinds().items()}
"""Traits of the components that read feature means, by name."""
DUPLICATES = Traits(weight=0.2)
"""Traits of the number of repeated vectors, which `Repeats` judges."""
NAMES = (*TRAITS, "duplicates")
"""Names of all components, in order."""


def _squared_length(rows: NDArray[Any]) -> Floats:
    result: Floats = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return result


def _beyond(shifts: Floats, usual: Floats) -> Floats:
    """Return shifts, shape (w, k), from the nearest point between 0 and a usual one, shape (k,)."""
    share = (shifts @ usual / max(float(usual @ usual), 1e-30)).clip(0, 1)
    result: Floats = shifts - share[:, None] * usual
    return result


def _signs(shift: Shift, centroid: Floats, shape: Floats) -> Floats:
    along = (shift.axes @ centroid)[:, None]
    return np.concatenate([shift.norm, along, shift.shape @ shape], axis=1)


def _discriminants(directions: NDArray[Any], variances: Floats) -> NDArray[np.float32]:
    """Return linear tests of unit variance, shape (m, k), for shifts along these directions."""
    tests = directions / (variances + _RIDGE)
    deviations = np.sqrt(np.square(tests) @ variances)
    result: NDArray[np.float32] = (tests / np.maximum(deviations, 1e-9)[:, None]).astype("f4")
    return result


def _clusters(
    along: NDArray[np.float32], random: np.random.Generator
) -> tuple[NDArray[np.float32], Floats]:
    """Return centres, shape (m, k), and shares of clusters, shape (m, 1), by Lloyd's algorithm.

    A few rounds are enough: only the regions where topics lie matter, not exact clusters.
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
