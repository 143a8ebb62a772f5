"""Maturing: when a baseline gives way to one that has seen more of the usual traffic.

The first vectors of a model are a provisional baseline. They may be those of one afternoon. The
next baseline is made of a day, and the one after it of a week. The scores of such a span usually
show that it has no drift. Where the traffic has a strong season, they cannot: to a baseline that
does not know the season, it looks like drift every day. Then the baseline waits for a second span,
and the two are compared: see `successor`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from exporter.stats.arrays import Floats
from ingest.runtime.thresholds import KEPT_SECONDS, LASTING_SECONDS, STEADY, Stage, Thresholds

SPANS: Mapping[Stage, float] = {"daily": 86_400.0, "weekly": 604_800.0}
"""Seconds of the vectors that each later stage is made of."""
LATER: Mapping[Stage, Sequence[Stage]] = {
    "provisional": ("daily", "weekly"),
    "daily": ("weekly",),
    "weekly": (),
}
"""The stages that may follow each."""

Wait = Literal["time", "drift", "vectors", "scores", "unlike", "unfit", "person"]
"""What a next baseline waits for.

time : for the end of its span
drift : there was drift in its span, or scores that may be drift
vectors : its span has too few, or they leave too much of it empty
scores : too few vectors of its span were measured when they came
unlike : it was fitted, and finds drift where there should be none: see `successor`
unfit : no detector can be fitted to the vectors of its span
person : another weekly one is only suggested: see `successor.suggest`
"""
_CHECKS = 2
"""Intervals between checks after which what was seen is no longer recent."""


@dataclass(frozen=True, slots=True)
class Maturing:
    """What comes next for a baseline.

    Attributes
    ----------
    stage : Stage
        Of the next baseline.
    due_at : float
        When it can be pinned at the earliest, in seconds since the epoch.
    waits_for : Wait or None
        None if it is due.
    compares : bool
        Whether it is due because two spans can be compared, not because of the scores of one.
    """

    stage: Stage
    due_at: float
    waits_for: Wait | None
    compares: bool = False


class Score(NamedTuple):
    """The score of a window at one time, against a baseline of a stage; NaN if there was none."""

    window: str
    time: float
    value: float
    stage: Stage


def stage_of(seasons: Iterable[str]) -> Stage:
    """Return the stage of a baseline whose detector knows these seasons."""
    known = set(seasons)
    return "weekly" if "weekly" in known else "daily" if "daily" in known else "provisional"


def plan(later: Sequence[Stage], first_at: float, drifted_at: float, now: float) -> Maturing | None:
    """Return what comes next for a baseline; None if there is nothing to come.

    Parameters
    ----------
    later : sequence of Stage
        Stages of which the next baseline may be, from `LATER`. The last that is due is next.
    first_at : float
        When the oldest vector of the baseline in use arrived. An older one is never in the next: a
        person may have pinned this baseline because everything was different then.
    drifted_at : float
        When there last was drift, of all vectors or of a slice; minus infinity if never.
    now : float
        All in seconds since the epoch.
    """
    if not later:
        return None
    start = max(first_at, drifted_at)
    for name in reversed(later):
        if start + SPANS[name] <= now:
            return Maturing(name, start + SPANS[name], None)
    name, span = later[0], SPANS[later[0]]
    if first_at + 2 * span <= now:
        return Maturing(name, first_at + 2 * span, None, compares=True)
    waits_for: Wait = "drift" if first_at + span <= now else "time"
    return Maturing(name, min(start, first_at + span) + span, waits_for)


class Crossing(NamedTuple):
    """A score, or the average of an hour, that is above its threshold."""

    score: float
    threshold: float


class Hour:
    """The scores of one window in the last hour, which say whether it drifts."""

    def __init__(self) -> None:
        self._held: deque[Score] = deque()

    def add(self, score: Score, thresholds: Thresholds) -> Crossing | None:
        """Add the newest score, NaN if there is none. Return what makes it drift, if it is.

        A score that is missing counts as 0 in the average, as in the rules.
        """
        held, start = self._held, score.time - LASTING_SECONDS
        # After a gap, or once the clock was set back.
        if held and not start <= held[-1].time <= score.time:
            held.clear()
        held.append(score)
        # The oldest is an hour old, or there is none so old.
        while len(held) > 1 and held[1].time <= start:
            held.popleft()
        if math.isnan(score.value):
            return None
        if score.value > thresholds.sudden:
            return Crossing(score.value, thresholds.sudden)
        known = [each.value for each in held if not math.isnan(each.value)]
        average = math.fsum(known) / len(held)
        begins = held[0].time <= start and not math.isnan(held[0].value)
        if begins and average > thresholds.lasting:
            return Crossing(average, thresholds.lasting)
        return None


def drift(scores: Iterable[Score]) -> Iterator[tuple[float, bool]]:
    """Yield the time of each score, and whether it may be drift, by `STEADY`.

    The average of an hour counts once the window has scores of an hour. A gap of more than an hour
    begins a new one.

    Parameters
    ----------
    scores : iterable of Score
        In the order of time.
    """
    recent: dict[str, Hour] = {}
    for score in scores:
        hour = recent.setdefault(score.window, Hour())
        yield score.time, hour.add(score, STEADY[score.stage][score.window]) is not None


def last_drift(scores: Iterable[Score]) -> float:
    """Return when there last was or may have been drift; minus infinity if never."""
    return max((time for time, is_drift in drift(scores) if is_drift), default=-math.inf)


def recent_seconds(check_interval: float) -> float:
    """Return for how long after a drift was last seen it may still last.

    Checks may be rare, or the exporter may have missed one.
    """
    return max(KEPT_SECONDS, _CHECKS * check_interval)


def measured_ratio(times: Floats, scores: Iterable[Score], seconds: Mapping[str, float]) -> float:
    """Return the share of vectors that were in a window when its score was recorded.

    Parameters
    ----------
    times : ndarray of float64, shape (n,)
        When the vectors arrived, in seconds since the epoch.
    scores : iterable of Score
        In the order of time.
    seconds : mapping of str to float
        Length of each window.
    """
    recorded: dict[str, list[float]] = {name: [] for name in seconds}
    for window, time, value, _ in scores:
        if not math.isnan(value):
            recorded[window].append(time)
    measured = np.zeros(len(times), np.bool_)
    for name, moments in recorded.items():
        following = np.append(moments, np.inf)[np.searchsorted(moments, times)]
        measured |= following < times + seconds[name]
    return float(measured.mean())
