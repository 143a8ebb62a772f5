"""The summary of a regime: what its streams say together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

from bench.traffic.simulation import Outcome

_STAYS = 0.25
"""Days for which the longest window holds what has ended."""


@dataclass(frozen=True)
class Delays:
    """How soon a change is paged.

    Attributes
    ----------
    onsets : int
    found : float or None
        Share of the onsets that were paged within 24 hours.
    median_minutes : float or None
        None if less than half of them were.
    """

    onsets: int
    found: float | None = None
    median_minutes: float | None = None

    @classmethod
    def of(cls, minutes: Sequence[float | None]) -> Delays:
        """Summarise the minutes from each onset to a page; None where there was none."""
        if not minutes:
            return cls(0)
        middle = median(math.inf if each is None else each for each in minutes)
        found = mean(each is not None for each in minutes)
        return cls(len(minutes), found, middle if math.isfinite(middle) else None)


@dataclass(frozen=True)
class Summary:
    """False pages and delays of one regime.

    Attributes
    ----------
    days, streams : int
    first_day, days_2_to_7, later : float
        Mean number of false pages of a stream that begin then.
    mean : float
    max : int
        Number of false pages of a stream.
    firing : float
        Share of the time of the false pages.
    due : float
        Mean number of pages of a stream while its traffic really changes.
    drifts : dict of str to Delays
        By kind.
    cpu_seconds : float
        Mean of a simulated day, drifts included.
    """

    days: int
    streams: int
    first_day: float
    days_2_to_7: float
    later: float
    mean: float
    max: int
    firing: float
    due: float
    drifts: dict[str, Delays]
    cpu_seconds: float

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], change: tuple[float, float] | None) -> Summary:
        """Summarise streams whose traffic really changes between two days after the start."""
        since, until = change or (math.inf, -math.inf)
        false = [
            [(begin, end) for begin, end in one.pages if end < since or begin > until + _STAYS]
            for one in outcomes
        ]
        begins = [begin for pages in false for begin, _ in pages]
        pages = sum(len(one.pages) for one in outcomes)
        n, days = len(outcomes), outcomes[0].days
        return cls(
            days=days,
            streams=n,
            first_day=sum(begin < 1 for begin in begins) / n,
            days_2_to_7=sum(1 <= begin < 7 for begin in begins) / n,
            later=sum(begin >= 7 for begin in begins) / n,
            mean=len(begins) / n,
            max=max(map(len, false)),
            firing=sum(end - begin for pages in false for begin, end in pages) / (n * days),
            due=(pages - len(begins)) / n,
            drifts={
                kind: Delays.of([minutes for one in outcomes for minutes in one.delays[kind]])
                for kind in outcomes[0].delays
            },
            cpu_seconds=mean(one.cpu_seconds for one in outcomes),
        )
