"""The plan of a history: which vectors its windows hold, known from times alone.

Vectors are named by position: 0 for the oldest. A window holds the sample of some level. Where the
windows of a level start and end cuts its sample into segments, and every window is a row of whole
segments. Vectors that no window holds are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.monitor.sampling import level_for
from exporter.monitor.windows import Limits
from exporter.stats.arrays import Floats, Positions
from ingest.store.changes import is_sampled

_CHECK = 128
"""Measuring at a check time takes as long as reading and summing as many vectors as this."""
_SHORT = 8_192
"""Vectors' worth of work below which a run is not cut: each reloads its first windows."""
_LONG = 262_144
"""Maximum size of a run, in vectors' worth of work. A restart repeats at most one run."""

_BLOCK = 262_144
"""Number of vectors that are chosen for a sample at a time."""


class Fitted(NamedTuple):
    """When the oldest and the newest vector of the baseline were made."""

    oldest: float
    newest: float

    def spans(self, checks: Floats) -> NDArray[np.bool_]:
        """Return when only some of its vectors had been made, shape (c,)."""
        found: NDArray[np.bool_] = (checks >= self.oldest) & (checks < self.newest)
        return found


class Span(NamedTuple):
    """One window at the k check times at which it holds the sample of one level.

    Attributes
    ----------
    at : ndarray of int64, shape (k,)
        Which check times, ascending.
    first, last : ndarray of int64, shape (k,)
        It holds the segments first <= s < last.
    vectors : ndarray of int64, shape (k,)
        How many vectors these are.
    """

    at: Positions
    first: Positions
    last: Positions
    vectors: Positions

    def part(self, first: int, last: int) -> Span:
        """Leave out all but the check times first <= c < last."""
        here = slice(*np.searchsorted(self.at, [first, last]).tolist())
        return Span(self.at[here] - first, self.first[here], self.last[here], self.vectors[here])

    def shifted(self, segments: int) -> Span:
        """Leave out segments at the beginning."""
        return self._replace(first=self.first - segments, last=self.last - segments)


class Sample(NamedTuple):
    """The vectors in the sample of one level that windows hold, made of s segments.

    Attributes
    ----------
    spans : mapping of str to Span
        By name of the window.
    members : ndarray of int64, shape (m,)
        Which of the vectors that the plan or run keeps are in it, ascending.
    bounds : ndarray of int64, shape (s + 1,)
        Segment s holds the members bounds[s] <= v < bounds[s + 1].
    """

    spans: Mapping[str, Span]
    members: Positions
    bounds: Positions

    def part(self, first: int, last: int) -> Sample | None:
        """Leave out all but the check times first <= c < last; None if nothing is left."""
        spans = {name: span.part(first, last) for name, span in self.spans.items()}
        spans = {name: span for name, span in spans.items() if len(span.at)}
        if not spans:
            return None
        begin = min(int(span.first[0]) for span in spans.values())
        end = max(int(span.last[-1]) for span in spans.values())
        bounds = self.bounds[begin : end + 1]
        return Sample(
            {name: span.shifted(begin) for name, span in spans.items()},
            self.members[bounds[0] : bounds[-1]],
            bounds - bounds[0],
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
    samples : mapping of int to Sample
        By level. The members are counted from the run's first vector.
    vectors : slice
        Which of the kept vectors the run uses.
    times : ndarray of float64
        When each of these was made.
    """

    checks: Floats
    received: Floats
    samples: Mapping[int, Sample]
    vectors: slice
    times: Floats

    def __len__(self) -> int:
        return len(self.checks)

    @property
    def work(self) -> Positions:
        """Cumulative work up to each check time, in vectors read and summed, shape (c,)."""
        read = np.zeros(len(self), np.int64)
        for sample in self.samples.values():
            for span in sample.spans.values():
                ends = sample.bounds[span.last]
                full = ends > 0
                np.maximum.at(read, span.at[full], sample.members[ends[full] - 1] + 1)
        work: Positions = np.maximum.accumulate(read) + _CHECK * np.arange(1, len(self) + 1)
        return work

    def part(self, first: int, last: int) -> Run:
        """Leave out all but the check times first <= c < last."""
        samples = {
            level: part
            for level, sample in self.samples.items()
            if (part := sample.part(first, last)) is not None
        }
        members = [sample.members for sample in samples.values() if len(sample.members)]
        begin = min((int(each[0]) for each in members), default=0)
        end = max((int(each[-1]) + 1 for each in members), default=begin)
        return Run(
            self.checks[first:last],
            self.received[first:last],
            {
                level: sample._replace(members=sample.members - begin)
                for level, sample in samples.items()
            },
            slice(self.vectors.start + begin, self.vectors.start + end),
            self.times[begin:end],
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

        A window whose span has more vectors than it may hold holds a uniform sample of them, as in
        the exporter: see `ingest.store.changes.is_sampled`. The number of a vector is its position,
        from 1.

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
        sampled = _Samples(len(times))
        windows = {}
        for name, limit in limits.items():
            oldest = np.searchsorted(times, checks - limit.settings.seconds, "right")
            start = np.minimum(np.maximum(oldest, earliest), end)
            levels = sampled.levels(start, end, limit.capacity)
            windows[name] = start, levels
        kept = np.zeros(len(times), np.bool_)
        cuts = {}
        for level in sorted({int(at) for _, found in windows.values() for at in np.unique(found)}):
            spans = {}
            for name, (start, levels) in windows.items():
                at = np.flatnonzero(wanted[name] & (levels == level))
                if len(at):
                    first, last = (sampled.ranks(level, ends[at]) for ends in (start, end))
                    spans[name] = Span(at, first, last, last - first)
            if spans:
                cuts[level] = _segments(spans)
                cuts[level].members[:] = sampled.positions(level, cuts[level].members)
                kept[cuts[level].members] = True
        rank = np.cumsum(kept)
        for sample in cuts.values():
            # In place, because all of them together may take more than the times.
            sample.members[:] = rank[sample.members] - 1
        whole = Run(checks, times[end - 1], cuts, slice(0, int(rank[-1])), times[kept])
        return cls(whole, kept)

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


class _Samples:
    """The samples of all levels of n vectors in the order of time.

    Of levels other than 0, which has all vectors, the positions of one at a time are in memory.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._level = 0
        self._chosen: Positions = np.empty(0, np.int64)

    def positions(self, level: int, ranks: Positions) -> Positions:
        """Return the positions of vectors, given how many of the sample are before each."""
        return self._of(level)[ranks] if level else ranks

    def ranks(self, level: int, positions: Positions) -> Positions:
        """Return how many vectors of a sample are before each position."""
        return np.searchsorted(self._of(level), positions) if level else positions

    def _of(self, level: int) -> Positions:
        """Return the positions of the vectors in the sample of a level, ascending."""
        if level != self._level:
            self._chosen = np.empty(0, np.int64)
            self._chosen = np.concatenate(
                [
                    first + np.flatnonzero(is_sampled(np.arange(first + 1, stop + 1), level))
                    for first, stop in pairwise([*range(0, self._count, _BLOCK), self._count])
                ]
            )
            self._level = level
        return self._chosen

    def levels(self, start: Positions, end: Positions, capacity: int) -> Positions:
        """Return the level of the window over each span start <= p < end, shape (c,)."""
        counts, inverse = np.unique(end - start, return_inverse=True)
        levels = np.array([level_for(int(each), capacity) for each in counts])[inverse]
        while True:
            over = np.zeros(len(start), np.bool_)
            for level in np.unique(levels).tolist():
                at = np.flatnonzero(levels == level)
                held = self.ranks(level, end[at]) - self.ranks(level, start[at])
                over[at] = held > capacity
            if not over.any():
                return levels
            levels = levels + over


def _segments(spans: Mapping[str, Span]) -> Sample:
    """Cut a sample at the ends of its windows, and leave out what no window holds.

    The members of the result are counted among those of the sample.

    Parameters
    ----------
    spans : mapping of str to Span
        Windows over the members first <= m < last, rather than segments.
    """
    ends = [ends for span in spans.values() for ends in (span.first, span.last)]
    cuts = np.unique(np.concatenate(ends))
    found = {
        name: span._replace(
            first=np.searchsorted(cuts, span.first), last=np.searchsorted(cuts, span.last)
        )
        for name, span in spans.items()
    }
    used = _used(found.values(), len(cuts) - 1)
    sizes = np.diff(cuts)
    return Sample(
        found,
        cuts[0] + np.flatnonzero(np.repeat(used, sizes)),
        np.concatenate([[0], np.cumsum(sizes * used)]),
    )


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
