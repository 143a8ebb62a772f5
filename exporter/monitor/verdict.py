"""The verdict on a window: whether drift can be measured now, and the measured numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.detector.marginals import Marginals
from exporter.detector.sums import Sums
from exporter.monitor.following import Reason
from exporter.monitor.states import State
from exporter.monitor.windows import REFERENCE_RATIO, Limits

AGGREGATES = ("mean", "p95", "max")
"""How a statistic of each dimension becomes one number."""

_TOP = 5


class Dimension(NamedTuple):
    """Statistics of one dimension against the baseline."""

    dimension: int
    ks: float
    wasserstein: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """The numbers of a window measured against the baseline.

    Attributes
    ----------
    score : float
        Minus log10 of the p-value.
    components : mapping of str to float
        The same of each component alone.
    ks : mapping of str to float
        Kolmogorov-Smirnov statistics of the dimensions, aggregated: mean, p95 and max.
    wasserstein : mapping of str to float
        Wasserstein-1 distances of the dimensions in baseline standard deviations, less their
        expectation without drift, aggregated; at least 0.
    cosine_similarity : float
        Mean cosine similarity to the centroid of the baseline.
    top_dimensions : tuple of Dimension
        The dimensions that moved furthest, by Wasserstein-1 distance.
    """

    score: float
    components: Mapping[str, float]
    ks: Mapping[str, float]
    wasserstein: Mapping[str, float]
    cosine_similarity: float
    top_dimensions: tuple[Dimension, ...]


@dataclass(frozen=True, slots=True)
class Revisions:
    """What a window says about ids that were sent again with another vector.

    A median near 1 with few revisions: some documents changed. Many revisions with about the same
    cosine: the encoder changed.

    Attributes
    ----------
    vectors : int
        Vectors of the window that revise an earlier vector of the same id, with a known cosine.
    median_cosine : float or None
        Median cosine between the new and the earlier vector; None without revisions.
    """

    vectors: int
    median_cosine: float | None

    @classmethod
    def of(cls, cosines: NDArray[np.float32]) -> Revisions:
        """Summarise the cosines of the revisions in a window, shape (r,)."""
        return cls(len(cosines), float(np.median(cosines)) if len(cosines) else None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a window at one moment.

    Attributes
    ----------
    state : State
        ``ok``, or the first reason why drift cannot be measured, or not in all vectors.
    vectors : int
        Vectors in the window.
    start : float or None
        When its oldest vector was stored, in seconds since the epoch; None for an empty window.
    sampled_ratio : float
        Share of the vectors of its span that it holds.
    measurement : Measurement or None
        None in every state but ``ok`` and ``dimension_changed``: a number that cannot be trusted is
        not shown.
    baseline_version : int or None
        None while there is no baseline.
    is_overdue : bool
        Whether there was no time to measure: the measurement is then an older one, or missing.
    """

    state: State
    vectors: int
    start: float | None
    sampled_ratio: float
    measurement: Measurement | None
    baseline_version: int | None
    is_overdue: bool = False


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Inputs other than the window that determine its state.

    ``has_mismatch`` is whether vectors of another dimension arrived, and nobody has resolved it.
    ``examined_since`` is the time before which a magnitude is too old to be shown.
    ``baseline_varies`` is whether the vectors of the baseline differ, if there is one.
    """

    now: float
    last_received_at: float | None
    has_mismatch: bool
    stale_after: float
    not_followed: Reason | None = None
    examined_since: float = -math.inf
    baseline_varies: bool = True


def judge_state(
    vectors: int,
    limits: Limits,
    is_sampled: bool,
    detector: Detector | None,
    circumstances: Circumstances,
) -> State:
    """Return ``ok`` if drift can be measured in a window of n vectors, else the first reason.

    ``is_sampled`` is whether these are a sample of the vectors of its seconds.
    ``dimension_changed`` is such a reason for a part of the vectors. It stays, whatever arrives
    later, because some sender may still be refused.
    """
    if circumstances.not_followed is not None:
        return "not_followed"
    if detector is None:
        return "no_baseline"
    if detector.n_reference < REFERENCE_RATIO * limits.settings.min_vectors:
        return "baseline_too_small"
    if not circumstances.baseline_varies:
        return "baseline_constant"
    if circumstances.has_mismatch:
        return "dimension_changed"
    return judge_vectors(vectors, limits.least(is_sampled), circumstances)


def judge_vectors(vectors: int, least: int, circumstances: Circumstances) -> State:
    """Return ``ok`` if a window of n vectors is recent and has enough of them."""
    received = circumstances.last_received_at
    if received is None or circumstances.now - received > circumstances.stale_after:
        return "stale"
    if vectors < least:
        return "too_few_vectors"
    return "ok"


def measure(detector: Detector, current: Sums) -> Measurement:
    """Measure a window from its running sums; the cost does not depend on its length."""
    marginals = detector.marginals(current)
    score, components = detector.scores(current)
    return Measurement(
        score=score,
        components=components,
        ks=_aggregate(marginals.ks),
        wasserstein=_aggregate(marginals.wasserstein - marginals.expected),
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
    aggregates = {
        "mean": float(statistic.mean()),
        "p95": _p95(statistic),
        "max": float(statistic.max()),
    }
    return {name: max(value, 0.0) for name, value in aggregates.items()}


def _p95(statistic: NDArray[np.float64]) -> float:
    """Return the 95th percentile. np.quantile takes five times as long."""
    place = 0.95 * (len(statistic) - 1)
    low = int(place)
    high = min(low + 1, len(statistic) - 1)
    ordered = np.partition(statistic, [low, high])
    return float(ordered[low] + (place - low) * (ordered[high] - ordered[low]))
