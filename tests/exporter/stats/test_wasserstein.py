"""The Wasserstein distance is scipy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from exporter.stats import wasserstein
from tests.exporter.stats.samples import pairs


@given(pairs())
def test_every_dimension_has_scipys_distance(pair: tuple[NDArray[Any], NDArray[Any]]) -> None:
    reference, current = pair
    expected = [
        wasserstein_distance(x, y)
        for x, y in zip(reference.T.astype(float), current.T.astype(float), strict=True)
    ]
    np.testing.assert_allclose(
        wasserstein.distance(reference, current), expected, rtol=1e-9, atol=1e-9
    )


def test_a_shift_is_its_own_distance() -> None:
    sample = np.random.default_rng(0).normal(size=(100, 40))
    np.testing.assert_allclose(wasserstein.distance(sample, sample + 0.25), 0.25)


def test_dimensions_must_agree() -> None:
    with pytest.raises(ValueError, match="dimensions differ: 2 and 3"):
        wasserstein.distance(np.ones((4, 2)), np.ones((4, 3)))
