"""A monitored model: what the store says of it, its baseline, its windows and verdicts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from exporter.baseline import Baseline
from exporter.exact import Exact, compare
from exporter.quality import Quality, assess
from exporter.seasonal import History
from exporter.verdict import Circumstances, Measurement, Verdict, measure, state
from exporter.windows import ModelWindows, Window
from ingest.runtime.settings import MonitoringSettings
from ingest.store.tail import ModelRow


class Model:
    """One model.

    The tail's thread replaces ``row`` and ``baseline``, the check's ``quality``, ``exact`` and
    ``history``: whole values that scrapes read without a lock; the windows have their own.
    """

    def __init__(self, row: ModelRow, settings: MonitoringSettings) -> None:
        self.row = row
        self.baseline: Baseline | None = None
        self.windows = ModelWindows(row.dimension, settings.windows)
        self.seen_seq = 0
        self.settings = settings
        self.quality: Mapping[str, Quality] = MappingProxyType({})
        self.exact: Mapping[str, Exact] = MappingProxyType({})
        self.history: Mapping[str, History] = MappingProxyType({})
        self._measured: dict[str, tuple[int, Measurement]] = {}

    def adopt(self, baseline: Baseline, now: float) -> None:
        """Measure what came after this baseline against it from now on."""
        self.windows.rebase(baseline.detector, now, self.seen_seq - baseline.last_seq)
        self.baseline = baseline
        self.exact = MappingProxyType({})
        self.history = dict.fromkeys(self.windows.windows, History("too_short"))

    def assess(self) -> None:
        """Assess the vectors of each window that has enough; costs more than a scrape may."""
        found = {}
        for name, window in self.windows.windows.items():
            vectors = self.windows.vectors(name)
            if len(vectors) >= window.settings.min_vectors:
                found[name] = assess(vectors)
        self.quality = MappingProxyType(found)

    def forget(self) -> None:
        """Take back what the check said of it: it can say no more."""
        self.quality = MappingProxyType({})
        self.exact = MappingProxyType({})
        self.history = MappingProxyType({})

    def compare(self, reference: NDArray[np.float32], measured: Mapping[str, Measurement]) -> None:
        """Compare exactly, in each window measured, the dimensions that moved furthest.

        ``reference`` are the baseline's vectors, shape (n, d).
        """
        found = {}
        for name, measurement in measured.items():
            vectors = self.windows.vectors(name)
            if len(vectors):
                top = [moved.dimension for moved in measurement.top_dimensions]
                found[name] = compare(reference, vectors, top)
        self.exact = MappingProxyType(found)

    def verdict(self, window_name: str, now: float, deadline: float = math.inf) -> Verdict:
        """Judge one window.

        Parameters
        ----------
        window_name : str
        now : float
            Seconds since the epoch, by the store's clock.
        deadline : float
            By ``time.monotonic``; past it, the last measurement has to do.
        """
        with self.windows.lock:
            window = self.windows.windows[window_name]
            said = state(
                len(window),
                window.settings.min_vectors,
                self.windows.detector,
                self._circumstances(now),
            )
            generation, measurement = self._measured.get(window_name, (-1, None))
            overdue = False
            if said != "ok":
                measurement = None
            elif generation != window.generation:
                overdue = time.monotonic() > deadline
                measurement = measurement if overdue else self._measure(window_name, window)
            return Verdict(
                state=said,
                vectors=len(window),
                start=self.windows.ring.time(window.start) if len(window) else None,
                measurement=measurement,
                is_overdue=overdue,
            )

    def _circumstances(self, now: float) -> Circumstances:
        received, mismatched = self.row.last_received_at, self.row.mismatched_at
        return Circumstances(
            now=now,
            last_received_at=None if received is None else received.timestamp(),
            mismatched_at=None if mismatched is None else mismatched.timestamp(),
            stale_after=self.settings.stale_after,
        )

    def _measure(self, window_name: str, window: Window) -> Measurement:
        assert self.windows.detector is not None
        assert window.sums is not None
        measurement = measure(self.windows.detector, window.sums, window.middle)
        self._measured[window_name] = (window.generation, measurement)
        return measurement


class Models:
    """All monitored models, and the store's clock.

    Parameters
    ----------
    monotonic : callable
        A clock that never steps; carries the store's time on between polls.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._offset = 0.0
        self.by_name: Mapping[str, Model] = MappingProxyType({})

    def add(self, model: Model) -> None:
        """Add a model; scrapes under way keep the mapping they began with."""
        self.by_name = MappingProxyType({**self.by_name, model.row.model_name: model})

    def verdicts(self, deadline: float = math.inf) -> Iterator[tuple[str, str, Verdict]]:
        """Judge every window of every model: (model name, window name, verdict)."""
        now = self.now()
        for model_name, model in self.by_name.items():
            for window_name in model.windows.windows:
                yield model_name, window_name, model.verdict(window_name, now, deadline)

    def set_clock(self, now: float) -> None:
        """Take over the store's time, in seconds since the epoch."""
        self._offset = now - self._monotonic()

    def now(self) -> float:
        """Tell the store's time."""
        return self._offset + self._monotonic()
