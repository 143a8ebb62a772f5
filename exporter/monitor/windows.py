"""Cached windows: the vectors of a model's last minutes or hours, and running sums over them.

A window spans all its seconds at any rate of arrival. If the span has more vectors than the window
may hold, the window holds a uniform sample of them; see `sampling`. A window costs work when
vectors enter and leave, never when it is read.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

import numpy as np

from exporter.detector import Detector
from exporter.monitor.ring import Arrivals, Ring
from exporter.monitor.sampling import SPARSE, level_for
from exporter.monitor.segments import Segments, Window
from exporter.stats.arrays import Vectors
from ingest.runtime import time_zone
from ingest.runtime.settings.settings import MonitoringSettings, WindowSettings
from ingest.store.changes import sampled_ratio

_PART = 255
"""Vectors packed at a time, at most: their counts fit a byte."""
_CHUNK = 2 * _PART
"""Vectors added at a time: bounds how long a scrape waits for the lock."""
_PAUSE_SECONDS = 0.0005

REFERENCE_RATIO = 2
"""A reference of n vectors calibrates windows of at most n / 2."""


class Limits(NamedTuple):
    """What bounds a window: its settings, and the vectors that its baseline calibrates."""

    settings: WindowSettings
    capacity: int

    @classmethod
    def of(cls, settings: WindowSettings, n_reference: int) -> Limits:
        """Limit a window that is measured against a baseline of n vectors."""
        return cls(settings, min(settings.max_vectors, max(2, n_reference // REFERENCE_RATIO)))

    def least(self, is_sampled: bool) -> int:
        """Return the minimum vectors of a window that is measured.

        A sample may be half as large as the window, however many vectors there are.
        """
        least: int = self.settings.min_vectors
        return min(least, max(2, int(SPARSE * self.capacity))) if is_sampled else least


class Stream:
    """The vectors of a model that are sampled at one level: a ring of them, and their parts.

    Parameters
    ----------
    level : int
        See `sampling`.
    dimension, capacity : int
        See `Ring`.
    detector : Detector or None
        Without one, there are no parts.
    zone : ZoneInfo
        See `Segments`.
    """

    def __init__(
        self, level: int, dimension: int, capacity: int, detector: Detector | None, zone: ZoneInfo
    ) -> None:
        self.level = level
        self.ring = Ring(dimension, capacity)
        self.segments = None if detector is None else Segments(detector, self.ring.recall, zone)

    def append(self, arrivals: Arrivals) -> None:
        """Add the newest vectors, all of them in the sample."""
        self.ring.append(arrivals)
        if self.segments is not None:
            for at in range(0, len(arrivals), _PART):
                part = slice(at, at + _PART)
                self.segments.append(arrivals.vectors[part], arrivals.times[part])

    def tidy(self, firsts: Collection[int]) -> None:
        """Drop the parts before all windows, which begin at these positions; join small ones."""
        if self.segments is not None:
            self.segments.forget(min(firsts))
            for position in {*firsts, self.ring.end}:
                self.segments.compact(position)


class Source(Protocol):
    """What windows are read from: the stored vectors of one model, up to the newest."""

    def first_seq(self, seconds: float) -> int:
        """Return the number of the first vector of the last seconds."""

    def read(self, after: int, seconds: float, level: int) -> Arrivals:
        """Read the vectors after a number, of the last seconds, in the sample of a level."""


class View(NamedTuple):
    """A window, and the stream that it is a part of."""

    stream: Stream
    window: Window


class _Span(NamedTuple):
    """The number of the first vector of a window, and the level of its sample."""

    first: int
    level: int


class ModelWindows:
    """The windows of one model, measured against one detector.

    One thread changes them; scrapes read. Every access to a window holds ``lock``.

    Parameters
    ----------
    dimension : int
    settings : MonitoringSettings
    detector : Detector or None
        Without one, the windows are as large as the first baseline will allow.
    seen_seq : int
        Number of the vector after which they begin. A window holds no vector that the detector was
        fitted to.
    zone : ZoneInfo
        The detector's times are local times of this zone.

    Attributes
    ----------
    limits : mapping of str to Limits
        By name of the window.
    views : mapping of str to View
        By name of the window; replaced as a whole. Windows that hold everything in their span
        share one stream.
    capacity : int
        Maximum vectors of the larger window.
    seconds : float
        Age at which a vector has left all windows.
    start_seq : int
        Number of the vector after which they begin.
    seen_seq : int
        Number of the newest vector seen; set by the thread that appends.
    seen_at : float or None
        When that vector was stored, in seconds since the epoch; None if it may have expired.
    """

    def __init__(
        self,
        dimension: int,
        settings: MonitoringSettings,
        detector: Detector | None = None,
        seen_seq: int = 0,
        zone: ZoneInfo = time_zone.UTC,
    ) -> None:
        n_reference = settings.baseline.vectors if detector is None else detector.n_reference
        self._dimension = dimension
        self.detector = detector
        self._zone = zone
        self.limits = {name: Limits.of(window, n_reference) for name, window in settings.windows}
        self.capacity = self._capacity(self.limits)
        self.seconds = max(limit.settings.seconds for limit in self.limits.values())
        self.start_seq = self.seen_seq = seen_seq
        self.seen_at: float | None = None
        self._now = math.inf
        self.lock = threading.Lock()
        stream = self._stream(0, self.limits)
        self.views: Mapping[str, View] = MappingProxyType(
            {name: View(stream, Window(stream.segments)) for name in self.limits}
        )

    @property
    def level(self) -> int:
        """Lowest level of all windows. New vectors are needed if they are in its sample."""
        return min(stream.level for stream, _ in self.views.values())

    @property
    def sparse(self) -> list[str]:
        """The windows that sample so little of their span that they have room for a lower level."""
        return [
            name
            for name, (stream, window) in self.views.items()
            if stream.level and len(window) < SPARSE * self.limits[name].capacity
        ]

    def follow(self, source: Source, last_seq: int, now: float) -> None:
        """Read what is new, up to a number, and remove what is too old.

        Parameters
        ----------
        source : Source
        last_seq : int
            Number of its newest vector.
        now : float
            Seconds since the epoch. Of vectors from later, the clock was ahead.
        """
        self._now = now
        if (last_seq - self.seen_seq) * sampled_ratio(self.level) > self.capacity:
            self._load(source, self._spans(source, last_seq, self))
        elif last_seq > self.seen_seq:
            self.append(source.read(self.seen_seq, self.seconds, self.level))
        # A replica may be behind the baseline.
        self.seen_seq = max(self.seen_seq, last_seq)
        self.advance(now)
        # By chance, a sample of very few may be sparse at the lowest level that its span allows.
        spans = self._spans(source, last_seq, self.sparse)
        levels = {name: stream.level for name, (stream, _) in self.views.items()}
        lower = {name: span for name, span in spans.items() if span.level < levels[name]}
        if any(not span.level for span in lower.values()):
            # Windows that hold everything share one stream again.
            complete = [name for name, level in levels.items() if not level]
            spans = self._spans(source, last_seq, complete)
            lower |= {name: span for name, span in spans.items() if not span.level}
        self._load(source, lower)

    def _spans(self, source: Source, last_seq: int, names: Iterable[str]) -> dict[str, _Span]:
        """Return where windows begin, and the lowest level at which each may hold its span."""
        spans = {}
        for name in names:
            settings, capacity = self.limits[name]
            first = max(source.first_seq(settings.seconds), self.start_seq + 1)
            spans[name] = _Span(first, level_for(last_seq - first + 1, capacity))
        return spans

    def _load(self, source: Source, spans: Mapping[str, _Span]) -> None:
        """Fill windows anew."""
        for lowest in {span.level for span in spans.values()}:
            names = [name for name, span in spans.items() if span.level == lowest]
            level = lowest
            after = min(spans[name].first for name in names) - 1
            seconds = max(self.limits[name].settings.seconds for name in names)
            arrivals = source.read(after, seconds, level)
            # By chance, a sample may be larger than its share.
            while len(arrivals) > self._capacity(names):
                level += 1
                arrivals = arrivals.sampled(level)
            self.fill(level, names, arrivals)

    def fill(self, level: int, names: Collection[str], arrivals: Arrivals) -> None:
        """Let windows hold the sample of a level from now on.

        Parameters
        ----------
        level : int
        names : collection of str
        arrivals : Arrivals
            The sample of this level, over the span of the longest of these windows.
        """
        stream = self._stream(level, names)
        # Outside the lock: packing thousands of vectors takes a tenth of a second.
        for at in range(0, len(arrivals), _CHUNK):
            stream.append(arrivals.part(slice(at, at + _CHUNK)))
        filled = {name: View(stream, Window(stream.segments)) for name in names}
        for name, (_, window) in filled.items():
            window.move(self._oldest(name, stream, arrivals), stream.ring.end)
        with self.lock:
            self.views = MappingProxyType({**self.views, **filled})

    def append(self, arrivals: Arrivals) -> None:
        """Add the newest vectors of the model, all that are in the sample of `level`."""
        for at in range(0, len(arrivals), _CHUNK):
            if at:
                # Without a pause, this thread takes the lock again before a waiting scrape wakes.
                time.sleep(_PAUSE_SECONDS)
            part = arrivals.part(slice(at, at + _CHUNK))
            self.advance(min(float(part.times[-1]), self._now))
            self._make_room(part)
            with self.lock:
                self._append(part)

    def _make_room(self, arrivals: Arrivals) -> None:
        """Raise the level of each window that would hold too many vectors."""
        for name, limit in self.limits.items():
            stream, window = self.views[name]
            new, level = arrivals.within(limit.settings.seconds, self._now), stream.level
            if len(window) + len(new.sampled(level)) <= limit.capacity:
                continue
            held = self.arrivals(name)
            while len(held.sampled(level)) + len(new.sampled(level)) > limit.capacity:
                level += 1
            self.fill(level, [name], held.sampled(level))
            self._shrink(stream, limit.capacity)

    def _shrink(self, stream: Stream, capacity: int) -> None:
        """Let the windows that are left in a stream keep no more than they may hold.

        A window of a capacity has left it.
        """
        windows = {name: window for name, (its, window) in self.views.items() if its is stream}
        if windows and self._capacity(windows) < capacity:
            longest = max(windows, key=lambda name: len(windows[name]))
            self.fill(stream.level, windows, self.arrivals(longest))

    def _append(self, arrivals: Arrivals) -> None:
        for stream, names in self._streams():
            seconds = max(self.limits[name].settings.seconds for name in names)
            stream.append(arrivals.within(seconds, self._now).sampled(stream.level))
            for name in names:
                window = self.views[name].window
                first = max(window.first, self._oldest(name, stream, arrivals))
                window.move(first, stream.ring.end)
            self._tidy(stream, names)

    def advance(self, now: float) -> None:
        """Remove vectors that are too old at ``now``, in seconds since the epoch."""
        with self.lock:
            for stream, names in self._streams():
                for name in names:
                    window = self.views[name].window
                    oldest = stream.ring.after(now - self.limits[name].settings.seconds)
                    window.move(min(max(window.first, oldest), window.last), window.last)
                self._tidy(stream, names)

    def start(self, name: str) -> float | None:
        """Return when the oldest vector of a window was stored; None for an empty window."""
        stream, window = self.views[name]
        return stream.ring.time(window.first) if len(window) else None

    def arrivals(self, name: str) -> Arrivals:
        """Copy the vectors of a window, oldest first.

        Any thread but the one that changes the windows holds ``lock``.
        """
        stream, window = self.views[name]
        return stream.ring.recall(window.first, window.last)

    def revised_cosines(self, name: str) -> Vectors:
        """Copy the cosines of the revisions in a window; the caller holds ``lock``."""
        stream, window = self.views[name]
        cosines = stream.ring.cosines(window.first, window.last)
        return cosines[~np.isnan(cosines)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.limits)

    def _stream(self, level: int, names: Collection[str]) -> Stream:
        capacity = self._capacity(names)
        return Stream(level, self._dimension, capacity, self.detector, self._zone)

    def _capacity(self, names: Collection[str]) -> int:
        return max(self.limits[name].capacity for name in names)

    def _streams(self) -> Iterator[tuple[Stream, list[str]]]:
        """Yield each stream with the names of its windows."""
        names: dict[Stream, list[str]] = {}
        for name, (stream, _) in self.views.items():
            names.setdefault(stream, []).append(name)
        yield from names.items()

    def _oldest(self, name: str, stream: Stream, arrivals: Arrivals) -> int:
        """Return the position at which a window begins whose newest vectors these are."""
        if not len(arrivals):
            return stream.ring.end
        newest = min(float(arrivals.times[-1]), self._now)
        return stream.ring.after(newest - self.limits[name].settings.seconds)

    def _tidy(self, stream: Stream, names: Collection[str]) -> None:
        stream.tidy([self.views[name].window.first for name in names])
