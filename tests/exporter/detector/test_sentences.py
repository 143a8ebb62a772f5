"""The detector on real sentence embeddings: its level, its power and its cost in false alarms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from exporter.detector import Detector
from exporter.detector.calibration import CEILING
from exporter.stats import ks

Vectors = NDArray[np.float32]
Change = Callable[[Vectors], NDArray[Any]]
DAY = 86_400.0


def windows(vectors: Vectors, size: int, count: int) -> list[Vectors]:
    random = np.random.default_rng(1)
    return [random.choice(vectors, size, replace=False) for _ in range(count)]


def test_windows_without_drift_rarely_alarm(judge: Detector, fresh: Vectors) -> None:
    for size in (50, 200, 500):
        alarms = sum(judge.alarm(window) for window in windows(fresh, size, 100))
        assert alarms <= 6


@pytest.mark.parametrize(
    "rounded",
    [
        lambda x: x.astype(np.float16),
        lambda x: np.round(x / np.abs(x).max() * 127) / 127 * np.abs(x).max(),
        lambda x: x + 0.01 / 384**0.5 * np.random.default_rng(0).normal(size=x.shape),
    ],
    ids=["float16", "int8", "noise of 1 %"],
)
def test_rounding_is_not_drift(judge: Detector, fresh: Vectors, rounded: Change) -> None:
    alarms = sum(judge.alarm(rounded(window)) for window in windows(fresh, 500, 40))
    assert alarms <= 3


DRIFTS: dict[str, Change] = {
    "rotation": lambda x: x @ np.linalg.qr(np.random.default_rng(0).normal(size=(384, 384)))[0],
    "noise": lambda x: x + 0.3 / 384**0.5 * np.random.default_rng(0).normal(size=x.shape),
    "three dimensions zeroed": lambda x: np.where(np.isin(np.arange(384), [5, 99, 200]), 0, x),
    "scale": lambda x: x * 1.01,
    "collapse": lambda x: x.mean(axis=0) + 0.95 * (x - x.mean(axis=0)),
    "stuck": lambda x: np.concatenate([x[:150], np.repeat(x[:1], 50, axis=0)]),
    "twice": lambda x: np.repeat(x[:100], 2, axis=0),
}


@pytest.mark.parametrize("drift", DRIFTS.values(), ids=list(DRIFTS))
def test_a_broken_pipeline_scores_high(judge: Detector, fresh: Vectors, drift: Change) -> None:
    for window in windows(fresh, 200, 5):
        assert judge.score(drift(window)) > 4.5


def test_a_new_topic_is_found_by_its_direction(sentences: Vectors) -> None:
    random = np.random.default_rng(0)
    known, new = sentences[:3_000], sentences[3_000:3_060]
    new = new - new.mean(axis=0) + random.choice(known, 1) * 1.5
    detector = Detector.fit(known)
    window = np.concatenate([sentences[4_000:4_540], new])
    assert detector.components(window)["direction"] > 4
    assert detector.score(window) > 4


def test_one_absurd_vector_does_not_decide_the_score(judge: Detector, fresh: Vectors) -> None:
    window = fresh[:500].copy()
    window[0] = 1e30
    assert judge.score(window) < 30


def test_the_score_has_a_ceiling(judge: Detector, fresh: Vectors) -> None:
    assert 100 < judge.score(-5 * fresh[:500]) <= CEILING


def test_repeats_that_the_reference_has_too_are_no_drift(sentences: Vectors) -> None:
    repeated = np.repeat(sentences[:1_500], 2, axis=0)
    detector = Detector.fit(np.random.default_rng(0).permutation(repeated))
    window = np.concatenate([sentences[1_500:1_790], sentences[1_500:1_510]])
    assert detector.components(window)["duplicates"] < 2
    assert detector.components(np.repeat(window, 2, axis=0))["duplicates"] > 10


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("size", [200, 1_000])
def test_vectors_of_the_reference_sent_again_are_no_drift(
    judge: Detector, reference: Vectors, fresh: Vectors, share: float, size: int
) -> None:
    again = round(share * size)
    for seed in range(3):
        rows = np.random.default_rng(seed).permutation(len(reference))[:again]
        following = slice(600 * seed, 600 * seed + again)
        for old in (reference[rows], reference[following]):
            window = np.concatenate([old, fresh[seed * 100 :][: size - len(old)]])
            assert judge.score(window) < 3


def test_sessions_in_the_reference_widen_the_null(sentences: Vectors) -> None:
    # Thirty vectors around each of 120 texts, in their order or shuffled.
    random = np.random.default_rng(0)
    noise = 0.02 * random.normal(size=(180, 30, 384))
    arrived = (sentences[:180, None] + noise).reshape(-1, 384).astype(np.float32)
    reference, window = arrived[:4_500], arrived[4_500:5_100]
    aware = Detector.fit(reference)
    unaware = Detector.fit(random.permutation(reference))
    assert unaware.score(window) > 20
    assert aware.score(window) < 3


def test_cosine_similarity_is_measured_to_the_centroid(
    judge: Detector, reference: Vectors, fresh: Vectors
) -> None:
    # Measured to the centroid of half of the reference.
    assert judge.cosine_similarity(reference) == pytest.approx(judge.reference_cosine_similarity)
    assert judge.cosine_similarity(-fresh[:100]) == pytest.approx(
        -judge.cosine_similarity(fresh[:100]), abs=1e-4
    )


def test_a_small_reference_keeps_the_level(sentences: Vectors) -> None:
    detector = Detector.fit(sentences[:250])
    assert sum(detector.alarm(window) for window in windows(sentences[250:], 50, 50)) <= 4
    assert detector.score(sentences[250:300] * 1.05) > 4.5


def test_binned_marginals_are_close_to_the_exact_ones(
    judge: Detector, reference: Vectors, fresh: Vectors
) -> None:
    window = fresh[:500] * 1.3 + 0.02
    marginals = judge.marginals(window)
    exact = ks.statistic(reference, window)
    assert np.abs(marginals.ks - exact).max() < 1.5 / 256
    deviation = reference.std(axis=0)
    alive = deviation > 1e-3
    distance = [
        wasserstein_distance(x, y) for x, y in zip(reference.T[alive], window.T[alive], strict=True)
    ] / deviation[alive]
    np.testing.assert_allclose(marginals.wasserstein[alive], distance, rtol=0.1)


def test_the_mean_distance_of_a_shift_is_its_size(judge: Detector, reference: Vectors) -> None:
    deviation = np.maximum(reference.std(axis=0), 0.01)
    for size in (0.5, 5.0):
        shifted = reference[:500] + size * deviation
        assert judge.marginals(shifted).wasserstein.mean() == pytest.approx(size, rel=0.1)


def test_dead_dimensions_do_not_dominate_the_mean_distance(judge: Detector, fresh: Vectors) -> None:
    halved = fresh[:500].astype(np.float16)
    distances = judge.marginals(halved).wasserstein
    assert distances.mean() < 0.1
    assert distances.max() < 0.5


@pytest.mark.parametrize("size", [50, 200, 800])
def test_the_expected_distance_is_the_mean_without_drift(
    judge: Detector, fresh: Vectors, size: int
) -> None:
    found = [judge.marginals(window) for window in windows(fresh, size, 30)]
    measured = np.mean([each.wasserstein.mean() for each in found])
    assert found[0].expected.mean() == pytest.approx(measured, rel=0.05)


def by_day(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Follow the time of day, between 0.2 and 0.8."""
    return 0.5 + 0.3 * np.sin(2 * np.pi * times / DAY)


def by_weekend(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Step from 0.7 down to 0.3 for the last two days of a week."""
    return np.where(times // DAY % 7 < 5, 0.7, 0.3)


def seasonal_stream(
    sentences: Vectors,
    times: NDArray[np.float64],
    seed: int,
    share_at: Callable[[NDArray[np.float64]], NDArray[np.float64]] = by_day,
) -> Vectors:
    """Between two kinds of sentences whose shares follow the time."""
    random = np.random.default_rng(seed)
    axis = sentences - sentences.mean(axis=0)
    kind = axis @ np.linalg.svd(axis[:1_000], full_matrices=False)[2][0] > 0
    rows = np.where(
        random.random(len(times)) < share_at(times),
        random.choice(np.flatnonzero(kind), len(times)),
        random.choice(np.flatnonzero(~kind), len(times)),
    )
    return sentences[rows] + 1e-4 * random.normal(size=(len(times), 1)).astype(np.float32)


def test_a_week_shows_what_to_expect_at_an_hour(sentences: Vectors) -> None:
    times = 1e9 + np.linspace(0, 7 * DAY, 4_000)
    reference = seasonal_stream(sentences, times, 0)
    seasonal = Detector.fit(reference, timestamps=times)
    plain = Detector.fit(np.random.default_rng(0).permutation(reference))
    assert seasonal.seasons == ("daily", "weekly")
    assert plain.seasons == ()
    usual, unexpected = [], []
    for hour in range(0, 24, 3):
        at = 1e9 + 9 * DAY + 3_600 * hour
        window = seasonal_stream(sentences, at + np.linspace(-900, 900, 300), hour)
        usual.append(seasonal.score(window, at=at))
        unexpected.append(seasonal.score(window, at=at + DAY / 2))
        assert seasonal.components(window, at=at).keys() == plain.components(window).keys()
    assert max(usual) < 3
    assert max(unexpected) > 5


def test_a_step_that_a_season_is_too_smooth_for_is_no_drift(sentences: Vectors) -> None:
    times = np.linspace(0, 7 * DAY, 4_000)
    detector = Detector.fit(seasonal_stream(sentences, times, 0, by_weekend), timestamps=times)

    def score(at: float, happened_at: float) -> float:
        around = happened_at + np.linspace(-1_800, 1_800, 800)
        return detector.score(seasonal_stream(sentences, around, 1, by_weekend), at=at)

    last_hours, first_hours = 11.9 * DAY, 14.1 * DAY
    assert score(last_hours, last_hours) < 3
    assert score(first_hours, first_hours) < 3
    assert score(10 * DAY, 13 * DAY) > 5
