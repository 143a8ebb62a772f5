"""The plan of a history: which vectors its windows hold, known from times alone.

Vectors are named by position: 0 for the oldest. Where windows start and end cuts the positions into
segments, and every window is a row of whole segments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingest.runtime.settings import WindowSettings

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]

UNUSED = -1
"""Segment of vectors that no window holds."""

_RUN_CHECKS = 288
"""Most check times of a run: a day of five minutes."""
_RUN_VECTORS = 65_536
"""Vectors that end a run: bounds what the task that measures it holds."""


class Limits(NamedTuple):
    """What bounds a window: its settings, and the vectors that its baseline calibrates."""

    settings: WindowSettings
    capacity: int


class Fitted(NamedTuple):
    """When the oldest and the newest vector of the baseline were made."""

    oldest: float
    newest: float


class Span(NamedTuple):
    """One window at c check times.

    Attributes
    ----------
    wanted : ndarray of bool, shape (c,)
        Whether it is to be measured then.
    first, last : ndarray of int64, shape (c,)
        It holds the segments first <= s < last.
    vectors : ndarray of int64, shape (c,)
        How many vectors these are.
    middle : ndarray of float64, shape (c,)
        Halfway between its oldest and its newest vector; NaN when it is empty.
    """

    wanted: NDArray[np.bool_]
    first: Positions
    last: Positions
    vectors: Positions
    middle: Floats

    def part(self, first: int, last: int) -> Span:
        """Leave out all but the check times first <= c < last."""
        return Span(
            self.wanted[first:last],
            self.first[first:last],
            self.last[first:last],
            self.vectors[first:last],
            self.middle[first:last],
        )


@dataclass(frozen=True, slots=True)
class Run:
    """All windows at c check times.

    Attributes
    ----------
    checks : ndarray of float64, shape (c,)
        Seconds since the epoch.
    received : ndarray of float64, shape (c,)
        When the newest vector then was made.
    spans : mapping of str to Span
    """

    checks: Floats
    received: Floats
    spans: Mapping[str, Span]

    def __len__(self) -> int:
        return len(self.checks)

    @property
    def reach(self) -> tuple[int, int]:
        """Segments first <= s < last that the windows hold."""
        return (
            min(int(span.first[0]) for span in self.spans.values()),
            max(int(span.last[-1]) for span in self.spans.values()),
        )

    def part(self, first: int, last: int) -> Run:
        """Leave out all but the check times first <= c < last."""
        spans = {name: span.part(first, last) for name, span in self.spans.items()}
        return Run(self.checks[first:last], self.received[first:last], spans)


@dataclass(frozen=True, slots=True)
class Plan:
    """What windows hold at all check times.

    Attributes
    ----------
    whole : Run
    cuts : ndarray of int64, shape (s + 1,)
        Segment s holds the positions cuts[s] <= p < cuts[s + 1].
    """

    whole: Run
    cuts: Positions

    @classmethod
    def of(
        cls,
        times: Floats,
        checks: Floats,
        wanted: Mapping[str, NDArray[np.bool_]],
        limits: Mapping[str, Limits],
        fitted: Fitted,
    ) -> Plan:
        """Plan windows over vectors made at these times, shape (n,), oldest first.

        Parameters
        ----------
        times : ndarray of float64, shape (n,)
        checks : ndarray of float64, shape (c,)
            At least one; in order, none before the first vector.
        wanted : mapping of str to ndarray of bool, shape (c,)
            When each window is to be measured.
        limits : mapping of str to Limits
        fitted : Fitted
            From its oldest vector on, only what is newer than the baseline enters a window, as
            in the exporter. Before, there is nothing that it was fitted to.
        """
        begin = np.searchsorted(times, fitted.oldest, "left")
        newer = np.searchsorted(times, fitted.newest, "right")
        end = np.searchsorted(times, checks, "right")
        earliest = np.where(end > begin, newer, 0)
        starts = {
            name: np.minimum(np.maximum(_start(times, checks, end, bounds), earliest), end)
            for name, bounds in limits.items()
        }
        cuts = np.unique(np.concatenate([end, *starts.values()]))
        spans = {
            name: _span(times, wanted[name], start, end, cuts) for name, start in starts.items()
        }
        return cls(Run(checks, times[end - 1], spans), cuts)

    @property
    def used(self) -> NDArray[np.bool_]:
        """Whether any window holds a segment, shape (s,)."""
        covers = np.zeros(len(self.cuts), np.int64)
        for span in self.whole.spans.values():
            np.add.at(covers, span.first, 1)
            np.add.at(covers, span.last, -1)
        return np.cumsum(covers)[:-1] > 0

    def segments(self, count: int) -> NDArray[np.int32]:
        """Tell the segment of each of ``count`` positions, or ``UNUSED``."""
        numbers = np.where(self.used, np.arange(len(self.cuts) - 1), UNUSED).astype(np.int32)
        found = np.full(count, UNUSED, np.int32)
        found[self.cuts[0] : self.cuts[-1]] = np.repeat(numbers, np.diff(self.cuts))
        return found

    def runs(self) -> Iterator[Run]:
        """Cut the check times into runs that can be measured one by one."""
        entered = np.concatenate([[0], np.cumsum(np.diff(self.cuts) * self.used)])
        reached = np.max([entered[span.last] for span in self.whole.spans.values()], axis=0)
        first = 0
        while first < len(self.whole):
            full = int(np.searchsorted(reached, reached[first] + _RUN_VECTORS, "left"))
            last = min(max(full, first + 1), first + _RUN_CHECKS, len(self.whole))
            yield self.whole.part(first, last)
            first = last


def check_times(first: float, last: float, interval: int) -> Floats:
    """List the multiples of the interval from the first vector to the last one."""
    return np.arange(-(-first // interval), last // interval + 1) * interval


def recorded(checks: Floats, times: Floats, interval: int) -> NDArray[np.bool_]:
    """Tell at which check times there is a record from the interval that ends then."""
    ordered = np.sort(times)
    newest = np.searchsorted(ordered, checks, "right")
    return newest > np.searchsorted(ordered, checks - interval, "right")


def _start(times: Floats, checks: Floats, end: Positions, limits: Limits) -> Positions:
    oldest = np.searchsorted(times, checks - limits.settings.seconds, "right")
    return np.maximum(oldest, end - limits.capacity)


def _span(
    times: Floats,
    wanted: NDArray[np.bool_],
    start: Positions,
    end: Positions,
    cuts: Positions,
) -> Span:
    holds = end > start
    middle = (times[np.minimum(start, len(times) - 1)] + times[end - 1]) / 2
    return Span(
        wanted,
        np.searchsorted(cuts, start),
        np.searchsorted(cuts, end),
        end - start,
        np.where(holds, middle, np.nan),
    )
