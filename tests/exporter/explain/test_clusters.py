"""Clusters are where vectors lie close together."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.explain.clusters import k_means, nearest, square_distances, typical


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_k_means_finds_separate_clusters(random: np.random.Generator) -> None:
    true = 10 * random.normal(size=(6, 5))
    places = (true[np.arange(600) % 6] + random.normal(size=(600, 5))).astype(np.float32)
    centres = k_means(places, 6)
    distance = square_distances(true.astype(np.float32), centres).min(axis=1)
    assert distance.max() < 0.3
    assert len(set(nearest(places, centres)[:6].tolist())) == 6


def test_equal_places_are_one_cluster() -> None:
    places = np.ones((50, 3), np.float32)
    np.testing.assert_array_equal(k_means(places, 8), places[:1])


def test_distances_are_squared_and_between_each_two(random: np.random.Generator) -> None:
    places, centres = (random.normal(size=(n, 4)).astype(np.float32) for n in (7, 3))
    expected = ((places[:, None] - centres) ** 2).sum(axis=2)
    np.testing.assert_allclose(square_distances(places, centres), expected, rtol=1e-4)
    np.testing.assert_array_equal(nearest(places, centres), expected.argmin(axis=1))


def test_typical_places_are_near_the_centre_and_differ(random: np.random.Generator) -> None:
    places = random.normal(size=(200, 8)).astype(np.float32)
    places[:50] *= 0.01
    chosen = typical(places, np.zeros(8, np.float32), 5)
    assert len(chosen) == 5
    assert (chosen < 50).sum() == 1
    distance = (places**2).sum(axis=1)
    assert chosen[0] == distance.argmin()
    assert distance[chosen].max() < np.quantile(distance[50:], 0.2)


def test_few_places_have_few_typical_ones() -> None:
    assert len(typical(np.zeros((3, 2), np.float32), np.zeros(2, np.float32), 5)) == 1
