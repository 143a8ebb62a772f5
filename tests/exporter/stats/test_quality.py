"""Quality: what a degraded model does to its vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.stats.quality import assess, norms


def normal(n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize("shape", [(40, 100), (400, 30), (3_000, 30), (1_100, 1_200)])
def test_the_effective_rank_is_that_of_the_covariance(shape: tuple[int, int]) -> None:
    vectors = normal(*shape) * np.linspace(0.1, 3, shape[1], dtype=np.float32)
    eigenvalues = np.linalg.eigvalsh(np.cov(vectors.T, bias=True))
    expected = eigenvalues.sum() ** 2 / np.square(eigenvalues).sum()
    assert assess(vectors).effective_rank == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("size", [1e-40, 1e-25, 1e20, 3e37])
def test_quality_does_not_depend_on_the_unit(size: float) -> None:
    usual = assess(normal(200, 30))
    quality = assess((normal(200, 30).astype(np.float64) * size).astype(np.float32))
    assert quality.norm == pytest.approx(usual.norm * size, rel=1e-4)
    assert quality.effective_rank == pytest.approx(usual.effective_rank, rel=1e-4)
    assert quality.dead_dimensions == 0
    assert quality.duplicate_ratio == 0


def test_the_largest_numbers_there_are_have_a_norm_and_a_rank() -> None:
    signs = np.sign(normal(200, 30))
    quality = assess(signs * np.float32(3e38))
    assert quality.norm == pytest.approx(3e38 * 30**0.5, rel=1e-6)
    assert quality.effective_rank == pytest.approx(assess(signs).effective_rank)


def test_one_dimension_at_the_end_of_the_range_is_all_that_counts() -> None:
    vectors = normal(200, 30) * np.float32(1e-30)
    vectors[:, 7] = np.linspace(-3e38, 3e38, 200)
    assert assess(vectors).effective_rank == pytest.approx(1)


@pytest.mark.parametrize("first", [1, 1e30])
def test_quality_does_not_depend_on_the_block(
    first: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = np.zeros(200, np.dtype([("seq", np.int64), ("embedding", np.float32, (12,))]))
    vectors = records["embedding"]
    vectors[:] = normal(200, 12)
    # Two that cancel: only their block knows how large the vectors are, and that dimension 5 is not
    # dead.
    vectors[:, 5] = 0
    vectors[0] = first
    vectors[1] = -first
    vectors[:, 3] = 7
    vectors[150:160] = vectors[20:30]
    whole = assess(vectors)
    monkeypatch.setattr("exporter.stats.quality._BLOCK", 16)
    found = assess(vectors)
    assert found.effective_rank == pytest.approx(whole.effective_rank, rel=1e-5)
    assert found.norm == whole.norm
    assert found.dead_dimensions == whole.dead_dimensions == 1
    assert found.duplicate_ratio == pytest.approx(0.05)


def test_independent_dimensions_of_one_size_are_all_used() -> None:
    assert assess(normal(20_000, 10)).effective_rank == pytest.approx(10, rel=0.02)


def test_a_collapse_onto_a_line_uses_one_dimension() -> None:
    line = np.outer(np.linspace(-1, 1, 100), np.arange(1, 9)).astype(np.float32)
    assert assess(line).effective_rank == pytest.approx(1)


def test_vectors_that_are_all_the_same_are_one_and_its_repeats() -> None:
    quality = assess(np.full((50, 4), 0.5, np.float32))
    assert quality.norm == 1.0
    assert quality.effective_rank == 1.0
    assert quality.dead_dimensions == 4
    assert quality.duplicate_ratio == pytest.approx(0.98)


def test_dead_dimensions_are_counted_and_quiet_ones_are_not() -> None:
    vectors = normal(200, 10)
    vectors[:, 2] = 7
    vectors[:, 5] *= 1e-5
    vectors[:, 6] *= 0.1
    assert assess(vectors).dead_dimensions == 2


def test_the_dead_dimensions_of_a_real_model_are_found(sentences: NDArray[np.float32]) -> None:
    quality = assess(sentences[:1_000])
    assert quality.dead_dimensions == 3
    assert quality.norm == pytest.approx(1, abs=1e-3)
    assert quality.duplicate_ratio < 0.05


def test_every_vector_twice_is_half_duplicates() -> None:
    vectors = normal(30, 5)
    assert assess(np.repeat(vectors, 2, axis=0)).duplicate_ratio == 0.5


def test_vectors_with_one_fingerprint_are_duplicates() -> None:
    quality = assess(normal(8, 5), np.array([1, 1, 2, 3, 3, 3, 4, 5]))
    assert quality.duplicate_ratio == 3 / 8
    assert replace(quality, duplicate_ratio=0) == assess(normal(8, 5))


def test_the_norm_is_the_mean_euclidean_norm() -> None:
    vectors = normal(50, 7)
    expected = np.linalg.norm(vectors.astype(np.float64), axis=1)
    np.testing.assert_allclose(norms(vectors), expected, rtol=1e-12)
    assert assess(vectors).norm == pytest.approx(expected.mean(), rel=1e-12)


@pytest.mark.parametrize(("share", "dead"), [(0.9e-3, 1), (1.1e-3, 0)])
def test_a_dimension_is_dead_below_a_thousandth_of_the_median(share: float, dead: int) -> None:
    wave = np.where(np.arange(100) % 2, 1.0, -1.0)[:, None]
    vectors = (wave * np.array([1.0, 2.0, 2.0 * share, 2.0, 50.0])).astype(np.float32)
    assert assess(vectors).dead_dimensions == dead


def test_vectors_that_are_not_numbers_have_no_rank() -> None:
    vectors = normal(50, 7)
    vectors[3, 2] = np.nan
    assert np.isnan(assess(vectors).effective_rank)
