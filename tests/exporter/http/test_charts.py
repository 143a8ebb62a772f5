"""Charts: times and values become coordinates."""

from __future__ import annotations

import pytest

from exporter.http.charts import Tick, frame


def test_a_line_goes_from_side_to_side_and_breaks_at_a_gap() -> None:
    area = frame([0.5], 0, 100, is_score=False, width=100, height=50)
    samples = [(0, 0.0), (10, 0.5), (20, None), (60, 0.25), (100, 0.0)]
    assert area.path(samples, gap=40) == "M0.0 50.0h0L10.0 0.0M60.0 25.0h0L100.0 50.0"


@pytest.mark.parametrize(("highest", "top"), [(None, 10), (9.0, 10), (133.0, 300), (5e4, 5e4)])
def test_scores_of_every_size_have_room(highest: float | None, top: float) -> None:
    assert frame([highest], 0, 1, is_score=True).top == top


def test_the_axis_of_scores_is_logarithmic() -> None:
    ticks = frame([300.0], 0, 1, is_score=True).values()
    assert [tick.label for tick in ticks] == ["0", "1", "3", "10", "30", "100", "300"]
    assert (ticks[0].at, ticks[-1].at) == (160, 0)
    assert ticks[2].at - ticks[3].at > 12


def test_ratios_are_shown_as_shares() -> None:
    labels = [tick.label for tick in frame([0.2], 0, 1, is_score=False).values()]
    assert labels == ["0%", "12%", "25%"]


def test_times_have_round_ticks() -> None:
    day = frame([], 3_600, 90_000, is_score=True, width=720).times()
    assert day[0] == Tick(90.0, "04:00")
    assert [tick.label for tick in day] == ["04:00", "08:00", "12:00", "16:00", "20:00", "00:00"]
    month = frame([], 0, 30 * 86_400, is_score=True).times()
    assert month[1].label == "Jan 06"
