"""The verdict on a window: whether drift can be told, and the numbers that tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.detector.detector import Detector, Marginals, Sums
from exporter.metrics.families import State
from exporter.monitor.windows import REFERENCE_RATIO

_TOP = 5


class Dimension(NamedTuple):
    """One dimension's statistics against the baseline."""

    dimension: int
    ks: float
    wasserstein: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured of a window against the baseline.

    Attributes
    ----------
    score : float
        Decades of surprise.
    components : mapping of str to float
        Decades of surprise of each component alone.
    magnitude : float
        Mean Wasserstein-1 distance over dimensions, in baseline standard deviations.
    ks, wasserstein : mapping of str to float
        Per-dimension statistics, aggregated: mean, p95 and max.
    cosine_similarity : float
        Mean cosine similarity to the baseline's centroid.
    top_dimensions : tuple of Dimension
        Those that moved furthest, by Wasserstein-1 distance.
    """

    score: float
    components: Mapping[str, float]
    magnitude: float
    ks: Mapping[str, float]
    wasserstein: Mapping[str, float]
    cosine_similarity: float
    top_dimensions: tuple[Dimension, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What can be said of one window now.

    ``measurement`` is None in every state but ``ok``: a number nobody should trust is not
    shown. ``start`` is when the oldest vector was stored, None for an empty window;
    ``baseline_version`` is None while there is no baseline. ``is_overdue`` tells that the
    measurement is older than the window, or missing, because there was no time for another.
    """

    state: State
    vectors: int
    start: float | None
    measurement: Measurement | None
    baseline_version: int | None
    is_overdue: bool = False


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What decides, beside the window itself, whether drift can be told."""

    now: float
    last_received_at: float | None
    mismatched_at: float | None
    stale_after: float


def state(
    vectors: int, min_vectors: int, detector: Detector | None, circumstances: Circumstances
) -> State:
    """Say whether drift of a window of so many vectors can be told, or the first reason why not."""
    if detector is None:
        return "no_baseline"
    if detector.n_reference < REFERENCE_RATIO * min_vectors:
        return "baseline_too_small"
    received = circumstances.last_received_at
    if circumstances.mismatched_at is not None and circumstances.mismatched_at > (received or 0):
        return "dimension_changed"
    if received is None or circumstances.now - received > circumstances.stale_after:
        return "stale"
    if vectors < min_vectors:
        return "too_few_vectors"
    return "ok"


def measure(detector: Detector, current: Sums, at: float | None = None) -> Measurement:
    """Measure a window from its running sums; the cost does not depend on its length.

    Parameters
    ----------
    detector : Detector
    current : Sums
    at : float or None
        The middle of the window, in seconds since the epoch, for a detector that knows seasons.
    """
    marginals = detector.marginals(current)
    score, components = detector.scores(current, at)
    return Measurement(
        score=score,
        components=components,
        magnitude=float(marginals.wasserstein.mean()),
        ks=_aggregate(marginals.ks),
        wasserstein=_aggregate(marginals.wasserstein),
        cosine_similarity=detector.cosine_similarity(current),
        top_dimensions=_top(marginals),
    )


def _top(marginals: Marginals) -> tuple[Dimension, ...]:
    furthest = np.argsort(marginals.wasserstein)[::-1][:_TOP]
    return tuple(
        Dimension(int(at), float(marginals.ks[at]), float(marginals.wasserstein[at]))
        for at in furthest
    )


def _aggregate(statistic: NDArray[np.float64]) -> dict[str, float]:
    return {
        "mean": float(statistic.mean()),
        "p95": float(np.quantile(statistic, 0.95)),
        "max": float(statistic.max()),
    }
