"""Cached windows: the newest vectors of a model, and running sums over sliding windows of them.

A window costs work when vectors enter and leave, never when it is read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.monitor.segments import Segments, Window
from exporter.stats.arrays import Floats, Vectors
from ingest.runtime.settings.settings import MonitoringSettings, WindowSettings

_CHUNK = 512
"""Vectors added at a time: bounds how long a scrape waits for the lock."""
_PAUSE_SECONDS = 0.0005

REFERENCE_RATIO = 5
"""A reference of n vectors calibrates windows of at most n / 5."""


class Limits(NamedTuple):
    """What bounds a window: its settings, and the vectors that its baseline calibrates."""

    settings: WindowSettings
    capacity: int

    @classmethod
    def of(cls, settings: WindowSettings, n_reference: int) -> Limits:
        """Limit a window that is measured against a baseline of n vectors."""
        return cls(settings, min(settings.max_vectors, max(2, n_reference // REFERENCE_RATIO)))


class Ring:
    """The newest vectors of a model, addressed by position: 0 for the first ever appended.

    Parameters
    ----------
    dimension : int
    capacity : int
        Vectors kept. Memory grows with the vectors that are there, up to this many.
    """

    def __init__(self, dimension: int, capacity: int) -> None:
        self.dimension = dimension
        self._capacity = capacity
        self._vectors = np.empty((0, dimension), np.float32)
        self._times = np.empty(0, np.float64)
        self._cosines = np.empty(0, np.float32)
        self.end = 0

    @property
    def start(self) -> int:
        """Position of the oldest vector kept."""
        return max(0, self.end - self._capacity)

    def append(self, vectors: Vectors, times: Floats, cosines: Vectors) -> None:
        """Add m vectors, shape (m, d), with their times and `Revisions` cosines, shape (m,)."""
        self._grow(min(self._capacity, self.end + len(vectors)))
        slots = self._slots(self.end, self.end + len(vectors))
        self._vectors[slots] = vectors
        self._times[slots] = times
        self._cosines[slots] = cosines
        self.end += len(vectors)

    def _grow(self, size: int) -> None:
        if size > len(self._times):
            # Before the ring is full, slot and position are the same: resizing keeps both.
            room = min(self._capacity, max(size, 2 * len(self._times)))
            new = np.empty((room - len(self._vectors), self.dimension), np.float32)
            self._vectors = np.concatenate((self._vectors, new))
            self._times = np.concatenate((self._times, np.empty(room - len(self._times))))
            cosines = np.empty(room - len(self._cosines), np.float32)
            self._cosines = np.concatenate((self._cosines, cosines))

    def _slots(self, first: int, last: int) -> NDArray[np.intp]:
        return np.arange(first, last) % self._capacity

    def recall(self, first: int, last: int) -> tuple[Vectors, Floats]:
        """Copy the vectors at positions first <= p < last, and their times."""
        slots = self._slots(first, last)
        return self._vectors[slots], self._times[slots]

    def cosines(self, first: int, last: int) -> Vectors:
        """Copy the cosines of the vectors at positions first <= p < last."""
        return self._cosines[self._slots(first, last)]

    def time(self, position: int) -> float:
        """Return when the vector at a position was stored, in seconds since the epoch."""
        return float(self._times[position % self._capacity])

    def after(self, horizon: float) -> int:
        """Return the position of the oldest vector that was stored later than ``horizon``."""
        low, high = self.start, self.end
        while low < high:
            middle = (low + high) // 2
            if self.time(middle) > horizon:
                high = middle
            else:
                low = middle + 1
        return low


class ModelWindows:
    """The windows of one model over one ring, measured against one detector.

    One thread appends and advances; scrapes read. Every access to a window holds ``lock``.

    Parameters
    ----------
    dimension : int
    settings : MonitoringSettings
    detector : Detector or None
        Without one, the windows are as large as the first baseline will allow.
    seen_seq : int
        Number of the vector after which they begin. A window holds no vector that the detector was
        fitted to.

    Attributes
    ----------
    limits : mapping of str to Limits
        By name of the window.
    windows : mapping of str to Window
    capacity : int
        Maximum vectors of the larger window; also the size of the ring.
    seconds : float
        Age at which a vector has left all windows.
    seen_seq : int
        Number of the newest vector seen; set by the thread that appends.
    seen_at : float or None
        When that vector was stored, in seconds since the epoch; None if it was not read.
    """

    def __init__(
        self,
        dimension: int,
        settings: MonitoringSettings,
        detector: Detector | None = None,
        seen_seq: int = 0,
    ) -> None:
        n_reference = settings.baseline.vectors if detector is None else detector.n_reference
        self.limits = {name: Limits.of(window, n_reference) for name, window in settings.windows}
        self.capacity = max(limit.capacity for limit in self.limits.values())
        self.seconds = max(limit.settings.seconds for limit in self.limits.values())
        self.ring = Ring(dimension, self.capacity)
        self._segments = None if detector is None else Segments(detector, self.ring.recall)
        self.windows = {name: Window(self._segments) for name in self.limits}
        self.detector = detector
        self.seen_seq = seen_seq
        self.seen_at: float | None = None
        self.lock = threading.Lock()

    def append(self, vectors: Vectors, times: Floats, cosines: Vectors | None = None) -> None:
        """Add the newest vectors, shape (m, d), stored at times, shape (m,).

        Parameters
        ----------
        vectors : ndarray of float32, shape (m, d)
        times : ndarray of float64, shape (m,)
            Seconds since the epoch.
        cosines : ndarray of float32, shape (m,), optional
            Cosine of each vector with the one that it revises; NaN where it revises none,
            or where the cosine is not known.
        """
        if cosines is None:
            cosines = np.full(len(vectors), np.nan, np.float32)
        vectors, times = vectors[-self.capacity :], times[-self.capacity :]
        cosines = cosines[-self.capacity :]
        for at in range(0, len(vectors), _CHUNK):
            part = slice(at, at + _CHUNK)
            with self.lock:
                self._append(vectors[part], times[part], cosines[part])
            # Without a pause, this thread takes the lock again before a waiting scrape wakes up.
            time.sleep(_PAUSE_SECONDS)

    def _append(self, vectors: Vectors, times: Floats, cosines: Vectors) -> None:
        last = self.ring.end + len(vectors)
        firsts = {name: last - limit.capacity for name, limit in self.limits.items()}
        # Move the windows first: cutting a part needs vectors that the ring is about to overwrite.
        self._begin(firsts)
        self.ring.append(vectors, times, cosines)
        if self._segments is not None:
            self._segments.append(vectors, times)
        for name, window in self.windows.items():
            window.move(max(window.first, firsts[name]), last)
        if self._segments is not None:
            self._segments.compact()

    def advance(self, now: float) -> None:
        """Remove vectors that are too old at ``now``, in seconds since the epoch."""
        with self.lock:
            self._begin(
                {
                    name: self.ring.after(now - limit.settings.seconds)
                    for name, limit in self.limits.items()
                }
            )

    def _begin(self, firsts: dict[str, int]) -> None:
        """Remove the vectors before a position from each window."""
        for name, window in self.windows.items():
            window.move(min(max(window.first, firsts[name]), window.last), window.last)
        if self._segments is not None:
            self._segments.forget(min(window.first for window in self.windows.values()))

    def start(self, name: str) -> float | None:
        """Return when the oldest vector of a window was stored; None for an empty window."""
        window = self.windows[name]
        return self.ring.time(window.first) if len(window) else None

    def revised_cosines(self, name: str) -> Vectors:
        """Copy the cosines of the revisions in a window; the caller holds ``lock``."""
        window = self.windows[name]
        cosines = self.ring.cosines(window.first, window.last)
        return cosines[~np.isnan(cosines)]

    def vectors(self, name: str) -> Vectors:
        """Copy the vectors of a window, shape (n, d), oldest first; the caller holds ``lock``."""
        window = self.windows[name]
        return self.ring.recall(window.first, window.last)[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.windows)
