"""The detector: what it promises about its numbers."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.detector.components import DUPLICATES, TRAITS
from exporter.detector.exact import compare
from exporter.detector.waves import waves_at

Vectors = NDArray[np.float32]


# Scores


def test_an_array_and_its_sums_score_alike(detector: Detector, vectors: Vectors) -> None:
    vectors = vectors[1_000:1_300]
    assert detector.score(vectors) == detector.score(detector.sums(vectors))
    assert detector.components(vectors) == detector.components(detector.sums(vectors))


def test_components_have_stable_names(detector: Detector, vectors: Vectors) -> None:
    assert tuple(detector.components(vectors[1_000:1_100])) == Detector.COMPONENTS == (
        "topics",
        "mean",
        "direction",
        "dimension",
        "spread",
        "distortion",
        "duplicates",
    )  # fmt: skip


def test_alpha_is_the_p_value_that_alarms(detector: Detector, vectors: Vectors) -> None:
    window = vectors[1_000:1_200] * np.float32(1.004)
    score = detector.score(window)
    assert detector.alarm(window, alpha=10 ** -(score - 0.01))
    assert not detector.alarm(window, alpha=10 ** -(score + 0.01))


def test_an_empty_window_scores_zero(detector: Detector) -> None:
    empty = detector.sums()
    assert detector.score(empty) == 0
    assert not detector.alarm(empty)
    assert set(detector.components(empty).values()) == {0}
    assert not np.any(detector.marginals(empty).wasserstein)
    assert detector.cosine_similarity(empty) == detector.reference_cosine_similarity


def test_one_vector_can_be_scored(detector: Detector, vectors: Vectors) -> None:
    assert detector.score(vectors[1_000:1_001]) >= 0


def test_the_score_combines_the_components(detector: Detector, vectors: Vectors) -> None:
    weights = [traits.weight for traits in (*TRAITS.values(), DUPLICATES)]
    how = detector._combination
    for factor in (1.1, 1.3, 2.0):
        score, components = detector.scores(vectors[1_000:1_200] * np.float32(factor))
        together = np.log10(np.dot(weights, 10.0 ** np.array(list(components.values()))))
        assert together > 3
        assert score == pytest.approx(2 + (together - how.offset - 2) / how.stretch)
    assert -0.05 < how.offset < 0.5
    assert 1 <= how.stretch < 2


def test_components_without_surprise_score_little_and_never_below_zero(
    detector: Detector, vectors: Vectors
) -> None:
    found = [detector.scores(vectors[at : at + 100]) for at in range(1_000, 3_000, 100)]
    assert min(score for score, _ in found) < 0.2
    assert all(min(components.values()) >= 0 for _, components in found)
    # A negative zero would be shown as -0. The p-values of a constant are exactly 1.
    found.append(Detector.fit(np.ones((300, 5))).scores(np.ones((50, 5))))
    shown = [value for score, components in found for value in (score, *components.values())]
    assert not np.signbit(shown).any()


@pytest.mark.parametrize("n", [1_000, 10_000])
def test_linear_components_know_the_mean_from_the_whole_reference(n: int) -> None:
    # The mean of the window is that of the reference, but not that of either half.
    random = np.random.default_rng(0)
    vectors = random.normal(size=(n, 8)).astype(np.float32)
    detector = Detector.fit(vectors)
    components = detector.components(vectors)
    for name in ("topics", "mean", "direction"):
        assert components[name] == pytest.approx(0, abs=0.01)
    squares = detector.sums(vectors).total[8:16] / 1024 / n
    assert not np.allclose(detector._season.coefficients[0, 8:16], squares, atol=1e-4)


def test_more_vectors_tell_which_means_to_expect(vectors: Vectors) -> None:
    reference, others = vectors[:1_000], vectors[1_000:3_000]
    parts = [*np.array_split(others, 3), others[:0]]
    batches = [(part, np.zeros(len(part))) for part in parts]
    alone, detector = Detector.fit(reference), Detector.fit(reference, more=batches)
    assert detector._season.uncertainty(None) == pytest.approx(1 / 2_500, rel=0.01)
    assert detector._linear_season.uncertainty(None) == 1 / 3_000
    usual = detector.sums(vectors[:3_000]).total[: detector.dimension] / 1_024 / 3_000
    np.testing.assert_allclose(detector._linear_season.coefficients[0], usual, atol=1e-3)
    # Of the other features, the half that shaped them tells nothing.
    held_out = 500 * alone._season.coefficients[0]
    together = held_out + detector.sums(others).total / detector._features.unit
    np.testing.assert_allclose(detector._season.coefficients[0], together / 2_500, atol=1e-3)
    # The same geometry, so the same sums.
    window = vectors[3_000:4_000]
    np.testing.assert_array_equal(alone.sums(window).total, detector.sums(window).total)


def test_what_more_vectors_tell_makes_a_large_window_surprise_more(vectors: Vectors) -> None:
    reference, others = vectors[:600], vectors[600:2_500]
    shift = np.float32(0.1) * vectors.std(axis=0) * np.resize([1, -1], vectors.shape[1])
    window = vectors[2_500:] + shift.astype(np.float32)
    alone, more = Detector.fit(reference).score(window), [(others, np.zeros(len(others)))]
    assert Detector.fit(reference, more=more).score(window) > 1.3 * alone > 1
    assert Detector.fit(reference, more=more).score(vectors[2_500:]) < 2


def test_more_vectors_follow_the_season_of_the_reference(vectors: Vectors) -> None:
    times = np.linspace(0, 8 * 86_400, 3_000)
    moved = vectors.copy()
    moved[:, 0] += vectors[:, 0].std() * np.sin(2 * np.pi * times / 86_400).astype(np.float32)
    first = np.arange(3_000) % 4 == 0
    reference = {"reference": moved[first], "timestamps": times[first]}
    detector = Detector.fit(**reference, more=[(moved[~first], times[~first])])
    alone = Detector.fit(**reference)
    for at in (21_600.0, 64_800.0):
        waves = waves_at(at)
        known = [each._linear_season.uncertainty(waves) for each in (detector, alone)]
        assert known[0] < 0.5 * known[1]
        expected, amplitude = detector._linear_season.expected(waves), np.sin(np.pi * at / 43_200)
        assert expected[0] == pytest.approx(
            amplitude / detector._features.scale[0] * vectors[:, 0].std(), abs=0.1
        )


def test_popular_vectors_among_more_do_not_count(vectors: Vectors) -> None:
    reference = vectors[:1_000].copy()
    reference[::50] = reference[0]
    others = np.concatenate([vectors[1_000:2_000], np.tile(reference[:1], (500, 1))])
    with_popular = Detector.fit(reference, more=[(others, np.zeros(1_500))])
    without = Detector.fit(reference, more=[(others[:1_000], np.zeros(1_000))])
    assert with_popular.to_bytes() == without.to_bytes()


@pytest.mark.parametrize(
    ("shape", "times", "message"),
    [
        ((5, 3), 5, r"vectors must have shape \(n, 8\), got \(5, 3\)"),
        ((5, 8), 4, "timestamps must be 5 finite numbers"),
    ],
)
def test_more_vectors_are_checked(
    vectors: Vectors, shape: tuple[int, int], times: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Detector.fit(
            vectors[:300],
            timestamps=np.linspace(0, 100, 300),
            more=[(np.zeros(shape, np.float32), np.zeros(times))],
        )


def test_a_statistic_is_scaled_by_the_size_of_window_and_reference() -> None:
    # Windows of all sizes hold their level, small and large references alike.
    random = np.random.default_rng(0)
    detector = Detector.fit(random.normal(size=(400, 8)))
    for size in (5, 20, 80):
        alarms = np.mean([detector.alarm(random.normal(size=(size, 8)), 0.05) for _ in range(150)])
        assert alarms < 0.1
    means = [
        [detector.components(random.normal(size=(size, 8)))["mean"] for _ in range(150)]
        for size in (5, 20, 80)
    ]
    # Decades of uniform p-values have mean 1 / ln 10 = 0.43.
    np.testing.assert_allclose(np.mean(means, axis=1), 0.43, atol=0.15)


@pytest.mark.parametrize(
    ("part", "changed"),
    [
        ("_linear_season", {"topics", "mean", "direction"}),
        ("_season", {"dimension", "spread", "distortion"}),
    ],
)
def test_the_uncertainty_of_the_expectation_is_that_of_the_features_read(
    detector: Detector, vectors: Vectors, part: str, changed: set[str]
) -> None:
    season = getattr(detector, part)
    uncertain = replace(detector, **{part: replace(season, covariance=1_000 * season.covariance)})
    window = vectors[1_000:1_200] * np.float32(1.5)
    before, after = detector.components(window), uncertain.components(window)
    assert min(before[name] for name in TRAITS) > 3
    assert {name for name in before if before[name] != after[name]} == changed
    # The variance of window and expectation is 1/200 + 1 instead of 1/200 + 1/1000.
    assert all(after[name] < 0.5 for name in changed)


@pytest.mark.parametrize("far", [-100.0, 100.0])
def test_a_distance_is_never_below_that_of_the_means(
    detector: Detector, vectors: Vectors, far: float
) -> None:
    window = vectors[1_000:1_200] + np.float32(far)
    # A value counts for at most eight deviations, so the mean moves by eight at most.
    distances = detector.marginals(window).wasserstein
    assert (distances > 7).all()
    assert (detector.marginals(vectors[1_000:1_200]).wasserstein < 0.3).all()


def test_cosine_similarity_is_the_mean_over_the_window(
    detector: Detector, vectors: Vectors
) -> None:
    # Measured to the mean of one half of the reference; the other half is close to it.
    reference = vectors[:1_000].astype(np.float64)
    centroid = reference.mean(axis=0) / np.linalg.norm(reference.mean(axis=0))
    for window in (vectors[1_000:1_200], -vectors[1_000:1_200], reference):
        expected = (window @ centroid / np.linalg.norm(window, axis=1)).mean()
        assert detector.cosine_similarity(window) == pytest.approx(expected, abs=0.05)
    assert detector.cosine_similarity(reference) == pytest.approx(
        detector.reference_cosine_similarity, abs=1e-5
    )


def test_an_empty_window_has_no_distance(detector: Detector) -> None:
    marginals = detector.marginals(detector.sums())
    assert marginals.ks.tolist() == marginals.wasserstein.tolist() == [0] * 8


def test_a_time_counts_in_every_answer(vectors: Vectors) -> None:
    times = np.linspace(0, 8 * 86_400.0, 1_000)
    moved = vectors[:2_000] + 3 * np.sin(2 * np.pi * np.r_[times, times] / 86_400)[:, None]
    detector = Detector.fit(moved[:1_000], timestamps=times)
    noon, midnight = 21_600.0, 64_800.0
    window = vectors[2_000:2_100] + np.float32(3)
    score, components = detector.scores(window, noon)
    assert score == detector.score(window, noon)
    assert components == detector.components(window, noon)
    assert detector.score(window, midnight) > score + 5
    assert detector.components(window, midnight)["mean"] > components["mean"] + 5
    assert detector.alarm(window, 1e-4, at=midnight)
    assert not detector.alarm(window, 1e-4, at=noon)
    timed, part = detector.sums(), detector.sums()
    timed.add(window, np.full(100, midnight))
    part.take(detector.pack(window, np.full(100, midnight)))
    assert detector.score(timed) == detector.score(part)
    assert detector.score(timed) == pytest.approx(detector.score(window, midnight), rel=1e-4)
    # The expectation at a time is a little less certain than the mean over all times.
    assert detector.scores(timed)[1]["mean"] > 5


# Storage


def test_a_detector_read_from_bytes_is_the_same(detector: Detector, vectors: Vectors) -> None:
    data = detector.to_bytes()
    twin = Detector.from_bytes(data)
    assert twin.to_bytes() == data
    assert (twin.n_reference, twin.dimension) == (1_000, 8)
    assert twin.score(vectors[1_000:1_200]) == detector.score(vectors[1_000:1_200])
    assert twin.components(vectors[1_000:1_200]) == detector.components(vectors[1_000:1_200])
    window = vectors[1_000:1_200]
    assert twin.changed_ratio(window) == detector.changed_ratio(window)


def test_a_detector_with_atoms_comes_back(vectors: Vectors) -> None:
    detector = Detector.fit(np.maximum(vectors[:300], 0))
    twin = Detector.from_bytes(detector.to_bytes())
    found, expected = (each.marginals(vectors[300:400]) for each in (twin, detector))
    np.testing.assert_array_equal(found.ks, expected.ks)


def test_the_same_seed_gives_the_same_detector(detector: Detector, vectors: Vectors) -> None:
    assert Detector.fit(vectors[:1_000]).to_bytes() == detector.to_bytes()
    assert Detector.fit(vectors[:1_000], seed=1).to_bytes() != detector.to_bytes()


# References


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_any_float_type_is_accepted(vectors: Vectors, kind: type) -> None:
    detector = Detector.fit(vectors[:600].astype(kind))
    assert detector.score(vectors[600:700].astype(kind)) < 3


@pytest.mark.parametrize("dimension", [1, 2, 3, 1_100])
def test_any_dimension_is_accepted(dimension: int) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(900, dimension))
    detector = Detector.fit(vectors[:600])
    assert detector.score(vectors[600:700]) < 4
    assert detector.score(vectors[600:700] + 2) > 4.5


def test_a_constant_reference_is_accepted() -> None:
    detector = Detector.fit(np.ones((300, 5)))
    assert detector.score(np.ones((50, 5))) < 1
    assert detector.score(np.full((50, 5), 2.0)) > 4.5


LARGEST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize("component", [LARGEST, -LARGEST, 3e38, 1e20, 1e-40, 0.0])
@pytest.mark.parametrize("unit", [1e-40, 1e-25, 1.0, 1e25])
def test_finite_vectors_have_finite_statistics(
    vectors: Vectors, unit: float, component: float
) -> None:
    reference = (vectors[:1_000].astype(np.float64) * unit).astype(np.float32)
    detector = Detector.fit(reference)
    one_component, one_vector = reference[:200].copy(), reference[:200].copy()
    one_component[7, 3] = one_vector[7] = component
    for window in (one_component, one_vector, np.full((200, 8), component, np.float32)):
        score, components = detector.scores(window)
        marginals = detector.marginals(window)
        assert np.isfinite(
            [score, *components.values(), *astuple(detector.changed_ratio(window))]
        ).all()
        assert np.isfinite([marginals.ks, marginals.wasserstein]).all()
        assert np.isfinite(detector.cosine_similarity(window))
        assert np.isfinite(compare(reference, window).wasserstein).all()


NORMAL = np.random.default_rng(0).normal(size=(300, 4))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (np.ones(300), r"shape \(n, d\), got \(300,\)"),
        (np.ones((300, 0)), r"shape \(n, d\), got \(300, 0\)"),
        (np.ones((99, 4)), "at least 100 vectors, got 99"),
        (np.where(np.arange(1_200).reshape(300, 4) == 7, np.nan, 1), "finite"),
        (
            np.where(np.arange(1_200).reshape(300, 4) == 7, -1e20, NORMAL),
            "vector 1 of 300 has -1e[+]20 as component 3",
        ),
        (NORMAL * 1e37, "the largest value allowed here is 1e[+]30"),
    ],
)
def test_a_bad_reference_is_refused(reference: NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Detector.fit(reference)


def test_random_directions_are_further_outside_than_the_reference(vectors: Vectors) -> None:
    random = np.random.default_rng(0)
    d = vectors.shape[1]
    flat = vectors.copy()
    flat[:, d // 2 :] *= 0.05
    detector = Detector.fit(flat)
    scattered = random.normal(size=(300, d)) * flat.std(axis=0) + flat.mean(axis=0)
    assert detector.leading == d // 2
    assert detector.outside(flat).mean() < detector.outside(scattered * 3).mean()
    assert detector.outside(flat).min() >= 0
    assert detector.outside(flat).max() <= 1
