"""The rest between two polls."""

from __future__ import annotations

import pytest

from ingest.watch.rest import rest


@pytest.mark.parametrize(
    ("interval", "took", "expected"),
    [(1.0, 0.01, 1.0), (1.0, 2.0, 18.0), (1.0, 30.0, 60.0), (300.0, 30.0, 300.0)],
    ids=["a quick poll", "a tenth of the time", "a very slow poll", "an interval of its own"],
)
def test_reading_takes_at_most_a_tenth_of_the_time(
    interval: float, took: float, expected: float
) -> None:
    assert rest(interval, took, longest=60.0) == expected
