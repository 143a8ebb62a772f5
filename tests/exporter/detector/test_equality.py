"""Equality: vectors of one text are equal, whatever the encoder's last digits are."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.detector.equality import Equality
from exporter.detector.features import standard

Vectors = NDArray[np.float32]
HALF = 5e-4
"""How far half precision moves a sentence, in lengths of it."""


def noisy(vectors: Vectors, size: float, seed: int = 0) -> Vectors:
    """Move vectors by a share of their length, each in a direction of its own."""
    noise = np.random.default_rng(seed).normal(size=vectors.shape)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    noise *= size * lengths / np.linalg.norm(noise, axis=1, keepdims=True)
    moved: Vectors = (vectors + noise).astype(np.float32)
    return moved


def bfloat16(vectors: Vectors) -> Vectors:
    return (vectors.view(np.uint32) + 0x8000 & 0xFFFF0000).view(np.float32)


def share_of_equal(equality: Equality, one: Vectors, other: Vectors) -> float:
    return float((equality.fingerprints(one) == equality.fingerprints(other)).mean())


def softmax(logits: NDArray[np.float64]) -> Vectors:
    powers: NDArray[np.float64] = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Vectors = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def fitted(vectors: Vectors) -> Equality:
    return Equality.fit(vectors, standard(vectors)[1])


def different(vectors: Vectors) -> int:
    """Return how many of the vectors count as different."""
    return len(np.unique(fitted(vectors).fingerprints(vectors)))


@pytest.fixture(scope="module")
def equality(sentences: Vectors) -> Equality:
    return fitted(sentences[:2_500])


# What is equal


@pytest.mark.parametrize(
    ("size", "share"), [(1e-7, 0.999), (1e-5, 0.998), (1e-3, 0.9), (5e-3, 0.6)], ids=str
)
def test_sentences_are_equal_in_spite_of_noise(
    sentences: Vectors, equality: Equality, size: float, share: float
) -> None:
    one, other = noisy(sentences, size), noisy(sentences, size, seed=1)
    assert share_of_equal(equality, one, other) > share


def test_sentences_are_equal_in_lower_precision(sentences: Vectors, equality: Equality) -> None:
    half = sentences.astype(np.float16).astype(np.float32)
    assert share_of_equal(equality, sentences, half) > 0.99
    assert share_of_equal(equality, sentences, bfloat16(sentences)) > 0.9


def test_different_sentences_are_different(sentences: Vectors, equality: Equality) -> None:
    all_different = np.unique(sentences, axis=0)
    assert len(np.unique(equality.fingerprints(all_different))) == len(all_different)
    assert share_of_equal(equality, sentences, noisy(sentences, 0.1)) < 0.02


def test_one_tolerance_parts_a_little_more_than_half(equality: Equality) -> None:
    assert equality.cell == 16 * 0.015
    # In standard deviations, where the length of noise is a share of that of the vector.
    vectors = np.random.default_rng(0).normal(size=(5_000, 384)).astype(np.float32)
    plain = Equality(np.ones(384, np.float32), equality.cell)
    moved = noisy(vectors, 0.015, seed=1)
    assert share_of_equal(plain, vectors, moved) == pytest.approx(0.44, abs=0.03)


def test_vectors_of_one_direction_are_as_different_as_their_lengths(
    sentences: Vectors, equality: Equality
) -> None:
    assert share_of_equal(equality, sentences, sentences * np.float32(1.0001)) > 0.99
    assert share_of_equal(equality, sentences, sentences * np.float32(2)) == 0


@pytest.mark.parametrize("factor", [1e-3, 0.1, 100])
def test_vectors_that_all_become_shorter_or_longer_do_not_become_equal(
    sentences: Vectors, equality: Equality, factor: float
) -> None:
    scaled = np.unique(sentences, axis=0) * np.float32(factor)
    assert len(np.unique(equality.fingerprints(scaled))) > len(scaled) - 3
    assert share_of_equal(equality, scaled, noisy(scaled, 1e-5)) > 0.998


def test_vectors_that_come_closer_do_not_become_equal(
    sentences: Vectors, equality: Equality
) -> None:
    vectors = np.unique(sentences, axis=0)
    mean = vectors.mean(axis=0)
    for closer in (mean + 0.2 * (vectors - mean), vectors[0] + 0.2 * (vectors - mean)):
        assert len(np.unique(equality.fingerprints(closer))) > 0.99 * len(vectors)


# How much the reference allows


def test_outputs_of_a_classifier_are_different() -> None:
    """Those of one class may differ by any small amount."""
    logits = 10 * np.random.default_rng(0).normal(size=(5_000, 100))
    assert different(softmax(logits)) > 4_950


@pytest.mark.parametrize(
    ("classes", "logit"), [(2, 8), (3, 8), (10, 8), (60, 8), (60, 12), (10, 16), (40, 16)]
)
@pytest.mark.parametrize("unsure", [0, 30])
def test_outputs_of_a_classifier_that_is_sure_of_few_classes_are_different(
    classes: int, logit: float, unsure: int
) -> None:
    random = np.random.default_rng(0)
    logits = logit * np.eye(classes)[random.integers(classes, size=3_000)]
    logits[:unsure] /= 8
    assert different(softmax(logits + 0.5 * random.normal(size=logits.shape))) > 2_900


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_vectors_that_lie_close_to_each_other_stay_different(rank: int) -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(5_000, rank)) @ random.normal(size=(rank, 128))
    assert different(vectors.astype(np.float32)) > 4_980


@pytest.mark.parametrize("dimension", [1, 2, 3, 64])
@pytest.mark.parametrize("offset", [100, 2e4, 1e6])
def test_vectors_far_from_zero_stay_different(dimension: int, offset: float) -> None:
    far = np.random.default_rng(0).normal(size=(1_000, dimension)) + offset
    vectors = far.astype(np.float32)
    assert different(vectors) > 0.99 * len(np.unique(vectors, axis=0))


@pytest.mark.parametrize(("offset", "noise"), [(100, 1e-6), (3_000, 1e-7)])
def test_vectors_of_nearly_one_direction_are_equal_in_spite_of_a_little_noise(
    offset: float, noise: float
) -> None:
    far = np.random.default_rng(0).normal(size=(2_500, 64)) + offset
    vectors = far.astype(np.float32)
    assert share_of_equal(fitted(vectors), vectors, noisy(vectors, noise)) > 0.9


@pytest.mark.parametrize("values", [2, 4])
@pytest.mark.parametrize("unit", [1, 1_000])
def test_a_column_in_another_unit_does_not_decide(values: int, unit: float) -> None:
    random = np.random.default_rng(0)
    columns = unit * random.integers(values, size=2_500), random.normal(size=(2_500, 50))
    assert different(np.column_stack(columns).astype(np.float32)) == 2_500


@pytest.mark.parametrize("noise", [1e-4, 0.001, 0.005, 0.01, 0.03, 0.1])
@pytest.mark.parametrize("clusters", [40, 100])
def test_vectors_of_narrow_clusters_stay_different(noise: float, clusters: int) -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(clusters, 64))[random.integers(clusters, size=2_500)]
    vectors = centres + noise * random.normal(size=(2_500, 64))
    assert different(vectors.astype(np.float32)) > 2_300


def test_near_vectors_are_different_from_one_percent_of_them_on(sentences: Vectors) -> None:
    # Each of them differs from another sentence by two tolerances.
    near = noisy(sentences[:2_500], 0.03)
    few, many = sentences[:2_500].copy(), sentences[:2_500].copy()
    few[:10], many[:20] = near[1_000:1_010], near[1_000:1_020]
    assert fitted(few).cell == 16 * 0.015
    assert fitted(many).cell < 16 * 0.015 / 2


def test_last_digits_do_not_count_where_variants_hardly_differ(sentences: Vectors) -> None:
    some = sentences[:1_000]
    variants = noisy(some, 1e-4)
    equality = fitted(np.vstack([some, variants]))
    assert share_of_equal(equality, some, variants) < 0.3
    assert share_of_equal(equality, some, noisy(some, 1e-6)) > 0.95


@pytest.mark.parametrize("equal", [0.3, 0.9, 0.95])
@pytest.mark.parametrize("noise", [0, 1e-3])
def test_equal_vectors_of_the_reference_do_not_change_the_tolerance(
    sentences: Vectors, equality: Equality, equal: float, noise: float
) -> None:
    often = sentences[:2_500].copy()
    often[: int(equal * 2_500)] = often[0]
    assert fitted(noisy(often, noise)).cell == equality.cell


@pytest.mark.parametrize("texts", [60, 300])
@pytest.mark.parametrize("noise", [0, 1e-6, 1e-5])
def test_texts_of_a_fixed_set_are_equal_in_spite_of_their_last_digits(
    sentences: Vectors, texts: int, noise: float
) -> None:
    """Each comes several times in the reference: no vector is alone."""
    embedded = sentences[np.random.default_rng(0).integers(texts, size=5_000)]
    equality = fitted(noisy(embedded, noise))
    first, second = (noisy(sentences[:texts], noise, seed) for seed in (1, 2))
    assert share_of_equal(equality, first, second) > 0.98
    assert len(np.unique(equality.fingerprints(first))) == texts


@pytest.mark.parametrize("step", [20, 3])
def test_zeros_make_no_others_equal(step: int) -> None:
    vectors = 1 + 1e-3 * np.random.default_rng(0).normal(size=(3_000, 64))
    vectors[::step] = 0
    zeros = len(vectors[::step])
    assert different(vectors.astype(np.float32)) > 3_000 - zeros - 10


@pytest.mark.parametrize("step", [50, 12])
def test_outlying_vectors_make_no_others_equal(step: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(2_500, 64)).astype(np.float32)
    vectors[::step] *= 1e4
    assert different(vectors) == 2_500


@pytest.mark.parametrize("value", [0, 1, 1e30])
def test_a_constant_reference_has_no_tolerance(value: float) -> None:
    assert fitted(np.full((200, 16), value, np.float32)).cell == 0


# Fingerprints


@pytest.mark.parametrize("dimension", [1, 7, 384, 4_096])
def test_a_fingerprint_does_not_depend_on_the_batch(dimension: int) -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(1_300, dimension)).astype(np.float32)
    vectors[0] = 0
    vectors[1:3] *= np.float32(1e30)
    scale = random.uniform(0.1, 10, dimension).astype(np.float32)
    # So small a cell shows any difference in the last bits.
    for cell in (0.25, 2.0**-44, 0.0):
        equality = Equality(scale, cell)
        whole = equality.fingerprints(vectors)
        single = [equality.fingerprints(row[None])[0] for row in vectors[:200]]
        np.testing.assert_array_equal(whole[:200], single)
        np.testing.assert_array_equal(whole[7:1_299], equality.fingerprints(vectors[7:1_299]))


@pytest.mark.parametrize("cell", [0.0, 0.25])
def test_fingerprints_are_the_same_in_every_process(cell: float) -> None:
    script = (
        "import numpy as np; from exporter.detector.equality import Equality;"
        " vectors = np.arange(6, dtype=np.float32).reshape(2, 3);"
        f" print(Equality(vectors[0] + 1, {cell}).fingerprints(vectors).tolist())"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert told.strip() == str(Equality(vectors[0] + 1, cell).fingerprints(vectors).tolist())


def test_without_a_tolerance_fingerprints_differ_by_any_bit() -> None:
    vectors = np.random.default_rng(0).normal(size=(1, 384)).astype(np.float32)
    words = np.repeat(vectors.view(np.uint32), 384 * 32 + 1, axis=0)
    bits = np.arange(384 * 32)
    words[bits, bits // 32] ^= np.uint32(1) << (bits % 32).astype(np.uint32)
    prints = Equality(vectors[0], 0.0).fingerprints(words.view(np.float32))
    assert len(set(prints.tolist())) == len(words)


def test_vectors_of_a_single_component_do_not_lie_on_a_border() -> None:
    vectors = np.eye(384, dtype=np.float32)[:200]
    moved = vectors + np.random.default_rng(0).normal(size=(200, 384), scale=1e-6)
    plain = Equality(np.ones(384, np.float32), 0.25)
    assert share_of_equal(plain, vectors, moved.astype(np.float32)) == 1


def test_absurd_vectors_have_fingerprints() -> None:
    absurd = np.array([[3e38, -3e38], [3e38, 3e38], [-3e38, 1e-45], [0, 0]], np.float32)
    scale = np.array([1e-30, 1], np.float32)
    assert len(np.unique(Equality(scale, 0.25).fingerprints(absurd))) == 3


# What it does to a score


def asked(sentences: Vectors, share: float, seed: int) -> Vectors:
    """Traffic in half precision; a share of it are the last ten sentences."""
    random = np.random.default_rng(seed)
    is_question = random.random((len(sentences), 1)) < share
    questions = random.integers(10, size=len(sentences)) - 10
    traffic = np.where(is_question, sentences[questions], sentences)
    return noisy(traffic, HALF, seed)


@pytest.mark.parametrize("seed", range(3))
def test_popular_questions_may_become_more_frequent_in_half_precision(
    sentences: Vectors, seed: int
) -> None:
    detector = Detector.fit(asked(sentences[:2_500], 0.2, seed))
    fresh = np.concatenate([sentences[3_000:3_990], sentences[2_490:2_500]])
    assert detector.score(asked(fresh, 0.4, seed + 10)) < 3
    moved = fresh + sentences.std(axis=0) / 10
    assert detector.score(asked(moved, 0.4, seed + 10)) > 5


@pytest.mark.parametrize("text", range(0, 500, 100))
def test_a_new_popular_query_is_no_drift_in_half_precision(
    sentences: Vectors, judge: Detector, fresh: Vectors, text: int
) -> None:
    window = noisy(fresh[:1_000], HALF)
    window[::20] = noisy(np.repeat(sentences[text : text + 1], 50, axis=0), HALF)
    assert judge.score(window) < 3


def test_a_stuck_encoder_is_found_in_half_precision(judge: Detector, fresh: Vectors) -> None:
    window = noisy(fresh[:1_000], HALF)
    window[::4] = noisy(np.repeat(fresh[:1], 250, axis=0), HALF)
    assert judge.components(window)["duplicates"] > 20
