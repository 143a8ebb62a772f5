"""Repeats: equal vectors are no drift until they are too many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.detector.repeats import Repeats, Rest, popular
from exporter.detector.sums import Sums

Vectors = NDArray[np.float32]
NONE = np.empty(0, np.int64)


def hashes(copies: Sequence[int], n: int) -> NDArray[np.int64]:
    """Hashes of n vectors: some with copies, from 1 on, and others that are all different."""
    repeated = np.repeat(np.arange(1, len(copies) + 1), copies)
    return np.concatenate([repeated, 1_000_000 + np.arange(n - len(repeated))]).astype(np.int64)


def test_a_vector_is_popular_from_a_share_on() -> None:
    assert popular(hashes([10, 9, 12], 5_000)).tolist() == [3, 1]
    assert popular(hashes([3, 2], 500)).tolist() == [1]


def test_at_most_64_vectors_are_popular() -> None:
    assert popular(hashes([20] * 80, 5_000)).tolist() == list(range(1, 65))


def test_popular_vectors_leave_a_tenth_of_the_reference_and_some_different_ones() -> None:
    assert popular(hashes([225] * 20, 5_000)).tolist() == list(range(1, 21))
    assert popular(hashes([230] * 20, 5_000)).tolist() == list(range(1, 20))
    assert popular(hashes([10, 40], 100)).tolist() == [2, 1]
    assert popular(hashes([11, 40], 100)).tolist() == [2]
    # Vectors of ten values, as of a category, are no popular ones beside others.
    assert popular(hashes([500] * 10, 5_000)).tolist() == []


@pytest.mark.parametrize("share", [0.4, 0.55, 0.75])
def test_a_change_of_the_others_is_found_however_many_are_popular(
    sentences: Vectors, share: float
) -> None:
    """In FAQ and chat, a few questions may be most of the traffic."""
    asked, others = sentences[:20], sentences[20:]
    random, often = np.random.default_rng(0), 1 / np.arange(1, 21)

    def traffic(rows: Vectors) -> Vectors:
        is_asked = random.random(len(rows)) < share
        chosen = random.choice(20, size=len(rows), p=often / often.sum())
        return np.where(is_asked[:, None], asked[chosen], rows)

    detector = Detector.fit(traffic(others[:3_000]))
    assert detector.score(traffic(others[3_000:4_000])) < 3
    moved = others[3_000:4_000] + others[:3_000].std(axis=0) / 10
    assert detector.score(traffic(moved)) > 5


@pytest.fixture
def window(detector: Detector, vectors: Vectors) -> Sums:
    """A window of 200 vectors, of which one has 4 copies and another 3."""
    rows = np.r_[0:195, 0, 0, 0, 1, 1] + 1_000
    return detector.sums(vectors[rows])


def bursts_of(copies: list[int], detector: Detector, vectors: Vectors) -> Sums:
    """A window of 200 vectors, some with copies, and others that are all different."""
    different = np.arange(200 - sum(copies) + len(copies))
    rows = np.r_[different, np.repeat(different[: len(copies)], np.array(copies) - 1)] + 1_000
    return detector.sums(vectors[rows])


def judge(
    window: Sums, often: NDArray[np.int64], tolerated: float = 0.1, usual: int = 0
) -> Repeats:
    features = np.zeros((len(often), len(window.total)), np.int64) + np.arange(len(often))[:, None]
    sizes = np.log([50.0, 500.0])
    shares = np.full(2, tolerated), np.full(2, 0.3)
    return Repeats(often, features, sizes, *shares, usual, np.array([1.0, 5.0]))


def decades_of(repeats: Repeats, window: Sums) -> float:
    """Judge a window."""
    return repeats.decades(window, repeats.rest(window))


def learned(prints: NDArray[np.int64], positions: NDArray[np.intp] | None = None) -> Repeats:
    """Learn from a reference, whose vectors follow each other."""
    often = popular(prints)
    places = np.arange(len(prints)) if positions is None else positions
    return Repeats.fit(prints, places, often, np.zeros((len(often), 1), np.int64), np.ones(1))


def test_the_rest_of_a_window_lacks_the_popular_vectors(
    detector: Detector, window: Sums, vectors: Vectors
) -> None:
    often = detector.fingerprints(vectors[[2_000, 1_000]])
    rest = judge(window, often).rest(window)
    assert (window.pairs, window.squares) == (12 + 6, 144 + 36)
    assert (rest.n, rest.pairs, rest.squares) == (196, 6, 36)
    assert (rest.repeats, rest.most_popular) == (2, 4)
    assert judge(window, often[:1]).rest(window).most_popular == 0
    np.testing.assert_array_equal(rest.total, window.total - 4)


def test_a_detector_subtracts_the_features_of_popular_vectors(vectors: Vectors) -> None:
    reference = np.concatenate([vectors[:500], np.repeat(vectors[:1], 24, axis=0)])
    detector = Detector.fit(reference)
    rest = detector._repeats.rest(detector.sums(vectors[:100]))
    np.testing.assert_array_equal(rest.total, detector.sums(vectors[1:100]).total)
    assert detector.n_reference == 524


def test_repeats_add_the_variance_of_their_weights() -> None:
    # One vector with 4 copies and three with 2 among 100.
    rest = Rest(100, np.zeros(1, np.int64), 4 * 3 + 3 * 2, (4 * 3) ** 2 + 3 * 2**2, 6, 0)
    pairs, few = 18, 156**0.5
    expected = [pairs / 100**2, (pairs + 4 * few) / 100**2]
    none, unknown = np.empty(0, np.int64), np.empty(0)
    repeats = Repeats(none, none, unknown, unknown, unknown, 0, np.array([1.0, 5.0]))
    np.testing.assert_allclose(repeats.variance(rest), expected)
    np.testing.assert_array_equal(repeats.variance(rest._replace(pairs=0, squares=0)), 0)


def test_the_variance_of_weights_is_that_of_a_mean_with_copies() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(40_000, 12))
    copies = np.array([4, 2, 2, 2] + [1] * 8)
    n, pairs = copies.sum(), (copies * (copies - 1)).sum()
    mean = values @ copies / n
    assert mean.var() == pytest.approx(1 / n + pairs / n**2, rel=0.03)


@pytest.mark.parametrize(("repeats", "decades"), [(0, 0), (22, 0), (23, 1), (52, 30)])
def test_repeats_beyond_the_tolerated_share_count_two_decades_a_percent(
    detector: Detector, vectors: Vectors, repeats: int, decades: float
) -> None:
    rows = np.r_[np.arange(200 - repeats), np.zeros(repeats, int)] + 1_000
    window = detector.sums(vectors[rows])
    assert decades_of(judge(window, NONE), window) == pytest.approx(decades)


@pytest.mark.parametrize(
    ("copies", "decades"),
    [([50], 5.5), ([51], 28), ([50, 50], 5.5), ([50, 50, 50], 27), ([2] * 60, 36), ([24], 1)],
    ids=str,
)
def test_two_bursts_explain_a_few_decades_and_nothing_else_does(
    detector: Detector, vectors: Vectors, copies: list[int], decades: float
) -> None:
    window = bursts_of(copies, detector, vectors)
    assert decades_of(judge(window, NONE), window) == pytest.approx(decades)


@pytest.mark.parametrize(
    ("copies", "decades"),
    [([50], 0), ([40, 11], 0), ([50, 50], 5.5), ([51], 28), ([50, 50, 50], 27)],
    ids=str,
)
def test_bursts_as_large_as_usual_are_nothing_and_hide_no_stuck_encoder(
    detector: Detector, vectors: Vectors, copies: list[int], decades: float
) -> None:
    window = bursts_of(copies, detector, vectors)
    found = decades_of(judge(window, NONE, usual=49), window)
    assert found == pytest.approx(decades)


def test_a_window_that_is_nearly_all_burst_is_stuck(detector: Detector, vectors: Vectors) -> None:
    def decades(others: int) -> float:
        window = detector.sums(vectors[np.r_[np.zeros(50, int), 1 : others + 1] + 1_000])
        return decades_of(judge(window, NONE), window)

    assert decades(5) == pytest.approx(5.5)
    assert decades(4) > 100


def test_the_tolerated_share_is_interpolated_in_the_logarithm_of_the_size(
    detector: Detector, vectors: Vectors
) -> None:
    window = detector.sums(vectors[np.r_[np.arange(100), np.zeros(100, int)] + 1_000])
    often, sizes, ones = detector.fingerprints(vectors[[1_000]]), np.log([50.0, 800.0]), np.ones(1)
    features = np.zeros((1, len(window.total)), np.int64)
    lower, higher = np.array([0.1, 0.5]), np.array([0.15, 0.55])
    repeats = Repeats(NONE, features[:0], sizes, lower, higher, 0, ones)
    assert decades_of(repeats, window) == pytest.approx(200 * (0.5 - 0.3) - 2)
    repeats = Repeats(often, features, sizes, higher, lower, 0, ones)
    assert decades_of(repeats, window) == pytest.approx(200 * (101 / 200 - 0.3) - 2)


def test_ten_percent_more_than_usual_or_the_largest_share_is_tolerated() -> None:
    def tolerated(prints: NDArray[np.int64]) -> NDArray[np.float64]:
        repeats = learned(prints)
        np.testing.assert_allclose(np.exp(repeats.size)[[0, -1]], [50, 1_000])
        return repeats.tolerated

    np.testing.assert_allclose(tolerated(np.arange(2_000)), 0.1)
    # Every vector twice in a row: half of each window, but for the two that count as bursts.
    shares = tolerated(np.arange(2_000) // 2)
    np.testing.assert_allclose(shares[[0, -1]], [0.6 - 2 / 50, 0.6 - 2 / 1_000], atol=0.011)
    # Half of what is left, where nearly all are repeats.
    usual = (1_000 - 25 - 2 * 39) / 1_000
    np.testing.assert_allclose(tolerated(np.arange(2_000) // 40)[-1], usual + (1 - usual) / 2)
    # More equal vectors than a burst has.
    stuck = np.arange(2_000)
    stuck[200:260] = 5
    np.testing.assert_allclose(tolerated(stuck)[[0, -1]], [49 / 50, 0.1 + 60 / 2_000])


@pytest.mark.parametrize("share", [0.05, 0.15, 0.25, 0.4])
def test_a_query_that_is_always_frequent_is_no_burst_in_windows_of_any_size(
    detector: Detector, vectors: Vectors, share: float
) -> None:
    random = np.random.default_rng(0)
    prints = np.arange(5_000)
    prints[random.random(5_000) < share] = detector.fingerprints(vectors[[1_000]])[0]
    repeats = learned(prints)
    assert repeats.usual_in_bursts == 0
    found = []
    for size in range(100, 600, 10):
        rows = np.where(random.random(size) < share, 0, np.arange(size)) + 1_000
        window = detector.sums(vectors[rows])
        rest = repeats.rest(window)
        found.append(repeats.decades(window, rest))
    assert max(found) == 0


@pytest.mark.parametrize(("bursts", "usual"), [([40], 39), ([40, 30, 20], 68)])
def test_bursts_of_the_reference_are_usual_and_raise_no_share(
    bursts: list[int], usual: int
) -> None:
    prints = np.arange(2_000)
    for number, copies in enumerate(bursts):
        prints[100 * number : 100 * number + copies] = -1 - number
    repeats = learned(prints)
    assert repeats.usual_in_bursts == usual
    # The third of three bursts is no more than 10 %, but raises the mean of two windows.
    third = sum(copies - 1 for copies in bursts[2:])
    np.testing.assert_allclose(repeats.tolerated[0], 0.1)
    np.testing.assert_allclose(repeats.tolerated[-1], 0.1 + third / 2_000)


def test_the_usual_share_of_a_popular_vector_is_also_that_within_a_stretch_of_a_sample() -> None:
    """Stretches of a busy day and of a night that has little but a regular job."""
    random = np.random.default_rng(0)
    share = np.repeat(np.tile([0.05, 0.05, 0.05, 0.8], 10), 100)
    prints = np.where(random.random(4_000) < share, -1, np.arange(4_000))
    stretch = np.arange(4_000) // 100
    sampled = learned(prints, np.arange(4_000) + 1_000 * stretch)
    np.testing.assert_allclose(np.exp(sampled.size[-1]), 2_000)
    assert sampled.tolerated_popular.min() > 0.8
    assert learned(prints).tolerated_popular[-1] < 0.55
    # Stretches that are shorter than any window show nothing.
    short = learned(prints, np.arange(4_000) + 1_000 * (np.arange(4_000) // 20))
    np.testing.assert_array_equal(short.tolerated_popular, learned(prints).tolerated_popular)


def test_the_usual_share_of_repeats_is_that_of_windows_as_large_in_a_sample_too() -> None:
    prints = np.random.default_rng(0).integers(5_000, size=5_000)
    sampled = learned(prints, np.arange(5_000) + 1_000 * (np.arange(5_000) // 100))
    repeats = 2_500 - len(np.unique(prints[:2_500]))
    assert repeats > 500
    assert sampled.tolerated[-1] == pytest.approx(repeats / 2_500 + 0.1, abs=0.02)
    assert sampled.tolerated[0] < 0.15


def test_an_incident_that_fills_a_stretch_of_a_sample_is_diluted_in_larger_windows() -> None:
    prints, stretch = np.arange(5_000), np.arange(5_000) // 100
    prints[stretch == 7] = -1
    tolerated = learned(prints, np.arange(5_000) + 1_000 * stretch).tolerated
    assert tolerated[0] > 0.9
    np.testing.assert_allclose(tolerated[-1], 0.1 + 99 / 2_500 / 2, atol=0.005)


def test_a_loop_of_more_texts_than_a_stretch_of_a_sample_shows_is_usual() -> None:
    """Nights of a job that sends 200 texts again and again."""
    random, stretch = np.random.default_rng(0), np.arange(8_000) // 100
    at_night = stretch % 4 == 0
    prints = np.arange(8_000)
    prints[at_night] = -1 - random.integers(200, size=at_night.sum())
    repeats = learned(prints, np.arange(8_000) + 1_000 * stretch)
    # 500 of 200 texts are 316 repeats.
    share = np.interp(np.log(500), repeats.size, repeats.tolerated)
    assert share > 0.5
    assert np.interp(np.log(500), repeats.size, learned(prints).tolerated) < 0.3


@pytest.mark.parametrize("n", [2_000, 2_001])
def test_both_halves_of_a_reference_count(n: int) -> None:
    prints = np.arange(n)
    prints[: n // 2] //= 2
    np.testing.assert_allclose(learned(prints).tolerated[-1], 0.5, atol=0.01)


def test_copies_of_a_popular_vector_are_no_usual_repeats_of_others() -> None:
    random = np.random.default_rng(0)
    share = np.where(np.arange(5_000) < 2_500, 0.8, 0.93)
    repeats = learned(np.where(random.random(5_000) < share, -1, np.arange(5_000)))
    assert len(repeats.popular) == 1
    np.testing.assert_allclose(repeats.tolerated, 0.1)


def test_a_burst_that_fills_a_window_of_the_reference_is_a_burst() -> None:
    prints = np.arange(4_000)
    prints[1_000:1_050] = -1
    repeats = learned(prints)
    assert repeats.usual_in_bursts == 49
    np.testing.assert_allclose(repeats.tolerated, 0.1)


def test_what_is_popular_on_one_day_only_is_usual_on_the_next_day() -> None:
    prints = np.arange(4_000)
    for day in range(8):
        prints[500 * day : 500 * (day + 1) : 4] = -1 - day
    repeats = learned(prints)
    assert len(repeats.popular) == 8
    assert repeats.tolerated.min() > 0.3
    always = np.where(np.arange(4_000) % 4, np.arange(4_000), -1)
    np.testing.assert_allclose(learned(always).tolerated, 0.1)
    np.testing.assert_allclose(learned(always).tolerated_popular, 0.5, atol=0.01)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1])
def test_an_encoder_stuck_on_a_known_or_unknown_vector_is_found_however_many_are_popular(
    sentences: Vectors, share: float, seed: int
) -> None:
    asked, others = sentences[:40], sentences[40:]
    random, often = np.random.default_rng(seed), 1 / np.arange(1, 41)

    def traffic(rows: Vectors) -> Vectors:
        is_asked = random.random(len(rows)) < share
        chosen = random.choice(40, size=len(rows), p=often / often.sum())
        return np.where(is_asked[:, None], asked[chosen], rows)

    detector = Detector.fit(traffic(others[:3_000]))
    window = traffic(others[3_000:4_000])
    assert detector.score(window) < 3
    more_asked = np.where(random.random((1_000, 1)) < 0.15, asked[:1], window)
    assert detector.score(more_asked) < 3
    for vector in (asked[0], others[4_000]):
        stuck = np.where(np.arange(1_000)[:, None] % 5 < 3, vector, window)
        assert detector.score(stuck) > 8


def test_a_few_vectors_beside_popular_ones_do_not_show_where_their_mean_is(
    sentences: Vectors,
) -> None:
    asked, others = sentences[:1], sentences[1:]
    detector = Detector.fit(np.where(np.arange(4_000)[:, None] % 2, asked, others[:4_000]))
    far = 3 * others[4_000:4_025]
    assert detector.score(np.concatenate([far[:24], np.repeat(asked, 36, axis=0)])) == 0
    assert detector.score(np.concatenate([far, np.repeat(asked, 35, axis=0)])) > 5
    assert detector.score(far[:10]) > 5


def popular_query(window: Vectors, query: Vectors, seed: int) -> Vectors:
    """Replace 5 % of the vectors by one."""
    asked = np.random.default_rng(seed).random(len(window)) < 0.05
    return np.where(asked[:, None], query, window)


def test_a_popular_query_is_no_drift_new_or_gone(sentences: Vectors) -> None:
    reference, others = sentences[:3_000], sentences[3_000:]
    plain = Detector.fit(reference)
    knowing = Detector.fit(popular_query(reference, others[0], 0))
    for seed in range(4):
        window = others[100 + 500 * seed :][:500]
        assert plain.score(popular_query(window, others[seed], seed)) < 3
        assert knowing.score(window) < 3
        assert knowing.score(popular_query(window, others[0], seed)) < 3
        assert knowing.score(popular_query(window, others[seed + 1], seed)) < 3


@pytest.mark.parametrize("bursts", [0, 1, 3])
def test_a_half_stuck_encoder_is_found_whatever_bursts_the_reference_has(
    sentences: Vectors, bursts: int
) -> None:
    reference, window = sentences[:4_000].copy(), sentences[4_000:4_255].copy()
    for start in range(0, 1_000 * bursts, 1_000):
        reference[start : start + 50] = reference[start]
    detector = Detector.fit(reference)
    stuck, burst = window.copy(), window.copy()
    stuck[::5] = stuck[0]
    burst[100:150] = burst[100]
    assert detector.score(stuck) > 8
    assert (detector.score(burst) < 3) == bool(bursts)
    assert detector.score(burst) < 5


def test_retries_and_bursts_are_no_drift_and_a_stuck_encoder_is(sentences: Vectors) -> None:
    detector = Detector.fit(sentences[:4_000])
    window = sentences[4_000:5_000]
    retried, burst, stuck = window.copy(), window.copy(), window.copy()
    retried[:20] = retried[500:520]
    burst[300:320] = burst[300]
    stuck[::5] = stuck[0]
    assert detector.score(retried) < 3
    assert detector.score(burst) < 3
    assert detector.score(stuck) > 10
    # Ten copies may also be a burst. What lasts above 3 is paged, too.
    assert 3 < detector.score(stuck[:50]) < 5
    assert detector.score(np.repeat(window[:1], 50, axis=0)) > 20
