"""Long-run variance: n times the variance of the mean, with any autocorrelation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import dct

from exporter.stats.autocorrelation import long_run_variance


@pytest.mark.parametrize("span", [1, 6])
def test_it_is_n_times_the_variance_of_the_mean(span: int) -> None:
    random = np.random.default_rng(0)
    n = 400
    series = [
        np.convolve(random.normal(size=n + span - 1), np.ones(span), "valid") for _ in range(500)
    ]
    of_mean = n * np.var([values.mean() for values in series])
    estimated = np.mean([long_run_variance(values - values.mean(), 8) for values in series])
    assert estimated == pytest.approx(of_mean, rel=0.15)


@pytest.mark.parametrize(("n", "frequencies"), [(50, 1), (101, 4), (400, 8)])
def test_it_is_the_mean_power_at_the_first_cosines(n: int, frequencies: int) -> None:
    values = np.random.default_rng(0).normal(size=n)
    # An orthonormal basis of cosines is scipy's discrete cosine transform.
    power = np.square(dct(values, norm="ortho"))[1 : frequencies + 1]
    assert long_run_variance(values, frequencies) == pytest.approx(power.mean())
