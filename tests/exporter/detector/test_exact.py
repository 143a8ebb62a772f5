"""Exact statistics: those of scipy in every dimension."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from exporter.detector.detector import Detector
from exporter.detector.exact import Reference, compare


def test_every_dimension_agrees_with_scipy(vectors: NDArray[np.float32]) -> None:
    reference, current = vectors[:1_000], vectors[1_000:1_200] + 0.1
    exact = compare(reference, current)
    scale = reference.astype(np.float64).std(axis=0)
    for column in range(8):
        # scipy answers in the precision that it is asked in.
        x, y = reference[:, column].astype(float), current[:, column].astype(float)
        expected = stats.ks_2samp(x, y, method="asymp").statistic
        distance = stats.wasserstein_distance(x, y)
        np.testing.assert_allclose(exact.ks[column], expected, atol=1e-9)
        np.testing.assert_allclose(exact.wasserstein[column] * scale[column], distance, rtol=1e-6)
    assert ((exact.ks_p_value > 0) & (exact.ks_p_value <= 1)).all()


def test_bins_come_close_to_the_exact_statistics(
    vectors: NDArray[np.float32], detector: Detector
) -> None:
    reference, current = vectors[:1_000], vectors[1_000:1_200] + 0.1
    exact, binned = compare(reference, current), detector.marginals(current)
    np.testing.assert_allclose(binned.ks, exact.ks, atol=1 / 128)
    np.testing.assert_allclose(binned.wasserstein, exact.wasserstein, rtol=0.1, atol=0.01)


def test_chosen_dimensions_are_compared_alone(vectors: NDArray[np.float32]) -> None:
    reference, current = vectors[:1_000], vectors[1_000:1_200] + 0.1
    every, chosen = compare(reference, current), compare(reference, current, [5, 2])
    assert every.dimension.tolist() == list(range(8))
    assert chosen.dimension.tolist() == [5, 2]
    assert chosen.dimension.dtype == np.intp
    for name in ("ks", "ks_p_value", "wasserstein"):
        np.testing.assert_allclose(getattr(chosen, name), getattr(every, name)[[5, 2]])


def test_a_reference_is_the_same_for_every_window(vectors: NDArray[np.float32]) -> None:
    reference, windows = vectors[:1_000], (vectors[1_000:1_200] + 0.1, vectors[1_200:1_300])
    known = Reference(reference, [5, 2])
    for current in windows:
        alone, found = compare(reference, current, [5, 2]), known.compare(current)
        for name in ("dimension", "ks", "ks_p_value", "wasserstein"):
            np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))


def test_p_values_are_those_of_both_sizes(vectors: NDArray[np.float32]) -> None:
    reference, current = vectors[:1_000], vectors[1_000:1_200]
    exact = compare(reference, current)
    expected = stats.kstwobign.sf(exact.ks * (1_000 * 200 / 1_200) ** 0.5)
    np.testing.assert_allclose(exact.ks_p_value, expected, rtol=1e-6)


def test_dimensions_must_agree(vectors: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match=r"^dimensions differ: 8 and 7$"):
        compare(vectors[:100], vectors[:100, :7])
