"""Exact Kolmogorov-Smirnov and Wasserstein statistics of all dimensions, against scipy.

10,000 x 768 vectors on each side, on one core. The measurement checks that both give the same
numbers.
"""

from __future__ import annotations

import sys
import time

import exporter  # noqa: F401  (one BLAS thread, before numpy)

# isort: split
import numpy as np
from scipy import stats

from bench.table import median_seconds, show
from exporter.stats import ks, wasserstein
from exporter.stats.columns import sorted_columns

SHAPE = (10_000, 768)


def main(quick: bool) -> None:
    """Time both and print the ratio."""
    rows, dimension = (SHAPE[0], 96) if quick else SHAPE
    random = np.random.default_rng(0)
    mixing = random.normal(size=(dimension, dimension)) / dimension**0.5
    reference = (random.normal(size=(rows, dimension)) @ mixing).astype(np.float32)
    current = (random.normal(size=(rows, dimension)) @ mixing * 1.05).astype(np.float32)

    # The reference is sorted once, when a baseline is read; the window is sorted for each request.
    of_reference = sorted_columns(reference)

    def ours() -> tuple[np.ndarray, np.ndarray]:
        of_current = sorted_columns(current)
        return (
            ks.of_columns(of_reference, of_current),
            wasserstein.of_columns(of_reference, of_current),
        )

    seconds = median_seconds(ours, runs=5)
    start = time.perf_counter()
    expected_ks = stats.ks_2samp(reference, current, axis=0, method="asymp").statistic
    expected_w1 = [
        stats.wasserstein_distance(x, y) for x, y in zip(reference.T, current.T, strict=True)
    ]
    scipy_seconds = time.perf_counter() - start
    statistic, distance = ours()
    np.testing.assert_allclose(statistic, expected_ks, atol=1e-9)
    np.testing.assert_allclose(distance, expected_w1, atol=1e-9)
    show(
        f"Exact KS and Wasserstein-1 of {rows:,} x {dimension} against {rows:,} x {dimension}",
        ("", "seconds", "ratio"),
        [
            ("this project", f"{seconds:.3f}", "1"),
            (
                "scipy ks_2samp + wasserstein_distance",
                f"{scipy_seconds:.2f}",
                f"{scipy_seconds / seconds:.1f}",
            ),
        ],
    )


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
