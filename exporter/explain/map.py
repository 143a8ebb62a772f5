"""Map: where the vectors of a window lie among those of its baseline, in two dimensions.

The vectors of the baseline are arranged once, and stay where they are. A vector of a window lies
among its nearest ones. That hides what is new, which has no neighbours there; so the groups that
grew are islands beside the map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.explain.clusters import k_means, nearest, square_distances
from exporter.explain.explanation import Explanation, Group
from exporter.explain.keywords import Vocabulary, keywords
from exporter.explain.observations import Observations
from exporter.stats.arrays import Vectors
from exporter.stats.tsne import tsne

_OF_BASELINE = 600
_OF_WINDOW = 250
"""Vectors that are shown, at most."""
_NEAREST = 5
_REGIONS = 12
"""Parts of the map that may have a name."""
_INSIDE = 0.8
"""Share of the vectors of a shrunk group that its ring holds."""
_SMALLEST = 0.03
"""Radius of a ring, at least; the map has a radius of 1."""


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the map with a name: where its middle is."""

    x: float
    y: float
    name: str


@dataclass(frozen=True, slots=True)
class Ring(Region):
    """Where a group was that shrank, named by its id."""

    radius: float


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """A map of a window.

    Attributes
    ----------
    baseline : ndarray of float32, shape (k, 2)
        Positions of vectors of the baseline, at most 1 from the origin. The same in each map of
        this baseline.
    rows : ndarray of intp, shape (w,)
        Rows of the window that are shown.
    window : ndarray of float32, shape (w, 2)
        Their positions.
    regions : tuple of Region
        Parts of the baseline, named by their first keyword. None without texts.
    rings : tuple of Ring
        One of each shrunk group.
    """

    baseline: Vectors
    rows: NDArray[np.intp]
    window: Vectors
    regions: tuple[Region, ...]
    rings: tuple[Ring, ...]


def shown(n: int) -> NDArray[np.intp]:
    """Return the rows of a baseline of n vectors that its maps show."""
    return np.unique(np.linspace(0, n - 1, _OF_BASELINE).astype(np.intp))


def draw(
    detector: Detector,
    baseline: Observations,
    window: Observations,
    explanation: Explanation,
    before: Vectors | None = None,
) -> Map:
    """Draw the map of a window.

    Parameters
    ----------
    detector : Detector
    baseline, window : Observations
        What the explanation was made from. Of the baseline, the `shown` rows are enough.
    explanation : Explanation
    before : ndarray of float32, shape (k, 2), optional
        Positions of the baseline in another map of it. Without them, they are computed, which takes
        a second.
    """
    baseline = baseline.take(shown(len(baseline)))
    places = detector.places(baseline.vectors)
    positions = before if before is not None and len(before) == len(places) else tsne(places)
    grown = [each for each in explanation.groups if each.change == "grown"]
    spread = np.linspace(0, len(window) - 1, min(len(window), _OF_WINDOW)).astype(np.intp)
    rows = np.unique(np.concatenate([spread, *(each.examples for each in grown)]))
    distances = square_distances(detector.places(window.vectors[rows]), places)
    near = np.argpartition(distances, min(_NEAREST, len(places)) - 1, axis=1)[:, :_NEAREST]
    return Map(
        baseline=positions,
        rows=rows,
        window=np.median(positions[near], axis=1),
        regions=_regions(positions, baseline),
        rings=tuple(
            _ring(each.id, positions[_members(each, places)])
            for each in explanation.groups
            if each.change == "shrunk"
        ),
    )


def _regions(positions: Vectors, baseline: Observations) -> tuple[Region, ...]:
    words = Vocabulary(baseline.texts)
    of = nearest(positions, k_means(positions, _REGIONS))
    found = []
    for each in range(int(of.max()) + 1):
        inside = np.flatnonzero(of == each)
        named = keywords(words[inside], words[np.flatnonzero(of != each)])
        if named:
            found.append(Region(*_middle(positions[inside]), named[0]))
    return tuple(found)


def _members(group: Group, places: Vectors) -> NDArray[np.intp]:
    """Return the rows of places nearest to the centre of a group, its share of them.

    An explanation and a map look at different vectors of a large baseline, so a group may have
    none of those shown.
    """
    count = max(round(group.share_before * len(places)), 1)
    from_centre = square_distances(places, group.centre[None])[:, 0]
    return np.argsort(from_centre, kind="stable")[:count]


def _ring(name: str, positions: Vectors) -> Ring:
    x, y = _middle(positions)
    radius = np.quantile(np.linalg.norm(positions - [x, y], axis=1), _INSIDE)
    return Ring(x, y, name, max(float(radius), _SMALLEST))


def _middle(positions: Vectors) -> tuple[float, float]:
    x, y = np.median(positions, axis=0).tolist()
    return x, y
