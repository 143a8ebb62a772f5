"""The change point: a step is found where it is, and waves are none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.stats.changepoint import step


@pytest.fixture
def noise() -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(size=336)


def test_a_step_is_found_where_it_is(noise: NDArray[np.float64]) -> None:
    noise[200:] += 3
    assert step(noise, 24) == pytest.approx(200, abs=1)


def test_gaps_do_not_hide_it(noise: NDArray[np.float64]) -> None:
    noise[200:] += 3
    noise[60:90] = np.nan
    noise[220:260] = np.nan
    assert step(noise, 24) == pytest.approx(200, abs=1)


def test_a_step_without_noise_is_found() -> None:
    assert step(np.repeat([0.0, 1.0], 50), 24) == 50


@pytest.mark.parametrize("length", [0, 1, 47, 48, 336])
def test_a_constant_has_none(length: int) -> None:
    assert step(np.ones(length), 24) is None


def test_a_level_shorter_than_the_shortest_is_none(noise: NDArray[np.float64]) -> None:
    noise[-20:] += 4
    found = step(noise, 24)
    assert found is None or found <= len(noise) - 24


def test_no_step_is_seldom_taken_for_one() -> None:
    random = np.random.default_rng(1)
    weekend = np.arange(336) % 168 >= 120
    found = [step(random.normal(size=336) - 3 * weekend, 24) for _ in range(50)]
    assert found.count(None) >= 49
