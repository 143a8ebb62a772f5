"""The plan of a history: which vectors its windows hold, known from times alone.

Vectors are named by position: 0 for the oldest. Where windows start and end cuts the positions into
segments, and every window is a row of whole segments. Vectors that no window holds are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.monitor.windows import Limits
from exporter.stats.arrays import Floats, Positions

_CHECK = 128
"""Measuring at a check time takes as long as reading and summing as many vectors as this."""
_SHORT = 8_192
"""Vectors' worth of work below which a run is not cut: each reloads its first windows."""
_LONG = 262_144
"""Maximum size of a run, in vectors' worth of work. A restart repeats at most one run."""


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
    """

    wanted: NDArray[np.bool_]
    first: Positions
    last: Positions
    vectors: Positions

    def part(self, first: int, last: int, segment: int) -> Span:
        """Leave out all but the check times first <= c < last, and the segments before one."""
        return Span(
            self.wanted[first:last],
            self.first[first:last] - segment,
            self.last[first:last] - segment,
            self.vectors[first:last],
        )


@dataclass(frozen=True, slots=True)
class Run:
    """All windows at c check times, made of s segments.

    Attributes
    ----------
    checks : ndarray of float64, shape (c,)
        Seconds since the epoch.
    received : ndarray of float64, shape (c,)
        When the newest vector then was made.
    spans : mapping of str to Span
    bounds : ndarray of int64, shape (s + 1,)
        Segment s holds the vectors bounds[s] <= v < bounds[s + 1] of those that the plan keeps.
    times : ndarray of float64, shape (bounds[s] - bounds[0],)
        When each of the vectors was made.
    """

    checks: Floats
    received: Floats
    spans: Mapping[str, Span]
    bounds: Positions
    times: Floats

    def __len__(self) -> int:
        return len(self.checks)

    @property
    def vectors(self) -> slice:
        """Slice of the kept vectors that this run uses."""
        return slice(int(self.bounds[0]), int(self.bounds[-1]))

    @property
    def work(self) -> Positions:
        """Cumulative work up to each check time, in vectors read and summed, shape (c,)."""
        last = np.max([span.last for span in self.spans.values()], axis=0)
        work: Positions = self.bounds[last] + _CHECK * np.arange(1, len(self) + 1)
        return work

    def part(self, first: int, last: int) -> Run:
        """Leave out all but the check times first <= c < last."""
        begin = min(int(span.first[first]) for span in self.spans.values())
        end = max(int(span.last[last - 1]) for span in self.spans.values())
        spans = {name: span.part(first, last, begin) for name, span in self.spans.items()}
        return Run(
            self.checks[first:last],
            self.received[first:last],
            spans,
            self.bounds[begin : end + 1],
            self.times[self.bounds[begin] - self.bounds[0] : self.bounds[end] - self.bounds[0]],
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What windows hold at all check times.

    Attributes
    ----------
    whole : Run
    kept : ndarray of bool, shape (n,)
        Whether any window holds the vector at a position.
    """

    whole: Run
    kept: NDArray[np.bool_]

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
        spans = {name: _span(wanted[name], start, end, cuts) for name, start in starts.items()}
        used = _used(spans.values(), len(cuts) - 1)
        kept = np.zeros(len(times), np.bool_)
        kept[cuts[0] : cuts[-1]] = np.repeat(used, np.diff(cuts))
        bounds = np.concatenate([[0], np.cumsum(np.diff(cuts) * used)])
        return cls(Run(checks, times[end - 1], spans, bounds, times[kept]), kept)

    def runs(self, least: int) -> Iterator[Run]:
        """Cut the check times into runs that can be measured one by one, of about the same work.

        Into ``least`` of them or more, if there is enough to do.
        """
        work = self.whole.work
        total = int(work[-1])
        count = max(min(least, total // _SHORT), -(-total // _LONG))
        shares = total * np.arange(1, count + 1) // count
        stops = np.unique(np.searchsorted(work, shares) + 1)
        for first, stop in pairwise([0, *stops.tolist()]):
            yield self.whole.part(first, stop)


def check_times(first: float, last: float, interval: int) -> Floats:
    """List the multiples of the interval from the first vector to the last one."""
    return np.arange(-(-first // interval), last // interval + 1) * interval


def recorded(checks: Floats, times: Floats, interval: int) -> NDArray[np.bool_]:
    """Return whether each check time has a record from the interval that ends then, shape (c,)."""
    ordered = np.sort(times)
    newest = np.searchsorted(ordered, checks, "right")
    return newest > np.searchsorted(ordered, checks - interval, "right")


def _used(spans: Iterable[Span], segments: int) -> NDArray[np.bool_]:
    """Whether any window holds a segment, shape (s,)."""
    covers = np.zeros(segments + 1, np.int64)
    for span in spans:
        np.add.at(covers, span.first, 1)
        np.add.at(covers, span.last, -1)
    return np.cumsum(covers)[:-1] > 0


def _start(times: Floats, checks: Floats, end: Positions, limits: Limits) -> Positions:
    oldest = np.searchsorted(times, checks - limits.settings.seconds, "right")
    return np.maximum(oldest, end - limits.capacity)


def _span(wanted: NDArray[np.bool_], start: Positions, end: Positions, cuts: Positions) -> Span:
    return Span(
        wanted,
        np.searchsorted(cuts, start),
        np.searchsorted(cuts, end),
        end - start,
    )
