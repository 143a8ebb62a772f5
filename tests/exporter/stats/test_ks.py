"""The Kolmogorov-Smirnov statistic is scipy's, and its p-value close to the exact one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from exporter.stats import ks
from exporter.stats.columns import sorted_columns
from tests.exporter.stats.samples import pairs


@given(pairs())
def test_every_dimension_has_scipys_statistic(pair: tuple[NDArray, NDArray]) -> None:
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
        exact = 0.0
        n = m = 1_000
        x = np.arange(n) / n
        exact = ks_2samp(x, x + statistic, method="exact").pvalue
        ours = ks.p_value(ks.statistic(x[:, None], (x + statistic)[:, None]), n, m)
        assert ours[0] == pytest.approx(exact, abs=0.01)


def test_dimensions_must_agree() -> None:
    with pytest.raises(ValueError, match="dimensions differ: 2 and 3"):
        ks.statistic(np.ones((4, 2)), np.ones((4, 3)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_must_be_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        sorted_columns([[1.0], [bad], [2.0]])


@pytest.mark.parametrize("shape", [(3,), (0, 3), (3, 0), (1, 1, 1)])
def test_samples_must_have_rows_and_columns(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape \(n, d\)"):
        sorted_columns(np.ones(shape))


def test_sorting_leaves_the_sample_alone() -> None:
    sample = np.array([[3.0], [1.0], [2.0]])
    sorted_columns(sample)
    assert sample.ravel().tolist() == [3, 1, 2]
