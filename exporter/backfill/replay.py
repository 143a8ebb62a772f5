"""Segments of a run: their vectors are summed as they come, and pass through its windows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.backfill.plan import Limits, Run
from exporter.detector.detector import Detector
from exporter.detector.sums import Part
from exporter.monitor.examinations import history_row
from exporter.monitor.verdict import Circumstances, Verdict, measure, state
from exporter.stats.arrays import Positions
from exporter.stats.quality import norms
from ingest.store.history import HistoryRow

Row = tuple[float, HistoryRow]
"""When, in seconds since the epoch, and what was said then."""


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """All that it takes to judge a model's windows, beside their vectors."""

    model_name: str
    version: int
    detector: Detector
    limits: Mapping[str, Limits]
    stale_after: float


def measure_run(run: Run, vectors: Iterator[NDArray[np.float32]], judge: Judge) -> list[Row]:
    """Judge the windows of a run, whose vectors, shape (m, d), come in the order of time.

    Holds what the windows hold, however long the run is.
    """
    segments = _Segments(judge.detector, run.bounds, vectors)
    windows = {name: _Window(judge.detector, segments) for name in run.spans}
    rows = []
    for at, check in enumerate(run.checks.tolist()):
        for name, window in windows.items():
            span = run.spans[name]
            window.move(int(span.first[at]), int(span.last[at]))
            if span.wanted[at]:
                rows.append((check, _row(run, at, name, window, judge)))
        segments.forget(min(window.first for window in windows.values()))
    return rows


def _row(run: Run, at: int, name: str, window: _Window, judge: Judge) -> HistoryRow:
    span = run.spans[name]
    vectors = int(span.vectors[at])
    given = Circumstances(
        now=float(run.checks[at]),
        last_received_at=float(run.received[at]),
        mismatched_at=None,
        stale_after=judge.stale_after,
    )
    said = state(vectors, judge.limits[name].settings.min_vectors, judge.detector, given)
    measured, norm = None, None
    if said == "ok":
        measured = measure(judge.detector, window.sums, float(span.middle[at]))
        norm = window.norm
    verdict = Verdict(
        said, vectors, start=None, measurement=measured, baseline_version=judge.version
    )
    return history_row(judge.model_name, name, verdict, norm)


class _Segments:
    """Segments, summed when the first window comes to them and forgotten after the last one."""

    def __init__(
        self, detector: Detector, bounds: Positions, vectors: Iterator[NDArray[np.float32]]
    ) -> None:
        self._detector = detector
        self._bounds = bounds - bounds[0]
        self._vectors = vectors
        self._parts: defaultdict[int, list[Part]] = defaultdict(list)
        self._norms = np.empty(self._bounds[-1], np.float64)
        self._read = 0
        self._first = 0

    def parts(self, number: int) -> list[Part]:
        """Return the sums of a segment, in parts."""
        while self._read < self._bounds[number + 1]:
            self._add(next(self._vectors))
        return self._parts[number]

    def norm(self, first: int, last: int) -> float:
        """Return the mean norm of the vectors of segments first <= s < last."""
        return float(self._norms[self._bounds[first] : self._bounds[last]].mean())

    def forget(self, first: int) -> None:
        """Let go of the segments before one."""
        for number in range(self._first, first):
            self._parts.pop(number, None)
        self._first = first

    def _add(self, vectors: NDArray[np.float32]) -> None:
        start, self._read = self._read, self._read + len(vectors)
        self._norms[start : self._read] = norms(vectors)
        number = int(np.searchsorted(self._bounds, start, "right")) - 1
        while start < self._read:
            stop = min(int(self._bounds[number + 1]), self._read)
            if start < stop:
                chosen = vectors[len(vectors) - self._read + start :][: stop - start]
                self._parts[number].append(self._detector.pack(chosen))
            start = stop
            number += 1


class _Window:
    """A window on its way through a run: neither of its ends ever goes back."""

    def __init__(self, detector: Detector, segments: _Segments) -> None:
        self._detector = detector
        self._segments = segments
        self.first = self._last = 0
        self.sums = detector.sums()

    def move(self, first: int, last: int) -> None:
        """Hold the segments first <= s < last."""
        if first >= self._last:
            self.sums = self._detector.sums()
            self.first = self._last = first
        for number in range(self.first, first):
            for part in self._segments.parts(number):
                self.sums.drop(part)
        for number in range(self._last, last):
            for part in self._segments.parts(number):
                self.sums.take(part)
        self.first, self._last = first, last

    @property
    def norm(self) -> float:
        """Mean norm of its vectors."""
        return self._segments.norm(self.first, self._last)
