"""Outliers: absurd vectors are found, and long ones of real encoders are not."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.stats.arrays import Vectors
from exporter.stats.outliers import outliers


@pytest.mark.parametrize("factor", [1e4, 1e18, 1e36])
def test_a_vector_that_is_absurdly_long_is_an_outlier(vectors: Vectors, factor: float) -> None:
    given = vectors[:200].copy()
    given[[7, 8]] *= np.float32(factor)
    assert np.flatnonzero(outliers(given)).tolist() == [7, 8]


def test_values_near_the_end_of_float32_are_outliers_even_if_most_vectors_have_them(
    vectors: Vectors,
) -> None:
    given = vectors[:10].copy()
    given[:8] = 3e38
    assert outliers(given).tolist() == [True] * 8 + [False] * 2
    assert outliers(given[:8]).all()


def test_long_short_and_zero_vectors_are_no_outliers(vectors: Vectors) -> None:
    given = vectors[:200].copy()
    given[:5] *= 10
    given[5:10] *= 1e-6
    given[10:150] = 0
    assert not outliers(given).any()
    assert not outliers(np.zeros_like(given)).any()
