"""Axes: the principal axes of a reference."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.detector.axes import Axes


def centred(n: int, variances: NDArray[np.float64], seed: int = 0) -> NDArray[np.float32]:
    """Draw vectors with these variances along rotated axes."""
    random = np.random.default_rng(seed)
    d = len(variances)
    turn = np.linalg.qr(random.normal(size=(d, d)))[0]
    vectors = random.normal(size=(n, d)) * np.sqrt(variances) @ turn
    shifted: NDArray[np.float32] = (vectors - vectors.mean(axis=0)).astype(np.float32)
    return shifted


def test_axes_are_eigenvectors_of_the_covariance_in_falling_order() -> None:
    vectors = centred(500, np.geomspace(4, 0.2, 10))
    axes = Axes.fit(vectors, np.random.default_rng(0)).vectors
    assert axes.shape == (10, 10)
    assert axes.dtype == np.float32
    _, expected = np.linalg.eigh(np.cov(vectors.T.astype(np.float64)))
    agreement = np.abs((axes * expected[:, ::-1]).sum(axis=0))
    np.testing.assert_allclose(agreement, 1, atol=1e-4)
    np.testing.assert_allclose(vectors.astype(float) @ axes @ axes.T, vectors, atol=1e-4)


def test_few_leading_axes_are_half_of_the_dimensions_at_most() -> None:
    axes = Axes.fit(centred(500, np.geomspace(4, 0.5, 10)), np.random.default_rng(0))
    np.testing.assert_array_equal(axes.leading, axes.vectors[:, :5])
    np.testing.assert_array_equal(axes.quiet, axes.vectors[:, 5:])
    many = Axes.fit(centred(600, np.geomspace(4, 0.5, 200)), np.random.default_rng(0))
    np.testing.assert_array_equal(many.leading, many.vectors[:, :64])
    np.testing.assert_array_equal(many.quiet, many.vectors[:, 136:])


def test_dead_axes_are_not_quiet_ones() -> None:
    variances = np.array([3.0, 2.0, 1.0, 0.9, 0.8, 0.7, 0.6, 0.15, 0.05, 0.001])
    axes = Axes.fit(centred(2_000, variances), np.random.default_rng(0))
    np.testing.assert_array_equal(axes.quiet, axes.vectors[:, 5:8])


def test_at_most_512_axes_are_kept() -> None:
    axes = Axes.fit(centred(300, np.geomspace(4, 0.5, 600)), np.random.default_rng(0))
    assert axes.vectors.shape == (600, 512)
    assert axes.vectors.flags.c_contiguous
    assert axes.quiet.flags.c_contiguous


@pytest.mark.parametrize("d", [1_024, 1_025])
def test_many_dimensions_have_the_same_leading_axes(d: int) -> None:
    # Ten strong axes among weak ones: the same with the full covariance matrix and without.
    vectors = centred(200, np.r_[np.geomspace(900, 300, 10), np.full(d - 10, 0.5)])
    axes = Axes.fit(vectors, np.random.default_rng(0))
    expected = np.linalg.svd(vectors, full_matrices=False)[2][:10]
    agreement = np.abs((axes.vectors[:, :10] * expected.T).sum(axis=0))
    np.testing.assert_allclose(agreement, 1, atol=1e-3)
    np.testing.assert_allclose(axes.vectors.T @ axes.vectors, np.eye(512), atol=1e-4)


def test_quiet_axes_of_many_dimensions_are_orthogonal_to_the_others() -> None:
    vectors = centred(1_100, np.r_[np.geomspace(900, 300, 500), np.full(600, 1.0)])
    axes = Axes.fit(vectors, np.random.default_rng(0))
    assert axes.quiet.shape == (1_100, 64)
    np.testing.assert_allclose(axes.quiet.T @ axes.quiet, np.eye(64), atol=1e-4)
    assert np.abs(axes.vectors.T @ axes.quiet).max() < 1e-3
