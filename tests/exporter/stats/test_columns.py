"""Sorted columns: one ascending row per dimension, in a precision that changes no value."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.stats.columns import sorted_columns


@pytest.mark.parametrize(
    ("kind", "widened"),
    [
        (np.float16, np.float32),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.int32, np.float64),
        (np.int8, np.float64),
    ],
)
def test_rows_are_ascending_dimensions_in_enough_precision(
    kind: type[np.number], widened: type
) -> None:
    sample = np.random.default_rng(0).integers(-100, 100, size=(40, 3)).astype(kind)
    columns = sorted_columns(sample)
    assert columns.dtype == widened
    assert columns.shape == (3, 40)
    assert columns.flags.c_contiguous
    for column, row in zip(sample.T, columns, strict=True):
        assert row.tolist() == sorted(column.tolist())


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (4, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_sorting_leaves_the_sample_alone(shape: tuple[int, int], order: str, kind: type) -> None:
    sample = np.asarray(np.random.default_rng(0).normal(size=shape), kind, order=order)  # type: ignore[call-overload]
    before = sample.copy()
    columns = sorted_columns(sample)
    np.testing.assert_array_equal(sample, before)
    assert not np.shares_memory(columns, sample)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 1])
def test_samples_must_be_finite(bad: float, column: int) -> None:
    sample = np.arange(6.0).reshape(3, 2)
    sample[1, column] = bad
    with pytest.raises(ValueError, match=r"^vectors must be finite$"):
        sorted_columns(sample)


@pytest.mark.parametrize("shape", [(3,), (0, 3), (3, 0), (1, 1, 1)])
def test_samples_must_have_rows_and_columns(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"^vectors must have shape \(n, d\) with n, d > 0, got \("
    ):
        sorted_columns(np.ones(shape))
