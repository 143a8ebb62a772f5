"""The changed ratio is the share of changed vectors, and 0 where only noise differs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import demo
from exporter.detector import Detector
from exporter.detector.ratio import ChangedRatio

Vectors = NDArray[np.float32]

DATA = Path(demo.__file__).parent / "data" / "package-descriptions-minilm.npz"


def mixture(random: np.random.Generator, n: int, topics: int = 30) -> Vectors:
    """Unit vectors around centres that are the same in every call; 32 dimensions."""
    centres = np.random.default_rng(99).normal(size=(topics, 32))
    vectors = centres[random.integers(topics, size=n)] + 0.7 * random.normal(size=(n, 32))
    unit: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def sessions(random: np.random.Generator, n: int, length: int) -> Vectors:
    """The same, but so many consecutive vectors are close to each other."""
    of_session = mixture(random, -(-n // length))
    vectors = np.repeat(of_session, length, axis=0)[:n] + 0.05 * random.normal(size=(n, 32))
    unit: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


@pytest.fixture(scope="module")
def stranger() -> Detector:
    """A detector of the mixture."""
    return Detector.fit(mixture(np.random.default_rng(0), 3_000))


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.mark.parametrize(
    ("size", "mean", "most"), [(50, 0.03, 0.2), (200, 0.02, 0.09), (1_000, 0.01, 0.05)]
)
def test_without_drift_it_is_about_zero(
    stranger: Detector, random: np.random.Generator, size: int, mean: float, most: float
) -> None:
    found = [stranger.changed_ratio(mixture(random, size)) for _ in range(100)]
    assert np.mean([each.estimate for each in found]) < mean
    assert np.quantile([each.estimate for each in found], 0.95) < most
    assert sum(each.lower > 0 for each in found) <= 20


def test_sentences_that_shaped_nothing_are_like_the_reference(
    judge: Detector, fresh: Vectors
) -> None:
    windows = fresh[: len(fresh) // 400 * 400].reshape(-1, 400, fresh.shape[1])
    assert np.mean([judge.changed_ratio(window).estimate for window in windows]) < 0.02


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 1.0])
def test_it_is_the_share_of_vectors_from_another_space(
    judge: Detector, fresh: Vectors, random: np.random.Generator, share: float
) -> None:
    turn = np.linalg.qr(random.normal(size=(384, 384)))[0].astype(np.float32)
    window = fresh[:1_000].copy()
    changed = random.permutation(1_000)[: int(share * 1_000)]
    window[changed] = window[changed] @ turn
    found = judge.changed_ratio(window)
    assert share - 0.03 < found.estimate < share + 0.01
    assert found.lower <= found.estimate <= found.upper
    assert share - found.lower < 0.1


def test_other_proportions_of_known_topics_are_a_part_of_it(
    judge: Detector, fresh: Vectors, random: np.random.Generator
) -> None:
    # Sentences of one side of the space only: all of their topics are known, in other proportions.
    side = fresh[fresh @ random.normal(size=384).astype(np.float32) > 0.05]
    assert 0.2 < judge.changed_ratio(side[:500]).estimate < 0.9


@pytest.fixture(scope="module")
def windows_of_new_topics() -> dict[float, list[float]]:
    """The changed ratio of windows, by the share of a topic that the reference does not have."""
    with np.load(DATA) as data:
        vectors, topics = data["embedding"].astype(np.float32), data["section"]
    random, found = np.random.default_rng(0), defaultdict(list)
    for topic in ("doc", "libdevel", "perl", "python"):
        known, new = random.permutation(vectors[topics != topic]), vectors[topics == topic]
        judge, others = Detector.fit(known[:4_000]), known[4_000:]
        for share in (0.25, 0.5, 1.0):
            count = int(share * 450)
            for _ in range(4):
                window = [
                    new[random.choice(len(new), count, replace=False)],
                    others[random.choice(len(others), 450 - count, replace=False)],
                ]
                found[share].append(judge.changed_ratio(np.concatenate(window)).estimate)
    return found


@pytest.mark.parametrize(("share", "least"), [(0.25, 0.12), (0.5, 0.3), (1.0, 0.65)])
def test_a_new_topic_is_most_of_it_and_never_more(
    windows_of_new_topics: dict[float, list[float]], share: float, least: float
) -> None:
    found = windows_of_new_topics[share]
    assert np.mean(found) > least
    assert max(found) < share + 0.05


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[:, np.random.default_rng(0).permutation(384)],
        lambda x: x * np.float32(1.05),
        lambda x: x * np.float32(0.95),
        lambda x: x + np.float32(0.1),
        lambda x: x + 5,
        lambda x: np.abs(x),
    ],
    ids=["permuted", "longer", "shorter", "moved", "moved far", "absolute"],
)
def test_a_change_of_every_vector_is_all_of_it(
    judge: Detector, fresh: Vectors, change: Callable[[Vectors], Vectors]
) -> None:
    assert judge.changed_ratio(change(fresh[:500])).estimate > 0.95


@pytest.mark.parametrize(
    "rounded",
    [
        lambda x: x.astype(np.float16),
        lambda x: ((x.view(np.uint32) + 0x8000) & np.uint32(0xFFFF0000)).view(np.float32),
        lambda x: (
            np.round(x / np.abs(x).max(axis=1, keepdims=True) * 127)
            * (np.abs(x).max(axis=1, keepdims=True) / 127)
        ),
        lambda x: x * np.float32(1.005),
    ],
    ids=["float16", "bfloat16", "int8", "0.5 % longer"],
)
def test_rounding_is_no_part_of_it(
    judge: Detector, fresh: Vectors, rounded: Callable[[Vectors], Vectors]
) -> None:
    before = judge.changed_ratio(fresh[:1_000]).estimate
    assert judge.changed_ratio(rounded(fresh[:1_000])).estimate < before + 0.02


def test_repeats_of_one_vector_are_part_of_it(judge: Detector, fresh: Vectors) -> None:
    window = fresh[:1_000].copy()
    window[::10] = window[0]
    assert judge.changed_ratio(window).estimate == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_a_vector_that_the_reference_repeats_is_not(
    random: np.random.Generator, kind: type
) -> None:
    popular = mixture(random, 1)[0]
    reference, window = mixture(random, 3_000), mixture(random, 1_000)
    reference[random.random(3_000) < 0.1] = popular
    window[random.random(1_000) < 0.1] = popular
    found = Detector.fit(reference).changed_ratio(window.astype(kind))
    assert found.estimate < 0.05


def test_two_vectors_that_the_reference_repeats_in_turns_are_not(
    random: np.random.Generator,
) -> None:
    popular = mixture(random, 2)

    def traffic(n: int) -> Vectors:
        found = mixture(random, n)
        found[::6] = np.resize(popular, found[::6].shape)
        return found

    detector = Detector.fit(traffic(3_000))
    assert np.mean([detector.changed_ratio(traffic(1_000)).estimate for _ in range(5)]) < 0.02


def test_what_is_usual_between_stretches_of_the_reference_is_not_counted(
    random: np.random.Generator,
) -> None:
    detector = Detector.fit(sessions(random, 3_000, 30))
    held_out = detector._held_out
    nothing = replace(held_out, usual=np.zeros((2, 1)))
    unaware = replace(detector, _held_out=nothing)
    windows = [sessions(random, 200, 30) for _ in range(20)]
    found = [detector.changed_ratio(window).estimate for window in windows]
    raw = [unaware.changed_ratio(window).estimate for window in windows]
    assert np.mean(raw) > 0.6
    assert np.mean(found) < 0.7 * np.mean(raw)
    # What is changed entirely still stands out.
    assert detector.changed_ratio(1.5 * windows[0]).estimate > 0.5


def test_an_independent_reference_has_nothing_usual(stranger: Detector) -> None:
    assert stranger._held_out.usual[1].tolist() == [0, 0, 0]


def test_a_few_vectors_show_nothing(stranger: Detector, random: np.random.Generator) -> None:
    for n in (0, 1, 9):
        assert stranger.changed_ratio(-mixture(random, n)) == ChangedRatio(0.0, 0.0, 1.0)
    assert stranger.changed_ratio(-mixture(random, 40)).estimate > 0.5


def test_what_is_kept_of_a_large_reference_is_bounded(random: np.random.Generator) -> None:
    small, large = (Detector.fit(mixture(random, n)) for n in (1_000, 12_000))
    assert small._held_out.points.shape == (500, 35)
    assert small._held_out.points.dtype == np.float16
    assert large._held_out.points.shape == (2_500, 35)
    assert large.changed_ratio(mixture(random, 6_000)).estimate < 0.03
    assert large.changed_ratio(-mixture(random, 6_000)).estimate > 0.9


@pytest.mark.parametrize("n", [9_984, 10_000])
@pytest.mark.parametrize("period", [2, 4])
def test_kinds_of_vectors_that_take_turns_are_all_kept(
    random: np.random.Generator, n: int, period: int
) -> None:
    def in_turns(n: int) -> Vectors:
        kinds = 2 * np.random.default_rng(9).normal(size=(period, 16))
        return (kinds[np.arange(n) % period] + random.normal(size=(n, 16))).astype(np.float32)

    detector = Detector.fit(in_turns(n))
    for size in (250, 1_000, 5_000):
        assert detector.changed_ratio(in_turns(size)).estimate < 0.08


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_reference_knows_its_value(value: float) -> None:
    detector = Detector.fit(np.full((200, 4), value, np.float32))
    assert detector.changed_ratio(np.full((50, 4), value, np.float32)).estimate == 0
    assert detector.changed_ratio(np.full((50, 4), value + 1, np.float32)).estimate > 0.9


def test_a_window_must_have_the_dimension_and_be_finite(stranger: Detector) -> None:
    with pytest.raises(ValueError, match="shape"):
        stranger.changed_ratio(np.zeros((20, 3)))
    with pytest.raises(ValueError, match="finite"):
        stranger.changed_ratio(np.full((20, 32), np.nan))


def test_the_novelty_of_usual_vectors_is_uniform(
    stranger: Detector, random: np.random.Generator
) -> None:
    novelty = stranger.novelty(mixture(random, 2_000))
    np.testing.assert_allclose(np.quantile(novelty, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.06)


def test_vectors_unlike_the_reference_are_newer_than_its_own(
    stranger: Detector, random: np.random.Generator
) -> None:
    known, others = mixture(random, 500), random.normal(size=(500, 32)).astype(np.float32)
    novelty = stranger.novelty(
        np.concatenate([known, others / np.linalg.norm(others, axis=1)[:, None]])
    )
    assert np.median(novelty[500:]) > 0.95
    assert novelty.min() >= 0
    assert novelty.max() <= 1


def test_a_copy_of_a_vector_of_the_reference_is_not_new(stranger: Detector) -> None:
    reference = mixture(np.random.default_rng(0), 3_000)
    assert np.median(stranger.novelty(reference[:200])) < 0.6


def test_the_novelty_of_no_vectors_is_empty(stranger: Detector) -> None:
    assert stranger.novelty(np.empty((0, 32))).shape == (0,)


def test_a_comparison_ranks_the_changed_vectors_first(
    stranger: Detector, random: np.random.Generator
) -> None:
    changed = random.permutation(500) < 50
    window = mixture(random, 500)
    window[changed] = 0.9 * window[0] + 0.1 * window[changed]
    compared = stranger.compare(window)
    assert compared.changed == stranger.changed_ratio(window)
    assert changed[np.argsort(-compared.unlikeness)[:40]].mean() > 0.95
    assert len(compared.reference_unlikeness) == len(compared.reference_places) == 1_500
    assert np.quantile(compared.reference_unlikeness, 0.98) < np.median(
        compared.unlikeness[changed]
    )


def test_without_drift_both_sides_are_equally_unlike_the_reference(
    stranger: Detector, random: np.random.Generator
) -> None:
    compared = stranger.compare(mixture(random, 1_000))
    level = np.quantile(compared.reference_unlikeness, 0.95)
    assert (compared.unlikeness > level).mean() == pytest.approx(0.05, abs=0.025)


def test_places_are_those_of_the_comparison_and_two_apart(
    stranger: Detector, random: np.random.Generator
) -> None:
    window = mixture(random, 400)
    places = stranger.places(window)
    np.testing.assert_allclose(places, stranger.compare(window).places, atol=1e-3)
    squares = np.square(places[:200] - places[200:]).sum(axis=1)
    assert squares.mean() == pytest.approx(2, rel=0.1)


def test_a_comparison_needs_a_vector_for_each_fold(
    stranger: Detector, random: np.random.Generator
) -> None:
    with pytest.raises(ValueError, match="needs at least 10 vectors, got 9"):
        stranger.compare(mixture(random, 9))
