"""Comparing vectors of the same ids."""

from __future__ import annotations

import numpy as np
import pytest

from ingest.store.revisions import TOLERANCE, compare


def compared(before: list[float], after: list[float]) -> tuple[bool, float]:
    same, cosine = compare(np.array([before], np.float32), np.array([after], np.float32))
    return bool(same[0]), float(cosine[0])


@pytest.mark.parametrize(
    ("before", "after", "is_same", "cosine"),
    [
        ([1, 2], [1, 2], True, 1),
        ([1, 0], [0, 1], False, 0),
        ([1, 0], [-1, 0], False, -1),
        ([1, 2], [2, 4], False, 1),
        ([0, 0], [0, 0], True, np.nan),
        ([0, 0], [-0.0, 0], True, np.nan),
        ([0, 0], [1e-45, 0], False, np.nan),
        ([1, 0], [0, 0], False, np.nan),
        ([3e38, 3e38], [3e38, 3e38], True, 1),
        ([3e38, 3e38], [3e38, -3e38], False, 0),
        ([1e-45, 0], [1e-45, 0], True, 1),
        ([3], [3], True, 1),
        ([3], [4], False, 1),
    ],
)
def test_a_vector_equals_another_in_direction_and_length(
    before: list[float], after: list[float], is_same: bool, cosine: float
) -> None:
    same, found = compared(before, after)
    assert same == is_same
    assert found == pytest.approx(cosine, nan_ok=True)


@pytest.mark.parametrize(("distance", "is_same"), [(0.9, True), (1.1, False)])
def test_the_cosine_distance_of_the_same_vector_has_a_bound(distance: float, is_same: bool) -> None:
    angle = np.arccos(1 - distance * TOLERANCE)
    assert compared([1, 0], [np.cos(angle), np.sin(angle)])[0] == is_same


@pytest.mark.parametrize(("difference", "is_same"), [(0.8, True), (1.2, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_relative_length_of_the_same_vector_has_a_bound(
    difference: float, is_same: bool, sign: int
) -> None:
    factor = 1 + sign * difference * TOLERANCE
    assert compared([1, 0], [factor, 0])[0] == is_same
    assert compared([1e30, 0], [factor * 1e30, 0])[0] == is_same


def test_rows_are_compared_one_by_one() -> None:
    before = np.array([[1, 0], [1, 0], [0, 0]], np.float32)
    after = np.array([[1, 0], [0, 1], [0, 0]], np.float32)
    same, cosine = compare(before, after)
    assert same.tolist() == [True, False, True]
    np.testing.assert_array_equal(cosine, [1, 0, np.nan])
