"""The changed ratio: the share of a window's vectors that the reference does not explain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from exporter.detector.features import PROBE_FLOOR, Features, lengths
from exporter.stats.arrays import Floats
from exporter.stats.thinning import thinned
from exporter.stats.variation import lower_bound

_AXES = 128
"""Principal axes along which vectors are compared, at most."""
_ROWS = 2_500
"""Vectors of the reference that are kept, and of a window that are compared, at most."""
_FOLDS = 10
FEWEST = _FOLDS
"""Minimum vectors of a window: each fold has one."""
_NEAREST = 10
"""Neighbours in the reference that determine how far the neighbourhood of a vector reaches."""
_RIDGE = 0.1
"""Variance added along every axis, as a share of the error with which the variances are known."""
_SURE = 2.0
"""Half-width of the interval, in standard errors."""
_TOLERATED = 0.01
"""Change of the logarithm of a size that counts as none. Rounding to float16 changes lengths, and
all vectors of an encoder may have the same."""
_LEAST_OFF = 0.01
"""Minimum energy off the axes, per dimension: what rounding leaves there is not compared."""
_SIZE_FLOOR = 0.02
"""Minimum standard deviation of the logarithm of a size."""
_FURTHEST = 1_000.0
"""Limit for standardised sizes: they are kept in float16."""
_TOUCHING = 0.02
"""Minimum squared reach, 1 % of the mean squared distance: rounding separates equal vectors."""
_SIZES = 3
"""Window sizes at which the usual ratio is measured."""
_STRETCHES = 8
"""Stretches of each size."""
_MOST_USUAL = 0.95
"""Largest usual ratio: what is left of a window must be divided by something."""
_FEWER_ROWS = 1_000
"""Vectors of either side that are compared then, at most."""


@dataclass(frozen=True, slots=True)
class ChangedRatio:
    """Share of a window's vectors that are unlike the reference.

    It is a lower bound of the true share. Where known and new topics overlap, not every new vector
    can be told from a known one.

    Attributes
    ----------
    estimate : float
        0 to 1; about 0 without drift, whatever the size of the window.
    lower, upper : float
        Two standard errors below and above, from 0 to 1. They say how well the bound is known: the
        true share may be above both.
    """

    estimate: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A window beside vectors of the reference that shaped no geometry.

    Attributes
    ----------
    changed : ChangedRatio
    places, reference_places : ndarray of float32, shapes (n, k) and (h, k)
        Coordinates between which distances are measured. The mean squared distance is about 2.
    unlikeness, reference_unlikeness : ndarray of float64, shapes (n,) and (h,)
        The higher, the rather a vector belongs to the window than to the reference. Each is known
        from vectors of other folds only, so without drift both sides have the same distribution.
    """

    changed: ChangedRatio
    places: NDArray[np.float32]
    reference_places: NDArray[np.float32]
    unlikeness: Floats
    reference_unlikeness: Floats


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Vectors of the reference that shaped no geometry, to compare windows with.

    Vectors that shaped the axes lie closer to them than any others. In comparison with those, 8 to
    12 % of a window without drift would be unlike the reference.

    Attributes
    ----------
    deviation : ndarray of float32, shape (k,)
        Floored standard deviation along each axis.
    sizes : ndarray of float64, shape (2, 3)
        Median and floored standard deviation of the sizes of a vector; see `_sizes`.
    points : ndarray of float16, shape (h, k + 3)
        Coordinates along the axes, and sizes, both standardised.
    reach : ndarray of float32, shape (h,)
        Squared distance of each vector to its tenth neighbour among those of other folds.
    usual : ndarray of float64, shape (2, g)
        Logarithms of window sizes, and the ratio of stretches of the reference of these sizes to
        the rest of it. Sessions and seasons raise it above 0.
    """

    deviation: NDArray[np.float32]
    sizes: Floats
    points: NDArray[np.float16]
    reach: NDArray[np.float32]
    usual: Floats

    @classmethod
    def fit(
        cls, vectors: NDArray[np.float32], features: Features, axes: NDArray[np.float32]
    ) -> HeldOut:
        """Keep some of the vectors, shape (n, d), which did not fit the axes, shape (d, k)."""
        along, logs = _measure(vectors, features, axes)
        deviation: NDArray[np.float32] = np.maximum(along.std(axis=0), np.float32(PROBE_FLOOR))
        whitened = along / deviation
        sizes = _sizes(whitened, logs)
        middle = np.median(sizes, axis=0)
        beyond = _beyond(sizes - middle)
        scale = np.maximum(beyond.std(axis=0), _SIZE_FLOOR)
        points = _points(whitened, beyond / scale)
        kept = points[thinned(len(points), _ROWS)]
        return cls(
            deviation,
            np.stack([middle, scale]),
            kept,
            _reaches(_place(kept, deviation)),
            _usual(points, deviation),
        )

    def changed_ratio(
        self, vectors: NDArray[np.float32], features: Features, axes: NDArray[np.float32]
    ) -> ChangedRatio:
        """Measure how much of a window, shape (n, d), in order of arrival, has changed.

        Less than ten vectors show nothing.
        """
        if len(vectors) < FEWEST:
            return ChangedRatio(0.0, 0.0, 1.0)
        points = self._points(vectors[thinned(len(vectors), _ROWS)], features, axes)
        ratings = _rate(points, self.points, self.reach, self.deviation)
        return self._changed(ratings, len(vectors))

    def compare(
        self, vectors: NDArray[np.float32], features: Features, axes: NDArray[np.float32]
    ) -> Comparison:
        """Compare each vector of a window, shape (n, d), in order of arrival, n at least 10."""
        points = self._points(vectors, features, axes)
        ratings = _rate(points, self.points, self.reach, self.deviation)
        return Comparison(
            self._changed(ratings, len(vectors)),
            _place(points, self.deviation),
            _place(self.points, self.deviation),
            *np.split(ratings.scores[-1], [len(points)]),
        )

    def places(
        self, vectors: NDArray[np.float32], features: Features, axes: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the coordinates of vectors, shape (n, d), between which distances are measured."""
        return _place(self._points(vectors, features, axes), self.deviation)

    def _points(
        self, vectors: NDArray[np.float32], features: Features, axes: NDArray[np.float32]
    ) -> NDArray[np.float16]:
        along, logs = _measure(vectors, features, axes)
        whitened = along / self.deviation
        beyond = _beyond(_sizes(whitened, logs) - self.sizes[0]) / self.sizes[1]
        return _points(whitened, beyond)

    def _changed(self, ratings: _Ratings, n: int) -> ChangedRatio:
        """Bound the ratio from the ratings of a window of n vectors.

        If a share r of the vectors of an unchanged window is unlike the reference, and the share c
        of a window has changed, c + (1 - c) r of it is.
        """
        bound = lower_bound(*ratings)
        usual = np.interp(np.log(n), *self.usual)
        margin = _SURE * bound.error * np.array([-1, 0, 1])
        low, middle, high = np.clip((bound.estimate + margin - usual) / (1 - usual), 0, 1).tolist()
        return ChangedRatio(middle, low, high)

    def novelty(
        self, vectors: NDArray[np.float32], features: Features, axes: NDArray[np.float32]
    ) -> Floats:
        """Return how new each vector is, shape (n,): the share of these vectors that lie closer.

        How close a vector lies is the distance to its tenth neighbour among these vectors.
        """
        along, _ = _measure(vectors, features, axes)
        reach = _reach(
            _place((along / self.deviation).astype(np.float16), self.deviation),
            _place(self.points, self.deviation),
        )
        closer: Floats = np.searchsorted(np.sort(self.reach), reach) / len(self.reach)
        return closer


class _Ratings(NamedTuple):
    """Vectors of two samples, rated by how rather they belong to the first.

    Attributes
    ----------
    scores : list of ndarray, shape (m,)
        By a linear discriminant, and by its sum with the share of the window among the neighbours.
    is_current : ndarray of bool, shape (m,)
    fold : ndarray of intp, shape (m,)
    """

    scores: list[Floats]
    is_current: NDArray[np.bool_]
    fold: NDArray[np.intp]


def _usual(points: NDArray[np.float16], deviation: NDArray[np.float32]) -> Floats:
    """Compare stretches of the reference with the rest of it; see `HeldOut.usual`.

    A mean that does not exceed 0 by two standard errors counts as 0. The largest stretch is as
    large as the largest window that the detector is calibrated for.
    """
    n = len(points)
    largest = 2 * n // 5
    sizes = np.unique(np.geomspace(min(50, largest), largest, _SIZES).astype(np.intp))
    usual = np.zeros((2, len(sizes)))
    usual[0] = np.log(sizes)
    for at, size in enumerate(sizes):
        found = []
        for first in np.linspace(0, n - size, _STRETCHES).astype(np.intp):
            others = np.delete(points, slice(first, first + size), axis=0)
            rest = others[thinned(len(others), _FEWER_ROWS)]
            stretch = points[first + thinned(size, _FEWER_ROWS)]
            reach = _reaches(_place(rest, deviation))
            found.append(lower_bound(*_rate(stretch, rest, reach, deviation)).estimate)
        mean, error = np.mean(found), np.std(found, ddof=1) / np.sqrt(_STRETCHES)
        usual[1, at] = min(float(mean), _MOST_USUAL) if mean > _SURE * error else 0.0
    return usual


def _rate(
    current: NDArray[np.float16],
    reference: NDArray[np.float16],
    reach: NDArray[np.float32],
    deviation: NDArray[np.float32],
) -> _Ratings:
    """Rate the points of a window and of the reference."""
    points = np.concatenate([current, reference])
    is_current = np.arange(len(points)) < len(current)
    fold = np.concatenate([_folds(len(current)), _folds(len(reference))])
    linear = _discriminant(points, is_current, fold)
    near = _neighbours(_place(points, deviation), is_current, fold, reach)
    both = _normal_scores(linear) + _normal_scores(near)
    return _Ratings([linear, both], is_current, fold)


def _neighbours(
    place: NDArray[np.float32],
    is_current: NDArray[np.bool_],
    fold: NDArray[np.intp],
    reach: NDArray[np.float32],
) -> NDArray[np.intp]:
    """Count the vectors of the window near each vector, shape (m,).

    Near is within the distance of the tenth neighbour in the reference; ``reach`` has it for the
    vectors of the reference. Neighbours of both kinds are of other folds only.
    """
    count = np.empty(len(place), np.intp)
    first = int(is_current.sum())
    for each in range(_FOLDS):
        here, others = fold == each, fold != each
        new, known = here & is_current, here & ~is_current
        window = place[others & is_current]
        of_new = _reach(place[new], place[others & ~is_current])
        count[new] = _within(of_new, place[new], window)
        count[known] = _within(reach[known[first:]], place[known], window)
    return count


def _folds(n: int) -> NDArray[np.intp]:
    """Return the folds of n vectors. Each is a stretch, so that sessions stay together."""
    return np.arange(n) * _FOLDS // n


def _measure(
    vectors: NDArray[np.float32], features: Features, axes: NDArray[np.float32]
) -> tuple[NDArray[np.float32], Floats]:
    """Return the coordinates along the axes, and the logarithms of length and energy off them."""
    standardised = features.standardise(vectors)
    along: NDArray[np.float32] = standardised @ axes[:, :_AXES]
    off = _energy(standardised) - _energy(along)
    off = np.maximum(off, _LEAST_OFF * vectors.shape[1])
    return along, np.log(np.column_stack([lengths(vectors.astype(np.float64)), off]))


def _sizes(whitened: NDArray[np.float32], logs: Floats) -> Floats:
    """Return the logarithms of length, energy off the axes and whitened energy along them."""
    along = np.log(_energy(whitened) / whitened.shape[1] + _LEAST_OFF)
    return np.column_stack([logs, along])


def _energy(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    energy: NDArray[np.float32] = np.einsum("ij,ij->i", vectors, vectors)
    return energy


def _beyond(difference: Floats) -> Floats:
    """Return how far a difference is beyond what is tolerated."""
    return np.sign(difference) * np.maximum(np.abs(difference) - _TOLERATED, 0)


def _points(whitened: NDArray[np.float32], sizes: Floats) -> NDArray[np.float16]:
    # Both sides are rounded, so that equal vectors stay equal.
    limited = np.clip(sizes, -_FURTHEST, _FURTHEST)
    return np.column_stack([whitened, limited]).astype(np.float16)


def _place(points: NDArray[np.float16], deviation: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the coordinates between which distances are measured.

    They are halfway between those of the standardised vectors, where a few axes dominate, and the
    whitened ones, where the many axes of small variance do. The mean squared distance is about 2.
    """
    weight = np.sqrt(deviation / deviation.sum())
    place: NDArray[np.float32] = np.multiply(points[:, : len(deviation)], weight, dtype=np.float32)
    return place


def _square_distances(
    places: NDArray[np.float32], others: NDArray[np.float32]
) -> NDArray[np.float32]:
    distances: NDArray[np.float32] = places @ others.T
    distances *= -2
    distances += _energy(places)[:, None]
    distances += _energy(others)
    return distances


def _reach(place: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the squared distance to the tenth neighbour in the reference, shape (n,)."""
    distances = _square_distances(place, reference)
    distances.partition(_NEAREST - 1, axis=1)
    return np.maximum(distances[:, _NEAREST - 1], np.float32(_TOUCHING))


def _reaches(place: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the same for each vector of the reference, among those of other folds."""
    fold = _folds(len(place))
    reach = np.empty(len(place), np.float32)
    for each in range(_FOLDS):
        reach[fold == each] = _reach(place[fold == each], place[fold != each])
    return reach


def _within(
    reach: NDArray[np.float32], places: NDArray[np.float32], others: NDArray[np.float32]
) -> NDArray[np.intp]:
    count: NDArray[np.intp] = (_square_distances(places, others) <= reach[:, None]).sum(axis=1)
    return count


def _discriminant(
    points: NDArray[np.float16], is_current: NDArray[np.bool_], fold: NDArray[np.intp]
) -> Floats:
    """Score vectors by a ridge linear discriminant of the other folds, shape (m,).

    The mean of the window in the other folds has the score 1/2, that of the reference -1/2.
    """
    m, p = points.shape
    rows = points.astype(np.float32)
    centre, grams = np.empty((2, 1, p)), np.empty((2, _FOLDS, p + 1, p + 1))
    for side, members in enumerate((is_current, ~is_current)):
        # Around the mean of the side: far from it, float32 would lose the variances.
        centre[side] = rows[members].mean(axis=0)
        around = np.column_stack([rows - centre[side].astype(np.float32), np.ones(m, np.float32)])
        for each in range(_FOLDS):
            part = around[members & (fold == each)]
            grams[side, each] = part.T @ part
    others = grams.sum(axis=1, keepdims=True) - grams
    count = others[:, :, -1, -1, None]
    offset = others[:, :, -1, :-1] / count
    square = others[:, :, :-1, :-1] / count[..., None]
    within = (square - offset[..., None] * offset[..., None, :]).mean(axis=0)
    mean = centre + offset
    error = np.trace(within, axis1=1, axis2=2) / count[0, :, 0]
    # Without any variance, the ridge alone keeps the system regular.
    within[:, np.arange(p), np.arange(p)] += np.maximum(_RIDGE * error, 1e-3)[:, None]
    apart = mean[0] - mean[1]
    direction = np.linalg.solve(within, apart[..., None])[..., 0]
    direction /= np.maximum(np.einsum("fi,fi->f", apart, direction), 1e-12)[:, None]
    middle = np.einsum("fi,fi->f", mean.mean(axis=0), direction)
    scores: Floats = np.einsum("mi,mi->m", rows, direction[fold]) - middle[fold]
    return scores


def _normal_scores(values: NDArray[Any]) -> Floats:
    """Return the normal quantiles of ranks; equal values have equal ranks."""
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2
    scores: Floats = ndtri(rank / (len(values) + 1))[inverse]
    return scores
