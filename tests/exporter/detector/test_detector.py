"""The detector: what it promises about its numbers, on small data."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from exporter.detector.calibration import CEILING
from exporter.detector.detector import Detector, Sums
from exporter.detector.exact import compare
from exporter.detector.sums import fingerprints
from exporter.monitor.verdict import measure
from exporter.stats import ks

Vectors = NDArray[np.float32]


@pytest.fixture(scope="module")
def reference(sentences: Vectors) -> Vectors:
    return sentences[:2_500]


@pytest.fixture(scope="module")
def judge(reference: Vectors) -> Detector:
    """A detector of real sentence embeddings."""
    return Detector.fit(reference)


@pytest.fixture(scope="module")
def fresh(sentences: Vectors) -> Vectors:
    return sentences[2_500:]


def same(one: Sums, other: Sums) -> bool:
    return (
        one.n == other.n
        and one.repeats == other.repeats
        and np.array_equal(one.total, other.total)
        and np.array_equal(one.bins, other.bins)
    )


def windows(vectors: Vectors, size: int, count: int) -> list[Vectors]:
    random = np.random.default_rng(1)
    return [random.choice(vectors, size, replace=False) for _ in range(count)]


# What enters and leaves


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 400), max_size=6), seed=st.integers(0, 99))
def test_sums_of_parts_merge_to_the_sums_of_the_whole(
    judge: Detector, fresh: Vectors, cuts: list[int], seed: int
) -> None:
    vectors = fresh[:400]
    order = np.random.default_rng(seed).permutation(len(vectors))
    merged = judge.sums()
    for part in np.split(vectors[order], sorted(cuts)):
        merged.merge(judge.sums(part))
    assert same(merged, judge.sums(vectors))


@settings(max_examples=30, deadline=None)
@given(first=st.integers(0, 300), size=st.integers(1, 300), batch=st.integers(1, 130))
def test_what_leaves_takes_away_exactly_what_it_brought(
    judge: Detector, fresh: Vectors, first: int, size: int, batch: int
) -> None:
    kept, passing = fresh[:200], fresh[first : first + size] * 1.7
    sums = judge.sums(kept)
    sums.add(passing)
    for at in range(0, size, batch):
        sums.remove(passing[at : at + batch])
    assert same(sums, judge.sums(kept))


@pytest.mark.parametrize("size", [0, 1, 130, 1_023, 1_024, 2_000])
def test_packed_sums_are_the_sums_also_in_a_copy_of_the_detector(
    judge: Detector, fresh: Vectors, size: int
) -> None:
    vectors = np.concatenate([fresh[: size // 2], fresh[: size - size // 2]])
    copy = Detector.from_bytes(judge.to_bytes())
    packed = copy.pack(vectors)
    sums = judge.sums(fresh[2_000:2_100])
    sums.take(packed)
    assert same(sums, judge.sums(np.concatenate([fresh[2_000:2_100], vectors])))
    sums.drop(packed)
    assert same(sums, judge.sums(fresh[2_000:2_100]))
    assert len(pickle.dumps(packed)) < (len(vectors) + 9) * (judge.dimension + 1_100)


def test_vectors_are_told_apart_by_any_bit_and_alike_in_every_process() -> None:
    vectors = np.random.default_rng(0).normal(size=(1, 384)).astype(np.float32)
    words = np.repeat(vectors.view(np.uint32), 384 * 32 + 1, axis=0)
    bits = np.arange(384 * 32)
    words[bits, bits // 32] ^= np.uint32(1) << (bits % 32).astype(np.uint32)
    assert len(set(fingerprints(words.view(np.float32)).tolist())) == len(words)
    script = (
        "import numpy as np; from exporter.detector.sums import fingerprints;"
        " print(fingerprints(np.arange(6, dtype=np.float32).reshape(2, 3)).tolist())"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout
    expected = fingerprints(np.arange(6, dtype=np.float32).reshape(2, 3)).tolist()
    assert told.strip() == str(expected)


def test_absurd_vectors_leave_no_trace(judge: Detector, fresh: Vectors) -> None:
    absurd = np.full((3, judge.dimension), 3e38, np.float32)
    sums = judge.sums(fresh[:100])
    sums.add(absurd)
    sums.remove(absurd)
    assert same(sums, judge.sums(fresh[:100]))


def test_a_copy_changes_alone(judge: Detector, fresh: Vectors) -> None:
    sums = judge.sums(fresh[:100])
    twin = sums.copy()
    twin.add(fresh[100:150])
    assert (sums.n, twin.n) == (100, 150)
    assert same(sums, judge.sums(fresh[:100]))


def test_sums_of_different_detectors_do_not_merge(judge: Detector, detector: Detector) -> None:
    with pytest.raises(ValueError, match="different detectors"):
        judge.sums().merge(detector.sums())


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (np.ones(384), r"shape \(n, 384\), got \(384,\)"),
        (np.ones((2, 383)), r"shape \(n, 384\), got \(2, 383\)"),
        (np.full((2, 384), np.nan), "finite"),
        (np.full((2, 384), 1e300), "finite in float32"),
    ],
)
def test_a_bad_batch_is_refused_whole(judge: Detector, batch: NDArray, message: str) -> None:
    sums = judge.sums()
    with pytest.raises(ValueError, match=message):
        sums.add(batch)
    assert same(sums, judge.sums())


# What it says


def test_an_array_and_its_sums_score_alike(judge: Detector, fresh: Vectors) -> None:
    vectors = fresh[:300]
    assert judge.score(vectors) == judge.score(judge.sums(vectors))
    assert judge.components(vectors) == judge.components(judge.sums(vectors))
    assert judge.magnitude(vectors) == judge.magnitude(judge.sums(vectors))


def test_components_have_stable_names(judge: Detector, fresh: Vectors) -> None:
    assert tuple(judge.components(fresh[:100])) == Detector.COMPONENTS == (
        "topics",
        "mean",
        "direction",
        "dimension",
        "spread",
        "distortion",
        "duplicates",
    )  # fmt: skip


def test_it_is_quiet_without_drift(judge: Detector, fresh: Vectors) -> None:
    for size in (50, 200, 500):
        alarms = sum(judge.alarm(window) for window in windows(fresh, size, 100))
        assert alarms <= 6


def test_alpha_is_a_score(judge: Detector, fresh: Vectors) -> None:
    window = fresh[:200] * np.float32(1.004)
    score = judge.score(window)
    assert judge.alarm(window, alpha=10 ** -(score - 0.01))
    assert not judge.alarm(window, alpha=10 ** -(score + 0.01))


@pytest.mark.parametrize(
    "rounded",
    [
        lambda x: x.astype(np.float16),
        lambda x: np.round(x / np.abs(x).max() * 127) / 127 * np.abs(x).max(),
        lambda x: x + 0.01 / 384**0.5 * np.random.default_rng(0).normal(size=x.shape),
    ],
    ids=["float16", "int8", "noise of 1 %"],
)
def test_rounding_is_not_drift(judge: Detector, fresh: Vectors, rounded) -> None:
    alarms = sum(judge.alarm(rounded(window)) for window in windows(fresh, 500, 40))
    assert alarms <= 3


DRIFTS = {
    "rotation": lambda x: x @ np.linalg.qr(np.random.default_rng(0).normal(size=(384, 384)))[0],
    "noise": lambda x: x + 0.3 / 384**0.5 * np.random.default_rng(0).normal(size=x.shape),
    "three dimensions zeroed": lambda x: np.where(np.isin(np.arange(384), [5, 99, 200]), 0, x),
    "scale": lambda x: x * 1.01,
    "collapse": lambda x: x.mean(axis=0) + 0.95 * (x - x.mean(axis=0)),
    "stuck": lambda x: np.concatenate([x[:190], np.repeat(x[:1], 10, axis=0)]),
    "twice": lambda x: np.repeat(x[:100], 2, axis=0),
}


@pytest.mark.parametrize("drift", DRIFTS.values(), ids=list(DRIFTS))
def test_a_broken_pipeline_is_certain(judge: Detector, fresh: Vectors, drift) -> None:
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


def test_one_absurd_vector_is_not_certainty(judge: Detector, fresh: Vectors) -> None:
    window = fresh[:500].copy()
    window[0] = 1e30
    assert judge.score(window) < 30


def test_the_score_has_a_ceiling(judge: Detector, fresh: Vectors) -> None:
    assert 100 < judge.score(-5 * fresh[:500]) <= CEILING


def test_an_empty_window_says_nothing(judge: Detector) -> None:
    empty = judge.sums()
    assert judge.score(empty) == 0
    assert not judge.alarm(empty)
    assert set(judge.components(empty).values()) == {0}
    assert judge.magnitude(empty) == 0
    assert judge.cosine_similarity(empty) == judge.reference_cosine_similarity


def test_one_vector_can_be_scored(judge: Detector, fresh: Vectors) -> None:
    assert judge.score(fresh[:1]) >= 0


def test_repeats_of_the_reference_are_no_news(sentences: Vectors) -> None:
    repeated = np.repeat(sentences[:1_500], 2, axis=0)
    detector = Detector.fit(np.random.default_rng(0).permutation(repeated))
    window = np.concatenate([sentences[1_500:1_790], sentences[1_500:1_510]])
    assert detector.components(window)["duplicates"] < 2
    assert detector.components(np.repeat(window, 2, axis=0))["duplicates"] > 10


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


# Marginals


def test_binned_marginals_are_close_to_the_exact_ones(
    judge: Detector, reference: Vectors, fresh: Vectors
) -> None:
    window = fresh[:500] * 1.3 + 0.02
    marginals = judge.marginals(window)
    exact = ks.statistic(reference, window)
    # A bin is 1/256 of the reference, or a little more where cells do not divide it well.
    assert np.abs(marginals.ks - exact).max() < 2 / 256
    deviation = reference.std(axis=0)
    alive = deviation > 1e-3
    distance = [
        wasserstein_distance(x, y) for x, y in zip(reference.T[alive], window.T[alive], strict=True)
    ] / deviation[alive]
    np.testing.assert_allclose(marginals.wasserstein[alive], distance, rtol=0.1)


def test_the_magnitude_of_a_shift_is_its_size(judge: Detector, reference: Vectors) -> None:
    deviation = np.maximum(reference.std(axis=0), 0.01)
    for size in (0.5, 5.0):
        shifted = reference[:500] + size * deviation
        assert judge.magnitude(shifted) == pytest.approx(size, rel=0.1)


def test_dead_dimensions_do_not_blow_up_the_magnitude(judge: Detector, fresh: Vectors) -> None:
    halved = fresh[:500].astype(np.float16)
    assert judge.magnitude(halved) < 0.1
    assert judge.marginals(halved).wasserstein.max() < 0.5


def test_cosine_similarity_is_that_to_the_centroid(
    judge: Detector, reference: Vectors, fresh: Vectors
) -> None:
    # Measured to the centroid of half of the reference.
    assert judge.cosine_similarity(reference) == pytest.approx(judge.reference_cosine_similarity)
    assert judge.cosine_similarity(-fresh[:100]) == pytest.approx(
        -judge.cosine_similarity(fresh[:100]), abs=1e-4
    )


# Keeping it


def test_bytes_bring_the_detector_back(judge: Detector, fresh: Vectors) -> None:
    data = judge.to_bytes()
    twin = Detector.from_bytes(data)
    assert twin.to_bytes() == data
    assert (twin.n_reference, twin.dimension) == (2_500, 384)
    assert twin.score(fresh[:200]) == judge.score(fresh[:200])
    assert twin.components(fresh[:200]) == judge.components(fresh[:200])
    assert twin.magnitude(fresh[:200]) == judge.magnitude(fresh[:200])


def test_the_same_seed_gives_the_same_detector(detector: Detector, vectors: Vectors) -> None:
    assert Detector.fit(vectors[:1_000]).to_bytes() == detector.to_bytes()
    assert Detector.fit(vectors[:1_000], seed=1).to_bytes() != detector.to_bytes()


def test_bytes_of_something_else_are_refused(detector: Detector) -> None:
    data = detector.to_bytes()
    with pytest.raises(ValueError, match="not a detector"):
        Detector.from_bytes(b"PK" + data)
    with pytest.raises(ValueError, match="version b'999'"):
        Detector.from_bytes(data.replace(b"\n1\n", b"\n999\n", 1))
    for end in (len(data) - 1, len(data) // 2, 40, 26, 3, 0):
        with pytest.raises(ValueError, match=r"damaged|not a detector|version"):
            Detector.from_bytes(data[:end])


# What it can be fitted to


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_any_float_will_do(vectors: Vectors, kind: type) -> None:
    detector = Detector.fit(vectors[:600].astype(kind))
    assert detector.score(vectors[600:700].astype(kind)) < 3


def test_a_small_reference_will_do(sentences: Vectors) -> None:
    detector = Detector.fit(sentences[:250])
    assert sum(detector.alarm(window) for window in windows(sentences[250:], 50, 50)) <= 4
    assert detector.score(sentences[250:300] * 1.05) > 4.5


@pytest.mark.parametrize("dimension", [1, 2, 3, 1_100])
def test_any_dimension_will_do(dimension: int) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(900, dimension))
    detector = Detector.fit(vectors[:600])
    assert detector.score(vectors[600:700]) < 4
    assert detector.score(vectors[600:700] + 2) > 4.5


def test_a_constant_reference_will_do() -> None:
    detector = Detector.fit(np.ones((300, 5)))
    assert detector.score(np.ones((50, 5))) < 1
    assert detector.score(np.full((50, 5), 2.0)) > 4.5


NORMAL = np.random.default_rng(0).normal(size=(300, 4))
LARGEST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize("component", [LARGEST, -LARGEST, 3e38, 1e20, 1e-40, 0.0])
@pytest.mark.parametrize("unit", [1e-40, 1e-25, 1.0, 1e25])
def test_whatever_is_finite_has_finite_statistics(
    vectors: Vectors, unit: float, component: float
) -> None:
    reference = (vectors[:1_000].astype(np.float64) * unit).astype(np.float32)
    detector = Detector.fit(reference)
    one_component, one_vector = reference[:200].copy(), reference[:200].copy()
    one_component[7, 3] = one_vector[7] = component
    for window in (one_component, one_vector, np.full((200, 8), component, np.float32)):
        measured = measure(detector, detector.sums(window))
        assert np.isfinite([measured.score, measured.magnitude, measured.cosine_similarity]).all()
        for part in (measured.components, measured.ks, measured.wasserstein):
            assert np.isfinite(list(part.values())).all()
        assert np.isfinite(compare(reference, window).wasserstein).all()


@pytest.mark.parametrize("constant", [1e6, -1e9, 1e16])
def test_a_large_dimension_that_never_varies_will_do(vectors: Vectors, constant: float) -> None:
    reference = vectors[:1_000].copy()
    reference[:, 2] = constant
    marginals = Detector.fit(reference).marginals(reference[:200])
    assert marginals.ks[2] == 0
    assert marginals.wasserstein[2] == 0


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
        (NORMAL * 1e37, "takes none beyond 1e[+]30"),
    ],
)
def test_a_bad_reference_is_refused(reference: NDArray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Detector.fit(reference)


# Season

DAY = 86_400.0


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


def test_a_week_tells_what_to_expect_at_an_hour(sentences: Vectors) -> None:
    times = 1e9 + np.linspace(0, 7 * DAY, 4_000)
    reference = seasonal_stream(sentences, times, 0)
    seasonal = Detector.fit(reference, timestamps=times)
    plain = Detector.fit(np.random.default_rng(0).permutation(reference))
    assert seasonal.seasonal
    assert not plain.seasonal
    usual, unexpected = [], []
    for hour in range(0, 24, 3):
        at = 1e9 + 9 * DAY + 3_600 * hour
        window = seasonal_stream(sentences, at + np.linspace(-900, 900, 300), hour)
        usual.append(seasonal.score(window, at=at))
        unexpected.append(seasonal.score(window, at=at + DAY / 2))
        assert seasonal.components(window, at=at).keys() == plain.components(window).keys()
    assert max(usual) < 3
    assert max(unexpected) > 5


def test_a_step_that_waves_are_too_smooth_for_is_no_news(sentences: Vectors) -> None:
    times = np.linspace(0, 7 * DAY, 4_000)
    detector = Detector.fit(seasonal_stream(sentences, times, 0, by_weekend), timestamps=times)

    def score(at: float, happened_at: float) -> float:
        around = happened_at + np.linspace(-1_800, 1_800, 800)
        return detector.score(seasonal_stream(sentences, around, 1, by_weekend), at=at)

    last_hours, first_hours = 11.9 * DAY, 14.1 * DAY
    assert score(last_hours, last_hours) < 3
    assert score(first_hours, first_hours) < 3
    assert score(10 * DAY, 13 * DAY) > 5


def test_the_season_survives_storage(sentences: Vectors) -> None:
    times = np.linspace(0, 8 * DAY, 600)
    detector = Detector.fit(seasonal_stream(sentences, times, 0), timestamps=times)
    twin = Detector.from_bytes(detector.to_bytes())
    window = sentences[:50]
    assert twin.seasonal
    assert twin.score(window, at=1e9) == detector.score(window, at=1e9)


def test_less_than_a_week_tells_of_no_season(sentences: Vectors) -> None:
    reference = sentences[:600]
    short = Detector.fit(reference, timestamps=np.linspace(0, 6 * DAY, 600))
    assert not short.seasonal
    assert short.to_bytes() == Detector.fit(reference).to_bytes()
    assert short.score(sentences[600:700], at=1e9) == short.score(sentences[600:700])


@pytest.mark.parametrize("timestamps", [[1.0, 2.0], [np.nan] * 300])
def test_every_vector_needs_a_time(sentences: Vectors, timestamps: list[float]) -> None:
    with pytest.raises(ValueError, match="timestamps must be 300 finite numbers"):
        Detector.fit(sentences[:300], timestamps=timestamps)
