"""Exact statistics: what scipy says, dimension by dimension."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from exporter.detector.detector import Detector
from exporter.detector.exact import compare


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
