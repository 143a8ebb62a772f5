"""Segments of a plan: summed where their vectors are (map), and made windows (merge)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.check import history_row
from exporter.dataset import Dataset, Piece
from exporter.plan import UNUSED, Limits, Run
from exporter.quality import norms
from exporter.score import Detector, Sums
from exporter.sums import Part
from exporter.verdict import Circumstances, Verdict, measure, state
from ingest.store.history import HistoryRow

Row = tuple[float, HistoryRow]
"""When, in seconds since the epoch, and what was said then."""

_BLOCK = 16_384
"""Vectors held while they are summed."""


class Segment(NamedTuple):
    """What some vectors add to a segment: their sums, and the sum of their norms."""

    number: int
    part: Part
    norm: float


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """All that it takes to judge a model's windows, beside their vectors."""

    model_name: str
    version: int
    detector: Detector
    limits: Mapping[str, Limits]
    stale_after: float


def add_up(
    dataset: Dataset, piece: Piece, segments: NDArray[np.int32], judge: Judge
) -> list[Segment]:
    """Sum the vectors of a piece, whose segments have shape (n,), a few at a time."""
    found = []
    first = 0
    for vectors in _blocks(dataset.vectors(piece, judge.detector.dimension)):
        here = segments[first : first + len(vectors)]
        first += len(vectors)
        for number in np.unique(here[here != UNUSED]).tolist():
            chosen = vectors[here == number]
            norm = float(norms(chosen).sum())
            found.append(Segment(number, judge.detector.pack(chosen), norm))
    return found


def _blocks(batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Join batches; in files without order, each has but a vector or two of many segments."""
    waiting: list[NDArray[np.float32]] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= _BLOCK:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def within(segments: Sequence[Segment], reach: tuple[int, int]) -> list[Segment]:
    """Choose the segments first <= s < last."""
    return [segment for segment in segments if reach[0] <= segment.number < reach[1]]


def measure_run(run: Run, parts: Sequence[Sequence[Segment]], judge: Judge) -> list[Row]:
    """Judge the windows of a run by what each piece adds to their segments."""
    segments = _Segments(judge.detector, parts)
    windows = {name: _Window(judge.detector, segments) for name in run.spans}
    rows = []
    for at, check in enumerate(run.checks.tolist()):
        for name, window in windows.items():
            if run.spans[name].wanted[at]:
                rows.append((check, _row(run, at, name, window, judge)))
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
        sums = window.move(int(span.first[at]), int(span.last[at]))
        measured = measure(judge.detector, sums, float(span.middle[at]))
        norm = window.norm
    verdict = Verdict(
        said, vectors, start=None, measurement=measured, baseline_version=judge.version
    )
    return history_row(judge.model_name, name, verdict, norm)


class _Segments:
    """Sums of whole segments, whichever pieces their vectors are in."""

    def __init__(self, detector: Detector, parts: Sequence[Sequence[Segment]]) -> None:
        self._parts = defaultdict(list)
        for piece in parts:
            for segment in piece:
                self._parts[segment.number].append(segment)
        # Windows take in the same segments one after the other. Nothing of self: a cycle would
        # keep a run's parts until the garbage collector comes.
        self.sums = lru_cache(maxsize=4)(partial(_summed, detector, self._parts))

    def norm(self, first: int, last: int) -> float:
        """Sum the norms of the vectors of segments first <= s < last."""
        return sum(segment.norm for number in range(first, last) for segment in self._parts[number])


def _summed(detector: Detector, parts: Mapping[int, Sequence[Segment]], number: int) -> Sums:
    sums = detector.sums()
    for segment in parts[number]:
        sums.unpack(segment.part)
    return sums


class _Window:
    """A window on its way through a run: neither of its ends ever goes back."""

    def __init__(self, detector: Detector, segments: _Segments) -> None:
        self._detector = detector
        self._segments = segments
        self._first = self._last = 0
        self._sums = detector.sums()

    def move(self, first: int, last: int) -> Sums:
        """Hold the segments first <= s < last, and return their sums."""
        if first >= self._last:
            self._sums = self._detector.sums()
            self._first = self._last = first
        for number in range(self._first, first):
            self._sums.subtract(self._segments.sums(number))
        for number in range(self._last, last):
            self._sums.merge(self._segments.sums(number))
        self._first, self._last = first, last
        return self._sums

    @property
    def norm(self) -> float:
        """Mean norm of its vectors."""
        return self._segments.norm(self._first, self._last) / self._sums.n
