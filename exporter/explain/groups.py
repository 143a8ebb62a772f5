"""Groups: parts of the space that hold more, or less, of a window than of the baseline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.detector.ratio import Comparison
from exporter.explain.clusters import k_means, nearest, square_distances
from exporter.stats.arrays import Floats, Vectors
from exporter.stats.design_effect import design_effect
from exporter.stats.enrichment import log_p_value, log_p_value_in_blocks

_TOPS = (0.05, 0.15)
"""Shares of the vectors of both sides, those most unlike the baseline, that may form new groups. A
large new topic fills the smaller one, and hides a small topic there."""
_NEW = 12
"""Clusters among them. Topics come in one or two pieces; joining near pieces merges topics."""
_KNOWN = 64
"""Clusters of the baseline, at most."""
_LEAST_KNOWN = 20
"""Vectors of the baseline for each of its clusters, at least."""
_GONE = 0.5
"""Largest ratio of the shares of a cluster, now and before, that counts as shrunk."""
_FALSE_ALARMS = 0.05
"""Chance that a window without drift names a shrunk group, and level of the tests in blocks."""
_SURE, _SURE_IF_CHANGED = 1e-5, 7e-3
"""p-values below which a cluster has grown: in any window, and in one that has certainly changed.

The ranking has looked at the neighbours of a vector, and vectors in a cluster are neighbours. So
these p-values are too small: the least of a window without drift is often 1e-3. The interval of the
changed ratio does not have this fault.
"""
_WINDOW_BLOCKS = 4
_BASELINE_BLOCKS = 10
"""Blocks in which the dependence of the vectors is measured. They hold interleaved sessions."""
_LINKS = 5
"""Nearest vectors that are looked at to see whether two clusters are pieces of one topic."""
_MIXED = 0.4
"""Share of the links between pieces, of those by chance, from which they are one topic."""
_SAME = 0.5
"""Ratio of common vectors from which two clusters are one group."""


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """What belongs to a group.

    Attributes
    ----------
    centre : ndarray of float32, shape (p,)
    window, baseline : ndarray of intp
        Rows of the members on either side.
    """

    centre: Vectors
    window: NDArray[np.intp]
    baseline: NDArray[np.intp]


def baseline_centres(places: Vectors) -> Vectors:
    """Return the centres of the baseline's clusters, from its places, shape (m, p)."""
    return k_means(places, max(1, min(_KNOWN, len(places) // _LEAST_KNOWN)))


def dependence(window: Vectors, baseline: Vectors, known: Vectors) -> float:
    """Return the design effect of a window and its baseline, whichever is larger.

    Parameters
    ----------
    window, baseline : ndarray of float32, shapes (n, p) and (m, p)
        Places, in the order of arrival.
    known : ndarray of float32, shape (c, p)
        Centres of the baseline's clusters.
    """
    n, m = len(window), len(baseline)
    return max(
        design_effect(nearest(window, known), n // _WINDOW_BLOCKS),
        design_effect(nearest(baseline, known), min(n, m // _BASELINE_BLOCKS)),
    )


def grown(compared: Comparison, baseline: Vectors, known: Vectors, effect: float) -> list[Members]:
    """Find the groups that grew, the most certain first.

    The vectors most unlike the baseline, of both sides, are clustered without regard to the side. A
    cluster counts if it holds more of the window than chance explains, by Fisher's test and in
    blocks of arrival; much more, if the interval of the changed ratio holds 0. Members are then all
    vectors that are nearer to its centre than to any other, and their shares must differ, too.

    Parameters
    ----------
    compared : Comparison
    baseline : ndarray of float32, shape (m, p)
        Places of the baseline's vectors.
    known : ndarray of float32, shape (c, p)
        Centres of the baseline's clusters.
    effect : float
        The design effect; see `dependence`.
    """
    candidates = sorted(_candidates(compared, effect), key=lambda each: each[0])
    pieces: list[NDArray[np.intp]] = []
    for _, rows in candidates:
        if all(len(np.intersect1d(rows, one)) < _SAME * min(len(rows), len(one)) for one in pieces):
            pieces.append(rows)
    if not pieces:
        return []
    new = np.stack(
        [compared.places[rows].mean(axis=0) for rows in _joined(compared.places, pieces)]
    )
    every = np.concatenate([new, known])
    in_window, in_baseline = nearest(compared.places, every), nearest(baseline, every)
    found = [
        Members(centre, np.flatnonzero(in_window == at), np.flatnonzero(in_baseline == at))
        for at, centre in enumerate(new)
    ]
    # The test before counted only vectors that rank high. This one counts all that are nearest.
    n, m = len(compared.places), len(baseline)
    ours, theirs = [len(each.window) for each in found], [len(each.baseline) for each in found]
    has_grown = log_p_value(ours, n, theirs, m, effect) < np.log(_SURE_IF_CHANGED)
    return [each for each, grew in zip(found, has_grown, strict=True) if grew]


def _joined(places: Vectors, pieces: list[NDArray[np.intp]]) -> list[NDArray[np.intp]]:
    """Join the pieces of the same topic.

    The nearest vectors of a vector are as often in another piece of its topic as in its own.
    Distances of centres do not tell: different topics are close to each other too.
    """
    joined: list[NDArray[np.intp]] = []
    for piece in pieces:
        for at, one in enumerate(joined):
            if _mixing(places, piece, one) > _MIXED:
                joined[at] = np.union1d(one, piece)
                break
        else:
            joined.append(piece)
    return joined


def _mixing(places: Vectors, one: NDArray[np.intp], other: NDArray[np.intp]) -> float:
    """Return how often nearest vectors are in the other piece, of how often by chance."""
    rows = np.union1d(one, other)
    in_one = np.isin(rows, one)
    distances = square_distances(places[rows], places[rows])
    np.fill_diagonal(distances, np.inf)
    nearest_rows = np.argsort(distances, axis=1)[:, :_LINKS]
    crossing = (in_one[nearest_rows] != in_one[:, None]).mean()
    chance = 2 * in_one.mean() * (1 - in_one.mean())
    return float(crossing / chance) if chance > 0 else 1.0


def _candidates(compared: Comparison, effect: float) -> Iterator[tuple[float, NDArray[np.intp]]]:
    """Yield the log p-value, and the rows in the window, of each cluster that grew."""
    n, h = len(compared.places), len(compared.reference_places)
    places = np.concatenate([compared.places, compared.reference_places])
    unlike = np.concatenate([compared.unlikeness, compared.reference_unlikeness])
    order = np.argsort(-unlike, kind="stable")
    level = np.log(_SURE_IF_CHANGED if compared.changed.lower > 0 else _SURE)
    for share in _TOPS:
        top = order[: max(round(share * (n + h)), _NEW)]
        centres = k_means(places[top], _NEW)
        of = nearest(places[top], centres)
        for each in range(len(centres)):
            members = top[of == each]
            ours, theirs = np.sort(members[members < n]), np.sort(members[members >= n]) - n
            log_p = float(log_p_value(len(ours), n, len(theirs), h, effect))
            in_blocks = log_p_value_in_blocks(ours, n, theirs, h)
            if log_p < level and in_blocks < np.log(_FALSE_ALARMS):
                yield log_p, ours


def shrunk(
    window: Vectors,
    baseline: Vectors,
    known: Vectors,
    others: NDArray[np.intp],
    baseline_others: NDArray[np.intp],
    effect: float,
) -> list[Members]:
    """Find the clusters of the baseline that lost half of their share or more.

    Of those that did not shrink, at most 5 % are expected among them (Benjamini, Hochberg 1995).

    Parameters
    ----------
    window, baseline : ndarray of float32, shapes (n, p) and (m, p)
        Places.
    known : ndarray of float32, shape (c, p)
        Centres of the baseline's clusters.
    others, baseline_others : ndarray of intp, ascending
        Rows outside of grown groups. Shares are those among them: where much is new, everything
        else has a smaller share of the window.
    effect : float
        The design effect; see `dependence`.
    """
    from scipy.stats import false_discovery_control  # late: see `enrichment`

    if not len(others) or not len(baseline_others):
        return []
    in_window, in_baseline = (
        nearest(window[others], known),
        nearest(baseline[baseline_others], known),
    )
    n, m = len(others), len(baseline_others)
    now = np.bincount(in_window, minlength=len(known))
    before = np.bincount(in_baseline, minlength=len(known))
    log_p: Floats = log_p_value(before, m, now, n, effect)
    clear = false_discovery_control(np.exp(log_p)) <= _FALSE_ALARMS
    clear &= now / n <= _GONE * before / m
    found = []
    for each in np.argsort(log_p, kind="stable"):
        theirs = np.flatnonzero(in_baseline == each)
        ours = np.flatnonzero(in_window == each)
        if clear[each] and log_p_value_in_blocks(theirs, m, ours, n) < np.log(_FALSE_ALARMS):
            found.append(Members(known[each], others[ours], baseline_others[theirs]))
    return found
