"""Equality: vectors of one text are equal, whatever the encoder's last digits are."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.detector.equality import Equality

Vectors = NDArray[np.float32]
BITS = Equality(0.0)
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


# What is equal


@pytest.mark.parametrize(
    ("size", "share"), [(1e-7, 0.999), (1e-5, 0.998), (1e-3, 0.96), (1e-2, 0.7)], ids=str
)
def test_sentences_are_equal_in_spite_of_noise(
    sentences: Vectors, size: float, share: float
) -> None:
    equality = Equality.fit(sentences[:2_500])
    fresh = sentences[2_500:]
    assert share_of_equal(equality, noisy(fresh, size), noisy(fresh, size, seed=1)) > share


def test_sentences_are_equal_in_lower_precision(sentences: Vectors) -> None:
    equality, fresh = Equality.fit(sentences[:2_500]), sentences[2_500:]
    assert share_of_equal(equality, fresh, fresh.astype(np.float16).astype(np.float32)) > 0.99
    assert share_of_equal(equality, fresh, bfloat16(fresh)) > 0.95


def test_different_sentences_are_different(sentences: Vectors) -> None:
    different = np.unique(sentences, axis=0)
    equality = Equality.fit(sentences[:2_500])
    assert len(np.unique(equality.fingerprints(different))) >= len(different) - 2
    # Three tenths of the distance of two sentences.
    distance = np.linalg.norm(sentences[:3_000] - sentences[3_000:6_000], axis=1).mean()
    assert share_of_equal(equality, sentences, noisy(sentences, 0.3 * distance)) < 0.002


def test_the_width_of_a_cell_is_16_tolerances_of_three_hundredths(sentences: Vectors) -> None:
    reference = sentences[:2_500]
    pairs = np.linalg.norm(reference[:1_250] - reference[1_250:], axis=1)
    expected = 16 * 0.03 * np.quantile(pairs, 0.9)
    assert Equality.fit(reference).cell == pytest.approx(expected, rel=0.2)


def test_one_tolerance_parts_a_little_more_than_half(sentences: Vectors) -> None:
    equality = Equality.fit(sentences[:2_500])
    moved = noisy(sentences, equality.cell / 16)  # sentences have length 1
    assert share_of_equal(equality, sentences, moved) == pytest.approx(0.44, abs=0.03)


# How much the reference allows


def test_outputs_of_a_classifier_are_equal_only_bit_by_bit() -> None:
    """Those of one class may differ by any small amount."""
    logits = 10 * np.random.default_rng(0).normal(size=(5_000, 100))
    assert Equality.fit(softmax(logits)) == BITS


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_vectors_that_lie_close_to_each_other_stay_different(rank: int) -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(5_000, rank)) @ random.normal(size=(rank, 128))
    prints = Equality.fit(vectors.astype(np.float32)).fingerprints(vectors.astype(np.float32))
    assert len(np.unique(prints)) > 4_995


def test_near_vectors_are_different_from_one_percent_of_them_on(sentences: Vectors) -> None:
    wide = Equality.fit(sentences[:2_500])
    # Each of them differs from another sentence by two tolerances.
    near = noisy(sentences[:2_500], 0.08)
    few, many = sentences[:2_500].copy(), sentences[:2_500].copy()
    few[:5], many[:50] = near[1_000:1_005], near[1_000:1_050]
    assert Equality.fit(few).cell == pytest.approx(wide.cell, rel=0.01)
    assert Equality.fit(many).cell < wide.cell / 2


@pytest.mark.parametrize("equal", [0.3, 0.9])
@pytest.mark.parametrize("noise", [0, 1e-3])
def test_equal_vectors_of_the_reference_do_not_change_the_tolerance(
    sentences: Vectors, equal: float, noise: float
) -> None:
    often = sentences[:2_500].copy()
    often[: int(equal * 2_500)] = often[0]
    expected = Equality.fit(sentences[:2_500]).cell
    assert Equality.fit(noisy(often, noise)).cell == pytest.approx(expected, rel=0.3)


def test_outlying_vectors_do_not_change_the_tolerance(sentences: Vectors) -> None:
    far = sentences[:2_500].copy()
    far[::50] *= 1e6
    assert Equality.fit(far).cell == pytest.approx(Equality.fit(sentences[:2_500]).cell, rel=0.1)


@pytest.mark.parametrize("value", [0, 1, 1e30])
def test_a_constant_reference_has_no_tolerance(value: float) -> None:
    assert Equality.fit(np.full((200, 16), value, np.float32)) == BITS


# Fingerprints


@pytest.mark.parametrize("dimension", [1, 7, 384, 4_096])
def test_a_fingerprint_does_not_depend_on_the_batch(dimension: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(300, dimension)).astype(np.float32)
    vectors[0] = 0
    vectors[1:3] *= np.float32(1e30)
    for equality in (Equality(0.5), Equality(1e-9), BITS):
        whole = equality.fingerprints(vectors)
        single = [equality.fingerprints(row[None])[0] for row in vectors]
        columns = equality.fingerprints(np.asfortranarray(vectors[:50]).copy("C"))
        np.testing.assert_array_equal(whole, single)
        np.testing.assert_array_equal(whole[:50], columns)
        np.testing.assert_array_equal(whole[7:99], equality.fingerprints(vectors[7:99]))


@pytest.mark.parametrize("cell", [0.0, 0.25])
def test_fingerprints_are_the_same_in_every_process(cell: float) -> None:
    script = (
        "import numpy as np; from exporter.detector.equality import Equality;"
        " vectors = np.arange(6, dtype=np.float32).reshape(2, 3);"
        f" print(Equality({cell}).fingerprints(vectors).tolist())"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert told.strip() == str(Equality(cell).fingerprints(vectors).tolist())


def test_without_a_tolerance_fingerprints_differ_by_any_bit() -> None:
    vectors = np.random.default_rng(0).normal(size=(1, 384)).astype(np.float32)
    words = np.repeat(vectors.view(np.uint32), 384 * 32 + 1, axis=0)
    bits = np.arange(384 * 32)
    words[bits, bits // 32] ^= np.uint32(1) << (bits % 32).astype(np.uint32)
    assert len(set(BITS.fingerprints(words.view(np.float32)).tolist())) == len(words)


def test_zero_does_not_lie_on_a_border() -> None:
    zeros = np.zeros((200, 384), np.float32)
    moved = np.random.default_rng(0).normal(size=zeros.shape, scale=1e-4).astype(np.float32)
    assert share_of_equal(Equality(1.0), zeros, moved) == 1


def test_absurd_vectors_have_fingerprints() -> None:
    absurd = np.array([[3e38, -3e38], [3e38, 3e38], [-3e38, 1e-45]], np.float32)
    assert len(np.unique(Equality(1e-30).fingerprints(absurd))) == 3


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
