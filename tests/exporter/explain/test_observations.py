"""Observations are vectors with what is known of each."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.explain.observations import Observations

VECTORS = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_the_text_is_part_of_the_metadata() -> None:
    observed = Observations(VECTORS, [{"text": "a"}, None, {"text": 3}])
    assert observed.texts == ["a", None, None]
    assert Observations(VECTORS).texts == [None, None, None]


def test_some_rows_keep_what_belongs_to_them() -> None:
    observed = Observations(VECTORS, [{"n": 0}, {"n": 1}, {"n": 2}], np.array([5.0, 6.0, 7.0]))
    some = observed.take(np.array([2, 0]))
    np.testing.assert_array_equal(some.vectors, VECTORS[[2, 0]])
    assert some.metadata == [{"n": 2}, {"n": 0}]
    assert some.times is not None
    assert some.times.tolist() == [7.0, 5.0]


@pytest.mark.parametrize("column", ["metadata", "times"])
def test_a_column_of_another_length_is_refused(column: str) -> None:
    given = {"metadata": [None] * 2, "times": np.zeros(2)}[column]
    with pytest.raises(ValueError, match=f"3 vectors have 2 {column}"):
        Observations(VECTORS, **{column: given})  # type: ignore[arg-type]
