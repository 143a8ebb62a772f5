"""The Kolmogorov-Smirnov statistic is scipy's, and its p-value close to the exact one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from exporter.stats import ks
from tests.exporter.stats.samples import pairs


@given(pairs())
def test_every_dimension_has_scipys_statistic(pair: tuple[NDArray[Any], NDArray[Any]]) -> None:
    reference, current = pair
    expected = [
        ks_2samp(x, y, method="asymp").statistic
        for x, y in zip(reference.T.astype(float), current.T.astype(float), strict=True)
    ]
    np.testing.assert_allclose(ks.statistic(reference, current), expected, rtol=0, atol=1e-9)


def test_long_samples_agree_where_blocks_are_skipped() -> None:
    rng = np.random.default_rng(0)
    reference = np.round(rng.normal(size=(5_000, 6)), 2)
    current = np.round(rng.normal(0.05, 1.1, size=(3_333, 6)), 2)
    expected = ks_2samp(reference, current, axis=0, method="asymp").statistic
    np.testing.assert_allclose(ks.statistic(reference, current), expected, rtol=0, atol=1e-12)


def test_a_sample_has_no_distance_from_itself() -> None:
    sample = np.random.default_rng(0).normal(size=(100, 3))
    assert ks.statistic(sample, sample).tolist() == [0, 0, 0]


def test_samples_apart_have_distance_one() -> None:
    assert ks.statistic(np.zeros((5, 1)), np.ones((7, 1))).tolist() == [1]


def test_the_p_value_is_close_to_the_exact_one() -> None:
    for statistic in (0.05, 0.08, 0.12):
        n = m = 1_000
        x = np.arange(n) / n
        exact = ks_2samp(x, x + statistic, method="exact").pvalue
        ours = ks.p_value(ks.statistic(x[:, None], (x + statistic)[:, None]), n, m)
        assert ours[0] == pytest.approx(exact, abs=0.01)


def test_dimensions_must_agree() -> None:
    with pytest.raises(ValueError, match="dimensions differ: 2 and 3"):
        ks.statistic(np.ones((4, 2)), np.ones((4, 3)))


def test_the_p_value_is_kolmogorovs_limit() -> None:
    # 2 sum (-1)^(k-1) exp(-2 k^2 x^2) with x = D sqrt(nm / (n + m)).
    x = 0.1 * (300 * 200 / 500) ** 0.5
    series = 2 * sum((-1) ** (k - 1) * np.exp(-2 * k**2 * x**2) for k in range(1, 100))
    assert ks.p_value(0.1, 300, 200) == pytest.approx(series)
    assert ks.p_value([0.0, 1.0], 300, 200).tolist() == pytest.approx([1, 0])
