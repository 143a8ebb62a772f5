"""Maturing: a later baseline comes after a day and a week without drift, or after two of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from exporter.monitor.maturing import (
    LATER,
    Maturing,
    Score,
    last_drift,
    measured_ratio,
    plan,
    recent_seconds,
    stage_of,
)
from ingest.runtime.thresholds import SCORE, STAGES, STEADY, Stage

DAY = 86_400.0
NOW = 1e9
NEVER = -math.inf


@pytest.mark.parametrize(
    ("seasons", "stage"),
    [((), "provisional"), (("daily",), "daily"), (("daily", "weekly"), "weekly")],
)
def test_the_stage_of_a_baseline_is_what_its_detector_has_seen(
    seasons: tuple[str, ...], stage: str
) -> None:
    assert stage_of(seasons) == stage


@pytest.mark.parametrize(
    ("stage", "age", "expected"),
    [
        ("provisional", 0.5, Maturing("daily", NOW + 0.5 * DAY, "time")),
        ("provisional", 1, Maturing("daily", NOW, None)),
        ("provisional", 6, Maturing("daily", NOW - 5 * DAY, None)),
        ("provisional", 7, Maturing("weekly", NOW, None)),
        ("daily", 2, Maturing("weekly", NOW + 5 * DAY, "time")),
        ("daily", 8, Maturing("weekly", NOW - DAY, None)),
        ("weekly", 30, None),
    ],
)
def test_a_baseline_matures_after_a_day_and_after_a_week(
    stage: Stage, age: float, expected: Maturing | None
) -> None:
    assert plan(LATER[stage], NOW - age * DAY, NEVER, NOW) == expected


@pytest.mark.parametrize(
    ("stage", "age", "ago", "expected"),
    [
        ("provisional", 1.25, 0, Maturing("daily", NOW + 0.75 * DAY, "drift")),
        ("provisional", 1.25, 1.1, Maturing("daily", NOW - 0.1 * DAY, None)),
        ("provisional", 1.9, 0.95, Maturing("daily", NOW + 0.05 * DAY, "drift")),
        ("provisional", 20, 7.5, Maturing("weekly", NOW - 0.5 * DAY, None)),
        ("daily", 8, 2, Maturing("weekly", NOW + 5 * DAY, "drift")),
        ("daily", 8, 7, Maturing("weekly", NOW, None)),
    ],
)
def test_a_baseline_waits_until_its_span_has_no_drift(
    stage: Stage, age: float, ago: float, expected: Maturing
) -> None:
    assert plan(LATER[stage], NOW - age * DAY, NOW - ago * DAY, NOW) == expected


@pytest.mark.parametrize(
    ("stage", "later", "days"), [("provisional", "daily", 2), ("daily", "weekly", 14)]
)
def test_with_drift_every_day_two_spans_are_compared(stage: Stage, later: Stage, days: int) -> None:
    assert plan(LATER[stage], NOW - days * DAY, NOW, NOW) == Maturing(
        later, NOW, None, compares=True
    )


def test_a_young_model_waits_for_time_even_if_it_drifts() -> None:
    assert plan(LATER["provisional"], NOW - DAY / 2, NOW, NOW) == Maturing(
        "daily", NOW + DAY, "time"
    )


def scores(*values: float, stage: Stage = "daily", window: str = "fast") -> list[Score]:
    """One score every five minutes, the last one now."""
    first = NOW - 300 * (len(values) - 1)
    return [Score(window, first + 300 * at, value, stage) for at, value in enumerate(values)]


SUDDEN, LASTING, _ = STEADY["daily"]["fast"]
HIGH = (SUDDEN + LASTING) / 2


@pytest.mark.parametrize(
    ("values", "last"),
    [
        ([], NEVER),
        ([LASTING] * 20, NEVER),
        ([0, SUDDEN + 0.1, 0], NOW - 300),
        ([HIGH] * 12, NEVER),
        ([HIGH] * 13, NOW),
        ([HIGH] * 4 + [0.0] + [HIGH] * 8, NOW),
        ([HIGH] * 4 + [math.nan] + [HIGH] * 8, NOW),
        ([HIGH] * 4 + [math.nan] * 13 + [HIGH] * 8, NEVER),
        ([0.0, HIGH] * 10, NEVER if HIGH < 2 * LASTING else NOW),
    ],
    ids=str,
)
def test_what_may_be_drift_is_above_a_threshold_at_once_or_for_an_hour(
    values: list[float], last: float
) -> None:
    assert last_drift(scores(*values)) == last


def test_to_a_provisional_baseline_only_a_very_high_score_is_drift() -> None:
    assert last_drift(scores(9.0, 14.0, stage="provisional")) == NEVER
    assert last_drift(scores(9.0, 15.1, stage="provisional")) == NOW


def test_each_window_drifts_by_itself_and_by_its_own_threshold() -> None:
    fast, slow = ([SUDDEN + 0.1] * 13 for _ in range(2))
    assert last_drift(scores(*fast)) == NOW
    # A daily baseline has not seen the other days of the week.
    assert last_drift(scores(*slow, window="slow")) == NEVER
    assert last_drift(scores(*slow, window="slow", stage="weekly")) == NOW
    apart = [*scores(*[HIGH] * 7), *scores(*[HIGH] * 6, window="slow", stage="weekly")]
    assert last_drift(sorted(apart, key=lambda each: each.time)) == NEVER


@pytest.mark.parametrize(("check_interval", "seconds"), [(60, 900), (450, 900), (3_600, 7_200)])
def test_a_drift_may_last_until_the_check_after_the_next(
    check_interval: float, seconds: float
) -> None:
    assert recent_seconds(check_interval) == seconds


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("window", ["fast", "slow"])
def test_whatever_the_rules_call_drift_becomes_no_baseline(stage: Stage, window: str) -> None:
    shipped, steady = SCORE[stage][window], STEADY[stage][window]
    assert shipped.sudden >= steady.sudden
    assert shipped.lasting >= steady.lasting


def test_a_vector_is_measured_if_a_window_that_holds_it_has_a_score() -> None:
    seconds = {"fast": 900.0, "slow": 21_600.0}
    times = np.array([1_000.0, 7_000, 14_000, 21_000, 28_000])
    nothing = Score("slow", 20_000.0, math.nan, "daily")
    fast, slow = Score("fast", 14_600.0, 0, "daily"), Score("slow", 28_500.0, 0, "daily")
    assert measured_ratio(times, [], seconds) == 0
    assert measured_ratio(times, [nothing], seconds) == 0
    assert measured_ratio(times, [fast], seconds) == pytest.approx(0.2)
    assert measured_ratio(times, [nothing, slow], seconds) == pytest.approx(0.8)
    assert measured_ratio(times, [fast, nothing, slow], seconds) == pytest.approx(0.8)
