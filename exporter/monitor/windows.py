"""Cached windows: one ring of a model's newest vectors, and running sums over its windows.

A window costs work when vectors enter and leave, never when it is looked at.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from exporter.detector.detector import Detector, Sums
from ingest.runtime.settings.settings import MonitoringSettings, WindowSettings

_CHUNK = 512
"""Vectors added at a time: bounds how long a scrape waits for the lock."""
_PAUSE_SECONDS = 0.0005

REFERENCE_RATIO = 5
"""A reference of n vectors calibrates windows of at most n / 5."""


def capacity(settings: WindowSettings, n_reference: int) -> int:
    """Tell how many vectors a window holds at the most, against a baseline of so many."""
    return min(settings.max_vectors, max(2, n_reference // REFERENCE_RATIO))


class Ring:
    """The newest vectors of a model, addressed by position: 0 for the first ever appended.

    Parameters
    ----------
    dimension : int
    capacity : int
        Vectors kept; memory grows with what is stored, up to this.
    """

    def __init__(self, dimension: int, capacity: int) -> None:
        self.dimension = dimension
        self._capacity = capacity
        self._vectors = np.empty((0, dimension), np.float32)
        self._times = np.empty(0, np.float64)
        self.end = 0

    @property
    def start(self) -> int:
        """Position of the oldest vector kept."""
        return max(0, self.end - self._capacity)

    def append(self, vectors: NDArray[np.float32], times: NDArray[np.float64]) -> None:
        """Add m vectors, shape (m, d), stored at the given times, shape (m,)."""
        self._grow(min(self._capacity, self.end + len(vectors)))
        slots = np.arange(self.end, self.end + len(vectors)) % self._capacity
        self._vectors[slots] = vectors
        self._times[slots] = times
        self.end += len(vectors)

    def _grow(self, size: int) -> None:
        if size > len(self._times):
            # Before the ring is full, slot and position are the same: resizing keeps both.
            room = min(self._capacity, max(size, 2 * len(self._times)))
            self._vectors = np.concatenate(
                (
                    self._vectors,
                    np.empty((room - len(self._vectors), *self._vectors.shape[1:]), "f4"),
                )
            )
            self._times = np.concatenate((self._times, np.empty(room - len(self._times))))

    def chunks(self, first: int, last: int) -> Iterator[NDArray[np.float32]]:
        """Give the vectors at positions first <= p < last, oldest first, a few at a time."""
        while first < last:
            slot = first % self._capacity
            size = min(last - first, self._capacity - slot, _CHUNK)
            yield self._vectors[slot : slot + size]
            first += size

    def time(self, position: int) -> float:
        """Tell when the vector at a position was stored, in seconds since the epoch."""
        return float(self._times[position % self._capacity])

    def after(self, horizon: float) -> int:
        """Position of the oldest vector stored later than ``horizon``."""
        low, high = self.start, self.end
        while low < high:
            middle = (low + high) // 2
            if self.time(middle) > horizon:
                high = middle
            else:
                low = middle + 1
        return low


class Window:
    """One sliding window over a ring: the newest vectors, limited in time and number.

    Parameters
    ----------
    settings : WindowSettings
    ring : Ring
        Empty; with room for as many vectors.
    capacity : int
        Vectors it holds at the most.
    sums : Sums or None
        Where its vectors are summed; None while the model has no detector.

    Attributes
    ----------
    start : int
        Position of its oldest vector.
    generation : int
        Changes whenever the window does.
    """

    def __init__(
        self, settings: WindowSettings, ring: Ring, capacity: int, sums: Sums | None
    ) -> None:
        self.settings = settings
        self._ring = ring
        self.capacity = capacity
        self.sums = sums
        self.start = 0
        self.generation = 0

    def __len__(self) -> int:
        return self._ring.end - self.start

    @property
    def middle(self) -> float | None:
        """Time halfway between its oldest and its newest vector, in seconds since the epoch."""
        if not len(self):
            return None
        return (self._ring.time(self.start) + self._ring.time(self._ring.end - 1)) / 2

    def make_room(self, incoming: int) -> None:
        """Drop the oldest so that this many more fit; call before they enter the ring."""
        self._drop_before(self._ring.end + incoming - self.capacity)

    def enter(self, first: int, sums: Sums | None = None) -> None:
        """Take in the ring's vectors from a position to its end.

        ``sums`` are those vectors' sums, when they are known: merging costs a fraction of
        adding.
        """
        self.start = max(self.start, self._ring.end - self.capacity)
        self.generation += 1
        if self.sums is None:
            return
        if sums is not None and self.start <= first:
            self.sums.merge(sums)
            return
        for chunk in self._ring.chunks(max(first, self.start), self._ring.end):
            self.sums.add(chunk)

    def advance(self, now: float) -> None:
        """Drop what is older than the window is long."""
        self._drop_before(self._ring.after(now - self.settings.seconds))

    def _drop_before(self, position: int) -> None:
        position = min(position, self._ring.end)
        if position <= self.start:
            return
        if self.sums is not None:
            for chunk in self._ring.chunks(self.start, position):
                self.sums.remove(chunk)
        self.start = position
        self.generation += 1


class ModelWindows:
    """The windows of one model over one ring, measured against one detector.

    One thread appends and advances; scrapes read. Whoever touches a window holds ``lock``.

    Parameters
    ----------
    dimension : int
    settings : MonitoringSettings
    detector : Detector or None
        Without one the windows are as large as the first baseline will allow.
    seen_seq : int
        Number of the vector after which they begin: what a detector was fitted to says nothing
        about drift.

    Attributes
    ----------
    capacity : int
        Vectors that the larger window holds at the most: the ring keeps no more.
    seconds : float
        Age at which a vector has left both.
    seen_seq : int
        Number of the newest vector seen; whoever appends says so.
    """

    def __init__(
        self,
        dimension: int,
        settings: MonitoringSettings,
        detector: Detector | None = None,
        seen_seq: int = 0,
    ) -> None:
        limits = dict(settings.windows)
        n_reference = settings.baseline.vectors if detector is None else detector.n_reference
        capacities = {name: capacity(window, n_reference) for name, window in limits.items()}
        self.capacity = max(capacities.values())
        self.seconds = max(window.seconds for window in limits.values())
        self.ring = Ring(dimension, self.capacity)
        self.windows = {
            name: Window(
                window, self.ring, capacities[name], None if detector is None else detector.sums()
            )
            for name, window in limits.items()
        }
        self.detector = detector
        self.seen_seq = seen_seq
        self.lock = threading.Lock()

    def append(self, vectors: NDArray[np.float32], times: NDArray[np.float64]) -> None:
        """Add the newest vectors, shape (m, d), stored at the given times, shape (m,)."""
        vectors, times = vectors[-self.capacity :], times[-self.capacity :]
        for at in range(0, len(vectors), _CHUNK):
            with self.lock:
                self._append(vectors[at : at + _CHUNK], times[at : at + _CHUNK])
            # Otherwise the lock would be taken again before a scrape that waits for it wakes up.
            time.sleep(_PAUSE_SECONDS)

    def _append(self, vectors: NDArray[np.float32], times: NDArray[np.float64]) -> None:
        for window in self.windows.values():
            window.make_room(len(vectors))
        first = self.ring.end
        self.ring.append(vectors, times)
        # Summed once for all windows.
        sums = None if self.detector is None else self.detector.sums(vectors)
        for window in self.windows.values():
            window.enter(first, sums)

    def vectors(self, name: str) -> NDArray[np.float32]:
        """Copy the vectors of a window, shape (n, d), oldest first."""
        with self.lock:
            chunks = self.ring.chunks(self.windows[name].start, self.ring.end)
            return np.concatenate([np.empty((0, self.ring.dimension), np.float32), *chunks])

    def advance(self, now: float) -> None:
        """Let vectors leave that are too old at ``now``, in seconds since the epoch."""
        with self.lock:
            for window in self.windows.values():
                window.advance(now)
