"""Replay: measures the windows of a run over its vectors, as the exporter would have done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from exporter.backfill.plan import Run
from exporter.detector import Detector
from exporter.monitor.history import history_row
from exporter.monitor.segments import Segments, Window
from exporter.monitor.series import Series
from exporter.monitor.verdict import Circumstances, Verdict, judge_state, measure
from exporter.monitor.windows import Limits
from exporter.stats.arrays import Floats, Positions, Vectors
from exporter.stats.quality import norms
from ingest.store.history import HistoryRow

Row = tuple[float, HistoryRow]
"""The check time, in seconds since the epoch, and the row of history for it."""


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """Everything except the vectors that judging needs."""

    model_name: str
    version: int
    detector: Detector
    limits: Mapping[str, Limits]
    stale_after: float


def measure_run(run: Run, vectors: Iterator[Vectors], judge: Judge) -> list[Row]:
    """Judge the windows of a run, whose vectors, shape (m, d), come in the order of time.

    Memory holds what the windows hold, however long the run is.
    """
    stream = _Stream(judge.detector, run, vectors)
    windows = {name: Window(stream.segments) for name in run.spans}
    bounds = run.bounds - run.bounds[0]
    rows = []
    for at, check in enumerate(run.checks.tolist()):
        for name, window in windows.items():
            span = run.spans[name]
            stream.read(int(bounds[span.last[at]]))
            window.move(int(bounds[span.first[at]]), int(bounds[span.last[at]]))
            if span.wanted[at]:
                rows.append((check, _row(run, at, name, window, stream, judge)))
        stream.segments.forget(min(window.first for window in windows.values()))
    return rows


def _row(run: Run, at: int, name: str, window: Window, stream: _Stream, judge: Judge) -> HistoryRow:
    vectors = int(run.spans[name].vectors[at])
    given = Circumstances(
        now=float(run.checks[at]),
        last_received_at=float(run.received[at]),
        mismatched_at=None,
        stale_after=judge.stale_after,
    )
    state = judge_state(vectors, judge.limits[name].settings.min_vectors, judge.detector, given)
    measured, norm = None, None
    if state == "ok":
        assert window.sums is not None
        measured = measure(judge.detector, window.sums)
        norm = stream.norm(window.first, window.last)
    verdict = Verdict(
        state,
        vectors,
        start=None,
        sampled_ratio=1.0,
        measurement=measured,
        baseline_version=judge.version,
    )
    return history_row(Series(judge.model_name, name), verdict, norm)


class _Stream:
    """The vectors of a run, packed when the first window reaches them.

    Parts end where a window may begin or end, so that none is ever cut.
    """

    def __init__(self, detector: Detector, run: Run, vectors: Iterator[Vectors]) -> None:
        self.segments = Segments(detector)
        self._bounds: Positions = run.bounds - run.bounds[0]
        self._times: Floats = run.times
        self._norms = np.empty(len(run.times), np.float64)
        self._vectors = vectors

    def read(self, end: int) -> None:
        """Read vectors until those before a position are packed."""
        while self.segments.end < end:
            self._append(next(self._vectors))

    def norm(self, first: int, last: int) -> float:
        """Return the mean norm of the vectors at positions first <= p < last."""
        return float(self._norms[first:last].mean())

    def _append(self, vectors: Vectors) -> None:
        start = self.segments.end
        end = start + len(vectors)
        self._norms[start:end] = norms(vectors)
        inside = self._bounds[(self._bounds > start) & (self._bounds < end)]
        for first, last in pairwise([start, *inside.tolist(), end]):
            if first < last:
                self.segments.append(vectors[first - start : last - start], self._times[first:last])
