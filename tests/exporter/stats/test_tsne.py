"""t-SNE keeps near neighbours near, on a map that stays."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.stats.arrays import Vectors
from exporter.stats.tsne import tsne

CLUSTERS = 5


@pytest.fixture(scope="module")
def places() -> Vectors:
    """Five clusters of forty points in twenty dimensions, one after the other."""
    random = np.random.default_rng(0)
    centres = 3 * random.normal(size=(CLUSTERS, 20))
    return (np.repeat(centres, 40, axis=0) + random.normal(size=(200, 20))).astype(np.float32)


def neighbours(points: Vectors) -> NDArray[np.intp]:
    apart = np.square(points[:, None] - points).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    return np.argsort(apart, axis=1)[:, :10]


def test_the_neighbours_on_the_map_are_of_the_same_cluster(places: Vectors) -> None:
    cluster = np.repeat(np.arange(CLUSTERS), 40)
    near = neighbours(tsne(places))
    assert (cluster[near] == cluster[:, None]).mean() > 0.95


def test_the_same_points_have_the_same_map_within_a_radius_of_one(places: Vectors) -> None:
    points = tsne(places)
    assert points.shape == (200, 2)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, tsne(places))
    np.testing.assert_allclose(np.linalg.norm(points, axis=1).max(), 1, rtol=1e-5)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 20), (3, 1), (40, 2)])
def test_few_points_and_dimensions_have_a_map_too(shape: tuple[int, int]) -> None:
    points = tsne(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()


def test_equal_points_have_a_map_too() -> None:
    assert np.isfinite(tsne(np.ones((50, 4), np.float32))).all()
