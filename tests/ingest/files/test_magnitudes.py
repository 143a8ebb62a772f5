"""How much the magnitudes of numbers differ, which tells vectors from other bytes."""

from __future__ import annotations

import numpy as np
import pytest

from ingest.files.magnitudes import USUAL, spread

RANDOM = np.random.default_rng(0)


def test_numbers_have_magnitudes_that_differ_little_and_other_bytes_do_not() -> None:
    assert spread(RANDOM.normal(size=4_000)) == pytest.approx(1.6, abs=0.1)
    assert spread(np.frombuffer(RANDOM.bytes(1_024), "<f4")) > USUAL


def test_it_is_the_deviation_of_the_logarithms_without_zeros_and_faults() -> None:
    numbers = np.array([1, -2, 4, 8, 0, np.nan], np.float32)
    assert spread(numbers) == pytest.approx(np.std([0, 1, 2, 3]))


@pytest.mark.parametrize("numbers", [[2.0**41] * 5, [2.0**-41] * 5, [np.inf, np.nan, np.nan, 1]])
def test_what_is_absurd_is_infinite(numbers: list[float]) -> None:
    assert spread(np.array(numbers)) == np.inf


def test_of_few_numbers_nothing_can_be_told() -> None:
    assert np.isnan(spread(np.array([1.0, 2, 3, 0, 0])))
    assert np.isnan(spread(np.ones(7), fewest=8))
    assert spread(np.ones(8), fewest=8) == 0
