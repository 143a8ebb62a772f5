"""Maturing: when a baseline gives way to one that has seen more of the usual traffic.

The first vectors of a model are a provisional baseline. They may be those of one afternoon. After a
day without drift the next baseline is pinned from all of that day, and after a week without drift
from all of that week. A weekly baseline stays, and so does one that a person chose.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, NamedTuple

from ingest.runtime.thresholds import LASTING_SECONDS, SCORE, Stage

SPANS: Mapping[Stage, float] = {"daily": 86_400.0, "weekly": 604_800.0}
"""Seconds without drift that each later stage is pinned from."""

Wait = Literal["time", "drift", "vectors"]


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
        None if it is due. `drift` if it would be due, had there been no drift in its span;
        `vectors` if its span has too few.
    """

    stage: Stage
    due_at: float
    waits_for: Wait | None

    @property
    def since(self) -> float:
        """Where its span begins, if it is pinned when it is due."""
        return self.due_at - SPANS[self.stage]


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


def plan(stage: Stage, first_at: float, drifted_at: float, now: float) -> Maturing | None:
    """Return what comes next for a baseline of a stage; None after the last one.

    Parameters
    ----------
    stage : Stage
    first_at : float
        When the oldest vector in the store arrived.
    drifted_at : float
        When there last was drift; minus infinity if never.
    now : float
        All in seconds since the epoch.
    """
    later = [name for name in SPANS if stage == "provisional" or name == "weekly" != stage]
    if not later:
        return None
    start = max(first_at, drifted_at)
    due = {name: start + SPANS[name] for name in later}
    for name in reversed(later):
        if due[name] <= now:
            return Maturing(name, due[name], None)
    name = later[0]
    waits_for: Wait = "drift" if first_at + SPANS[name] <= now else "time"
    return Maturing(name, due[name], waits_for)


def drift(scores: Iterable[Score]) -> Iterator[tuple[float, bool]]:
    """Yield the time of each score, and whether it is drift by the thresholds of the rules.

    The average of an hour counts once the window has scores of an hour. A gap of more than an hour
    begins a new one.

    Parameters
    ----------
    scores : iterable of Score
        In the order of time.
    """
    recent: dict[str, deque[Score]] = {}
    for score in scores:
        held = recent.setdefault(score.window, deque())
        if math.isnan(score.value):
            yield score.time, False
            continue
        if held and held[-1].time < score.time - LASTING_SECONDS:
            held.clear()
        held.append(score)
        thresholds = SCORE[score.stage][score.window]
        # The oldest is an hour old, or there is none so old.
        while len(held) > 1 and held[1].time <= score.time - LASTING_SECONDS:
            held.popleft()
        is_lasting = (
            held[0].time <= score.time - LASTING_SECONDS
            and fmean(each.value for each in held) > thresholds.lasting
        )
        yield score.time, score.value > thresholds.sudden or is_lasting


def last_drift(scores: Iterable[Score]) -> float:
    """Return when there last was drift; minus infinity if never."""
    return max((time for time, is_drift in drift(scores) if is_drift), default=-math.inf)
