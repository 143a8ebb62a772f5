"""Rise: how much higher the scores of a window are than in the same hours of a week before.

A small change raises the score of the slow window only a little, but for as long as it lasts. A
residue of the season is as high every week. Scores against different baselines are not compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

import psycopg

from ingest.runtime.thresholds import RISE_SECONDS
from ingest.store import explanations, history, slice_history
from ingest.store.history import Average

WINDOW = "slow"
"""The window whose scores are compared."""
WEEKS = 4
"""Weeks to look back at most, for one without drift."""
_HOURS = 6
"""Hours of the 8 that have scores, at least: a gap of two hours is passed over."""
_HOUR_SECONDS = 3_600
_LATE_SECONDS = 86_400
"""A small drift may be found up to a day after it began."""


@dataclass(frozen=True, slots=True)
class Rise:
    """How much higher the scores of a window are than in the last week without drift.

    Attributes
    ----------
    by_slice : mapping of str to float
        By name of the slice, which is empty for all vectors. Without those that have nothing to
        compare.
    computed_at : float
        Time of the store, in seconds since the epoch.
    """

    by_slice: Mapping[str, float]
    computed_at: float


class Past(Protocol):
    """What was recorded of one window, against the baseline in use.

    By name of the slice, which is empty for all vectors. Times are in seconds since the epoch.
    """

    def averages(self, since: float, until: float) -> Mapping[str, Average]:
        """Return the average scores between two times."""

    def drifted(self, since: float, until: float) -> set[str]:
        """Return what drifted between two times."""


class Recorded:
    """What the store has of a window of a model.

    Parameters
    ----------
    connection : psycopg.Connection
    model_name : str
    version : int
        Of the baseline in use.
    with_slices : bool
    """

    def __init__(
        self, connection: psycopg.Connection, model_name: str, version: int, with_slices: bool
    ) -> None:
        self._of = connection, model_name, WINDOW, version
        self._with_slices = with_slices

    def averages(self, since: float, until: float) -> Mapping[str, Average]:
        """Read the averages of the recorded scores."""
        found = slice_history.averages(*self._of, since, until) if self._with_slices else {}
        whole = history.average(*self._of, since, until)
        return found if whole is None else {**found, "": whole}

    def drifted(self, since: float, until: float) -> set[str]:
        """Read of what drift there are explanations."""
        return explanations.drifted(*self._of, since, until)


def compare(past: Past, now: float, zone: ZoneInfo) -> Rise:
    """Compare the average scores of 8 hours, and of the last of them, with those of a week before.

    The rise is that of the lower average, so it ends soon after a drift.

    A week without scores in those hours, or with drift in them or in the day after, is passed over
    for the week before it. Otherwise a drift would end after a week, because it is as high then.

    Parameters
    ----------
    past : Past
    now : float
        In seconds since the epoch.
    zone : ZoneInfo
        Whose hours are compared: users keep them when clocks change.
    """
    recent = past.averages(now - _HOUR_SECONDS, now)
    left = {
        name: min(average.score, recent[name].score)
        for name, average in past.averages(now - RISE_SECONDS, now).items()
        if average.hours >= _HOURS and name in recent
    }
    risen: dict[str, float] = {}
    local = datetime.fromtimestamp(now, UTC).astimezone(zone)
    for weeks in range(1, WEEKS + 1):
        if not left:
            break
        then = (local - timedelta(weeks=weeks)).timestamp()
        before = {
            name: average.score
            for name, average in past.averages(then - RISE_SECONDS, then).items()
            if name in left and average.hours >= _HOURS
        }
        if before:
            for name in past.drifted(then - RISE_SECONDS, then + _LATE_SECONDS):
                before.pop(name, None)
        risen |= {name: left.pop(name) - score for name, score in before.items()}
    return Rise(risen, now)
