"""Cosine similarity to a centroid."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.stats import cosine


def test_known_angles() -> None:
    vectors = [[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [1.0, 1.0]]
    found = cosine.similarity(vectors, [5.0, 0.0])
    np.testing.assert_allclose(found, [1, 0, -1, 0.5**0.5])


def test_a_zero_vector_has_no_angle() -> None:
    assert cosine.similarity([[0.0, 0.0]], [1.0, 0.0]).tolist() == [0]


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match=r"\(4, 2\) and \(3,\) do not fit"):
        cosine.similarity(np.ones((4, 2)), np.ones(3))
