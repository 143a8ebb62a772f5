"""t-SNE: a map in two dimensions on which near neighbours stay near."""

from __future__ import annotations

import numpy as np

from exporter.stats.arrays import Vectors

_NEIGHBOURS = 30
_STEPS = 500
_EXAGGERATED = 200
"""Steps at first, in which neighbours attract each other more strongly and clusters form."""
_EXAGGERATION = 12.0
_MOMENTUM = (0.5, 0.8)
"""In the first steps, and later."""
_SPREAD = 1e-4
"""Standard deviation of the first axis at the beginning."""


def tsne(places: Vectors) -> Vectors:
    """Arrange points on a map so that near neighbours stay near.

    Parameters
    ----------
    places : ndarray of float32, shape (n, p)
        At least two points. Time and memory grow with the square of n: 600 points take a second of
        one core and 10 MB, 1,000 take three seconds.

    Returns
    -------
    ndarray of float32, shape (n, 2)
        Centred; the point that is furthest out is at a distance of 1. The same points have the
        same map, except for rounding, which differs from machine to machine.

    Notes
    -----
    van der Maaten, Hinton (2008), "Visualizing Data using t-SNE", without approximation. All of the
    30 nearest neighbours attract a point alike, which gives nearly the same map as affinities of a
    given perplexity (Böhm, Berens, Kobak 2022) and has nothing to search for. The map begins with
    the principal axes, and the learning rate grows with n (Kobak, Berens 2019; Belkina et al.
    2019).
    """
    n = len(places)
    attraction = _affinities(places)
    points = _principal(places)
    velocity = np.zeros_like(points)
    rate = np.float32(max(n / _EXAGGERATION, 50.0))
    for step in range(_STEPS):
        is_early = step < _EXAGGERATED
        near = np.reciprocal(1 + _square_distances(points))
        np.fill_diagonal(near, 0)
        force = attraction * np.float32(_EXAGGERATION if is_early else 1) - near / near.sum()
        force *= near
        gradient = 4 * (force.sum(axis=1, keepdims=True) * points - force @ points)
        velocity = np.float32(_MOMENTUM[not is_early]) * velocity - rate * gradient
        points = points + velocity
    points -= points.mean(axis=0)
    reach = np.linalg.norm(points, axis=1).max()
    within: Vectors = points / max(reach, np.float32(1e-12))
    return within


def _affinities(places: Vectors) -> Vectors:
    """Return how strongly each two points attract each other, shape (n, n); the sum is 1."""
    n = len(places)
    distances = _square_distances(places)
    np.fill_diagonal(distances, np.inf)
    k = min(_NEIGHBOURS, n - 1)
    nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
    is_near = np.zeros((n, n), np.float32)
    np.put_along_axis(is_near, nearest, 1, axis=1)
    both: Vectors = is_near + is_near.T
    both /= both.sum()
    return both


def _principal(places: Vectors) -> Vectors:
    """Return the coordinates along the first two principal axes, made small."""
    around = places - places.mean(axis=0)
    _, axes = np.linalg.eigh(around.T @ around)
    # The sign of an axis is arbitrary: the largest coordinate of each is positive here.
    axes = axes[:, :-3:-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    points: Vectors = np.zeros((len(places), 2), np.float32)
    points[:, : axes.shape[1]] = around @ axes
    points *= np.float32(_SPREAD / max(float(points[:, 0].std()), 1e-12))
    return points


def _square_distances(points: Vectors) -> Vectors:
    energy = np.square(points).sum(axis=1)
    distances: Vectors = points @ points.T
    distances *= -2
    distances += energy
    distances += energy[:, None]
    return np.maximum(distances, 0, out=distances)
