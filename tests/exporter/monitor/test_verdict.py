"""The verdict: a number only where it can be trusted, else the reason why not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.detector.detector import Detector
from exporter.monitor.states import STATES, State
from exporter.monitor.verdict import Circumstances, Revisions, judge_state, measure
from exporter.monitor.windows import Limits
from ingest.runtime.settings.settings import WindowSettings

NOW = 1e9


def circumstances(received: float | None = NOW, has_mismatch: bool = False) -> Circumstances:
    return Circumstances(NOW, received, has_mismatch, stale_after=600)


@pytest.mark.parametrize(
    ("count", "min_vectors", "has_detector", "given", "expected"),
    [
        (100, 50, True, circumstances(), "ok"),
        (0, 50, False, Circumstances(NOW, None, True, 600, "behind"), "not_followed"),
        (100, 50, False, circumstances(), "no_baseline"),
        (300, 501, True, circumstances(), "baseline_too_small"),
        (
            100,
            50,
            True,
            Circumstances(NOW, NOW, False, 600, baseline_varies=False),
            "baseline_constant",
        ),
        (100, 50, True, circumstances(has_mismatch=True), "dimension_changed"),
        (
            100,
            50,
            True,
            circumstances(received=NOW - 601, has_mismatch=True),
            "dimension_changed",
        ),
        (0, 50, True, circumstances(received=None, has_mismatch=True), "dimension_changed"),
        (100, 50, True, circumstances(received=NOW - 601), "stale"),
        (100, 50, True, circumstances(received=NOW - 599), "ok"),
        (0, 50, True, circumstances(received=None), "stale"),
        (49, 50, True, circumstances(), "too_few_vectors"),
        (50, 50, True, circumstances(), "ok"),
    ],
)
def test_the_state_is_the_first_reason_why_drift_cannot_be_measured(
    detector: Detector,
    count: int,
    min_vectors: int,
    has_detector: bool,
    given: Circumstances,
    expected: State,
) -> None:
    window = WindowSettings(seconds=900, min_vectors=min_vectors)
    limits = Limits.of(window, detector.n_reference)
    found = judge_state(count, limits, False, detector if has_detector else None, given)
    assert found == expected
    assert expected in STATES


@pytest.mark.parametrize(
    ("count", "is_sampled", "expected"),
    [
        (449, False, "too_few_vectors"),
        (450, False, "ok"),
        (249, True, "too_few_vectors"),
        (250, True, "ok"),
    ],
)
def test_a_sample_may_be_half_as_large_as_its_window(
    detector: Detector, count: int, is_sampled: bool, expected: State
) -> None:
    limits = Limits.of(WindowSettings(seconds=900, min_vectors=450), detector.n_reference)
    assert limits.capacity == 500
    assert judge_state(count, limits, is_sampled, detector, circumstances()) == expected


def test_a_measurement_holds_every_number_of_the_detector(
    vectors: NDArray[np.float32], detector: Detector
) -> None:
    moved = vectors[1_000:1_100] + np.r_[np.zeros(7), 5].astype(np.float32)
    measured = measure(detector, detector.sums(moved))
    assert measured.score == detector.score(moved)
    assert tuple(measured.components) == detector.COMPONENTS
    assert measured.top_dimensions[0].dimension == 7
    assert measured.ks["max"] == measured.top_dimensions[0].ks
    marginals = detector.marginals(moved)
    assert measured.top_dimensions[0].wasserstein == marginals.wasserstein.max()
    beyond = marginals.wasserstein - marginals.expected
    assert measured.wasserstein == {
        "mean": beyond.mean(),
        "p95": np.quantile(beyond, 0.95),
        "max": beyond.max(),
    }
    assert measured.ks["mean"] <= measured.ks["p95"] <= measured.ks["max"]


def test_revisions_are_summarised_by_number_and_median() -> None:
    cosines = np.array([0.25, 1.0, 0.5], np.float32)
    assert Revisions.of(cosines) == Revisions(3, 0.5)
    assert Revisions.of(cosines[:0]) == Revisions(0, None)
