"""Clusters: k-means, what lies in a cluster, and what is typical of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exporter.stats.arrays import Vectors

_ROUNDS = 6


def k_means(places: Vectors, k: int, seed: int = 0) -> Vectors:
    """Return the centres of at most k clusters, shape (k, p), of places, shape (n, p).

    scipy's k-means warns when a cluster becomes empty, which equal places cause. Here it is left
    out.
    """
    centres = _far_apart(places, k, np.random.default_rng(seed))
    for _ in range(_ROUNDS):
        present, of = np.unique(nearest(places, centres), return_inverse=True)
        members = (of == np.arange(len(present))[:, None]).astype(np.float32)
        centres = (members @ places) / members.sum(axis=1, keepdims=True)
    return centres


def _far_apart(places: Vectors, k: int, random: np.random.Generator) -> Vectors:
    """Choose places to start from, each with a chance that grows with the distance to the others.

    Source: Arthur, Vassilvitskii (2007), "k-means++".
    """
    chosen = [int(random.integers(len(places)))]
    energy = np.square(places).sum(axis=1)
    distance = np.full(len(places), np.inf, np.float32)
    while len(chosen) < k:
        last = chosen[-1]
        to_last = energy + energy[last] - 2 * (places @ places[last])
        distance = np.minimum(distance, np.maximum(to_last, 0))
        until = np.cumsum(distance, dtype=np.float64)
        if until[-1] <= 0:  # all places are equal to a chosen one
            break
        chosen.append(int(np.searchsorted(until, random.random() * until[-1], side="right")))
    return places[chosen]


def square_distances(places: Vectors, centres: Vectors) -> Vectors:
    """Return the squared distances, shape (n, k), between places and centres."""
    from_origin: Vectors = np.square(places).sum(axis=1, keepdims=True)
    return from_origin + _beyond(places, centres)


def _beyond(places: Vectors, centres: Vectors) -> Vectors:
    """Return the squared distances less those from the origin, shape (n, k)."""
    distances: Vectors = places @ centres.T
    distances *= -2
    distances += np.square(centres).sum(axis=1)
    return distances


def nearest(places: Vectors, centres: Vectors) -> NDArray[np.intp]:
    """Return which of the centres, shape (k, p), is nearest to each place, shape (n,)."""
    of: NDArray[np.intp] = _beyond(places, centres).argmin(axis=1)
    return of


def typical(places: Vectors, centre: Vectors, most: int) -> NDArray[np.intp]:
    """Return the rows of places near a centre that differ from each other, at most so many.

    The nearest comes first. Each further one is the nearest that is not closer to one before than
    half of what the places are apart on average. So equal places are not shown twice.
    """
    from_centre = square_distances(places, centre[None])[:, 0]
    apart = np.square(places - places.mean(axis=0)).sum(axis=1).mean()
    chosen: list[int] = []
    for row in np.argsort(from_centre, kind="stable").tolist():
        if (square_distances(places[[row]], places[chosen]) > apart / 2).all():
            chosen.append(row)
        if len(chosen) == most:
            break
    return np.array(chosen, np.intp)
