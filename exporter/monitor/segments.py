"""Segments: the packed parts of a stream of vectors, which all windows over it share.

Features of a vector are computed once, when it arrives. A window adds whole parts and removes whole
parts. A part is cut where a window begins inside it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import count
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.detector.sums import COUNTED, Part
from exporter.monitor.local_time import to_local
from exporter.monitor.ring import Arrivals
from exporter.stats.arrays import Floats
from ingest.runtime import time_zone

_SMALL = 16
"""Parts below this size are joined: the sums of a part take as much memory as some 16 vectors."""
_FEWEST_COUNTED = COUNTED // 2
"""Vectors from which a side of a split part keeps counts: at most four bytes per component."""

_generations = count()

Recall = Callable[[int, int], Arrivals]


class Segments:
    """The parts of a stream, addressed by position: 0 for the first vector ever appended.

    Parameters
    ----------
    detector : Detector
        Packs the parts.
    recall : callable, optional
        Gives the vectors at positions first <= p < last, to cut a part. Without it, windows must
        begin and end where a part was appended.
    zone : ZoneInfo
        The detector's times are local times of this zone.
    """

    def __init__(
        self, detector: Detector, recall: Recall | None = None, zone: ZoneInfo = time_zone.UTC
    ) -> None:
        self.detector = detector
        self._recall = recall
        self._zone = zone
        self._firsts: list[int] = []
        self._parts: list[Part] = []
        self.end = 0

    def append(self, vectors: NDArray[np.float32], times: Floats) -> None:
        """Append vectors, shape (m, d), as one part.

        They were stored at times, shape (m,), in seconds since the epoch.
        """
        self._firsts.append(self.end)
        self._parts.append(self._pack(vectors, times))
        self.end += len(vectors)

    def compact(self, position: int) -> None:
        """Join the parts before a position while they are small.

        Call when windows that end or begin there have taken or dropped them.
        """
        at = bisect_left(self._firsts, position)
        while at > 1 and self._parts[at - 2].n + self._parts[at - 1].n <= _SMALL:
            self._parts[at - 2 : at] = [self._parts[at - 2].joined(self._parts[at - 1])]
            del self._firsts[at - 1]
            at -= 1

    def parts(self, first: int, last: int) -> Iterator[Part]:
        """Yield the parts that hold exactly the vectors at positions first <= p < last."""
        if first >= last:
            return
        self._cut(first)
        self._cut(last)
        for at in range(self._at(first), len(self._parts)):
            if self._firsts[at] >= last:
                return
            yield self._parts[at]

    def forget(self, first: int) -> None:
        """Drop all parts that end before a position."""
        gone = len(self._parts) if first >= self.end else max(self._at(first), 0)
        del self._firsts[:gone]
        del self._parts[:gone]

    def _at(self, position: int) -> int:
        """Index of the part that holds a position, or of the last part."""
        return bisect_right(self._firsts, position) - 1

    def _cut(self, position: int) -> None:
        """Make a position the first of a part."""
        if not self._parts or position >= self.end:
            return
        at = self._at(position)
        first, part = self._firsts[at], self._parts[at]
        if first == position:
            return
        if part.n <= _SMALL:
            # Vectors that came one by one leave one by one.
            last = first + part.n
            kept = self._recalled(first, last)
            local = to_local(kept.times, self._zone)
            self._parts[at : at + 1] = self.detector.pack_each(kept.vectors, local)
            self._firsts[at : at + 1] = range(first, last)
            return
        self._parts[at : at + 1] = self._split(part, first, position)
        self._firsts.insert(at + 1, position)

    def _split(self, part: Part, first: int, position: int) -> tuple[Part, Part]:
        """Split a part, which begins at ``first``, at a position."""
        last = first + part.n
        before, after = position - first, last - position
        if part.is_counted and max(before, after) < _FEWEST_COUNTED:
            return self._packed(first, position), self._packed(position, last)
        # Only the shorter side is packed anew.
        if before <= after:
            head = self._packed(first, position)
            return head, self.detector.without_first(part, head)
        tail = self._packed(position, last)
        return self.detector.without_last(part, tail), tail

    def _packed(self, first: int, last: int) -> Part:
        kept = self._recalled(first, last)
        return self._pack(kept.vectors, kept.times)

    def _recalled(self, first: int, last: int) -> Arrivals:
        assert self._recall is not None, "only a stream whose vectors are kept can be cut"
        return self._recall(first, last)

    def _pack(self, vectors: NDArray[np.float32], times: Floats) -> Part:
        return self.detector.pack(vectors, to_local(times, self._zone))


class Window:
    """The vectors of a stream at positions first <= p < last, and their running sums.

    Parameters
    ----------
    segments : Segments or None
        The stream; None counts vectors only, while there is no detector.

    Attributes
    ----------
    first, last : int
    sums : Sums or None
    generation : int
        Changes whenever the window does; no two windows ever have the same.
    """

    def __init__(self, segments: Segments | None = None) -> None:
        self._segments = segments
        self.sums = None if segments is None else segments.detector.sums()
        self.first = self.last = 0
        self.generation = next(_generations)

    def __len__(self) -> int:
        return self.last - self.first

    def move(self, first: int, last: int) -> None:
        """Hold the vectors at positions first <= p < last; neither end moves back."""
        if (first, last) == (self.first, self.last):
            return
        self.generation = next(_generations)
        if self._segments is not None and self.sums is not None:
            if first >= self.last:
                self.sums = self._segments.detector.sums()
                self.first = self.last = first
            for part in self._segments.parts(self.first, first):
                self.sums.drop(part)
            for part in self._segments.parts(self.last, last):
                self.sums.take(part)
        self.first, self.last = first, last
