"""A summary counts false pages by when they begin, and delays by kind of drift."""

from __future__ import annotations

import pytest

from bench.traffic.simulation import Outcome
from bench.traffic.summary import Delays, Summary


def outcome(*pages: tuple[float, float], **delays: list[float | None]) -> Outcome:
    return Outcome(10, list(pages), delays, cpu_seconds=1.5)


def test_false_pages_are_counted_by_the_day_on_which_they_begin() -> None:
    noisy = outcome((0.1, 0.2), (0.9, 1.1), (1.0, 1.5), (6.9, 7.2), (7.0, 7.1), (9.0, 9.5))
    found = Summary.of([noisy, outcome()], None)
    assert (found.first_day, found.days_2_to_7, found.later) == (1, 1, 1)
    assert (found.mean, found.max, found.streams, found.days) == (3, 6, 2, 10)
    assert found.firing == pytest.approx((0.1 + 0.2 + 0.5 + 0.3 + 0.1 + 0.5) / 20)
    assert found.due == 0


def test_a_page_during_a_change_is_due() -> None:
    changing = outcome((3.5, 4.1), (5.0, 5.1), (6.2, 6.5), (6.3, 6.4), (1.0, 3.9))
    found = Summary.of([changing], (4, 6))
    assert (found.due, found.mean) == (3, 2)


def test_delays_are_summarised_over_all_streams() -> None:
    found = Summary.of([outcome(odds=[3.0, None]), outcome(odds=[5.0, 100.0])], None)
    assert found.drifts == {"odds": Delays(onsets=4, found=0.75, median_minutes=52.5)}


def test_a_median_needs_half_of_the_onsets() -> None:
    found = Delays.of([1.0, None, None])
    assert (found.onsets, found.median_minutes) == (3, None)
    assert found.found == pytest.approx(1 / 3)
    assert Delays.of([]) == Delays(0, None, None)
