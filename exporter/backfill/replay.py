"""Replay: measures the windows of a run over its vectors, as the exporter would have done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np

from exporter.backfill.plan import Run, Sample
from exporter.detector import Detector
from exporter.monitor.history import history_row
from exporter.monitor.segments import Segments, Window
from exporter.monitor.series import Series
from exporter.monitor.verdict import Circumstances, Verdict, judge_state, measure
from exporter.monitor.windows import Limits
from exporter.stats.arrays import Floats, Vectors
from exporter.stats.quality import norms
from ingest.runtime import time_zone
from ingest.store.changes import sampled_ratio
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
    baseline_varies: bool
    zone: ZoneInfo = time_zone.UTC


def measure_run(run: Run, vectors: Iterator[Vectors], judge: Judge) -> list[Row]:
    """Judge the windows of a run, whose vectors, shape (m, d), come in the order of time.

    Memory holds what the windows hold, however long the run is.
    """
    streams = {level: _Stream(judge, sample, run.times) for level, sample in run.samples.items()}
    reading = _Reading(vectors, list(streams.values()))
    rows = []
    for at, check in enumerate(run.checks.tolist()):
        for name in judge.limits:
            for level, stream in streams.items():
                step = stream.step(name, at)
                if step is None:
                    continue
                reading.until(stream.end(name, step))
                window = stream.window(name, step)
                norm = stream.norm(window)
                rows.append((check, _row(run, at, name, window, level, norm, judge)))
        for stream in streams.values():
            stream.forget(at)
    return rows


def _row(
    run: Run, at: int, name: str, window: Window, level: int, norm: float, judge: Judge
) -> HistoryRow:
    given = Circumstances(
        now=float(run.checks[at]),
        last_received_at=float(run.received[at]),
        has_mismatch=False,
        stale_after=judge.stale_after,
        baseline_varies=judge.baseline_varies,
    )
    state = judge_state(len(window), judge.limits[name], level > 0, judge.detector, given)
    measured = None
    if state == "ok":
        assert window.sums is not None
        measured = measure(judge.detector, window.sums)
    verdict = Verdict(
        state,
        len(window),
        start=None,
        sampled_ratio=sampled_ratio(level),
        measurement=measured,
        baseline_version=judge.version,
    )
    return history_row(Series(judge.model_name, name), verdict, norm if measured else None)


class _Reading:
    """Reads vectors, and gives each to the streams that sample it."""

    def __init__(self, vectors: Iterator[Vectors], streams: Sequence[_Stream]) -> None:
        self._vectors = vectors
        self._streams = streams
        self._end = 0

    def until(self, end: int) -> None:
        """Read until the vectors before a position are packed."""
        while self._end < end:
            some = next(self._vectors)
            for stream in self._streams:
                stream.append(some, self._end)
            self._end += len(some)


class _Stream:
    """The vectors in the sample of one level, packed, and the windows over them.

    Parts end where a window may begin or end, so that none is ever cut.
    """

    def __init__(self, judge: Judge, sample: Sample, times: Floats) -> None:
        self._segments = Segments(judge.detector, zone=judge.zone)
        self._sample = sample
        self._bounds = sample.bounds
        self._times: Floats = times[sample.members]
        self._norms = np.empty(len(sample.members), np.float64)
        self._windows: dict[str, Window] = {}
        self._next = dict.fromkeys(sample.spans, 0)

    def step(self, name: str, at: int) -> int | None:
        """Return the number of a check time among those of a window; None if it has none then."""
        step = self._next.get(name)
        if step is None or self._sample.spans[name].at[step] != at:
            return None
        return step

    def end(self, name: str, step: int) -> int:
        """Return the position after the newest vector that a window then holds."""
        last = int(self._bounds[self._sample.spans[name].last[step]])
        return int(self._sample.members[last - 1]) + 1 if last else 0

    def window(self, name: str, step: int) -> Window:
        """Return a window as it then is."""
        span = self._sample.spans[name]
        window = self._windows.setdefault(name, Window(self._segments))
        window.move(int(self._bounds[span.first[step]]), int(self._bounds[span.last[step]]))
        return window

    def norm(self, window: Window) -> float:
        """Return the mean norm of the vectors in a window; NaN if it is empty."""
        return float(self._norms[window.first : window.last].mean()) if len(window) else np.nan

    def forget(self, at: int) -> None:
        """Drop the vectors that no window needs after a check time."""
        needed = self._segments.end
        for name, step in list(self._next.items()):
            span = self._sample.spans[name]
            if span.at[step] > at:
                needed = min(needed, int(self._bounds[span.first[step]]))
                continue
            if step + 1 == len(span.at):
                del self._next[name]
                self._windows.pop(name)
                continue
            self._next[name] = step + 1
            if span.at[step + 1] == at + 1:
                needed = min(needed, self._windows[name].first)
            else:
                # Until then it is at another level. It begins anew, from what it then needs.
                self._windows.pop(name)
                needed = min(needed, int(self._bounds[span.first[step + 1]]))
        self._segments.forget(needed)

    def append(self, vectors: Vectors, first: int) -> None:
        """Pack those of the vectors that are in the sample; the first one has this position."""
        start, end = np.searchsorted(self._sample.members, [first, first + len(vectors)]).tolist()
        if start == end:
            return
        chosen = vectors[self._sample.members[start:end] - first]
        self._norms[start:end] = norms(chosen)
        inside = self._bounds[(self._bounds > start) & (self._bounds < end)]
        for cut, stop in pairwise([start, *np.unique(inside).tolist(), end]):
            self._segments.append(chosen[cut - start : stop - start], self._times[cut:stop])
