"""Counts and times are read from numbers of any library, and from nothing else."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from embedding_drift_client.errors import SettingsError
from embedding_drift_client.parameters import as_count, as_seconds

NAN = float("nan")


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_a_count_is_a_whole_number_of_any_library(value: object) -> None:
    count = as_count("batch_size", value)
    assert (type(count), count) == (int, 3)


@pytest.mark.parametrize(
    "value", [0, -1, 1e3, 500.0, np.float32(2), NAN, True, np.True_, "500", None, [5], Decimal(5)]
)
def test_anything_else_is_no_count(value: object) -> None:
    with pytest.raises(SettingsError) as refused:
        as_count("batch_size", value)
    assert str(refused.value) == f"batch_size ({value!r}) must be a whole number of at least 1"


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), Fraction(1, 2)])
def test_a_time_is_a_number_of_any_library(value: object) -> None:
    time = as_seconds("interval", value)
    assert (type(time), time) == (float, 0.5)


def test_a_time_is_at_most_an_hour() -> None:
    assert [as_seconds("interval", value) for value in (0, 3600)] == [0, 3600]


@pytest.mark.parametrize(
    "value", [-0.1, 3601, NAN, float("inf"), True, np.True_, "1", None, [1], Decimal(1)]
)
def test_anything_else_is_no_time(value: object) -> None:
    with pytest.raises(SettingsError) as refused:
        as_seconds("interval", value)
    assert str(refused.value) == f"interval ({value!r}) must be 0 to 3600 seconds"
