"""A monitored model: what the store says of it, its baseline, its windows and verdicts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from exporter.detector.exact import Exact, compare
from exporter.monitor.baseline import Baseline
from exporter.monitor.forecast import History
from exporter.monitor.verdict import Circumstances, Measurement, Verdict, measure, state
from exporter.monitor.windows import ModelWindows, Window
from exporter.stats.quality import Quality, assess
from ingest.runtime.settings.settings import MonitoringSettings
from ingest.store.changes import ModelRow


class Standing:
    """How a model stands against one baseline, or without one.

    Replaced whole when another baseline is adopted, so that nothing measured against one is ever
    taken for the other's. The check's thread replaces ``exact`` and ``history``: whole values that
    scrapes read without a lock; the windows have their own.
    """

    def __init__(self, baseline: Baseline | None, windows: ModelWindows) -> None:
        self.baseline = baseline
        self.windows = windows
        self.exact: Mapping[str, Exact] = MappingProxyType({})
        self.history: Mapping[str, History] = MappingProxyType(
            {} if baseline is None else dict.fromkeys(windows.windows, History("too_short"))
        )
        self._measured: dict[str, tuple[int, Measurement]] = {}

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

    def verdict(self, window_name: str, circumstances: Circumstances, deadline: float) -> Verdict:
        """Judge one window; see :meth:`Model.verdict`."""
        with self.windows.lock:
            window = self.windows.windows[window_name]
            said = state(
                len(window), window.settings.min_vectors, self.windows.detector, circumstances
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
                baseline_version=None if self.baseline is None else self.baseline.version,
                is_overdue=overdue,
            )

    def _measure(self, window_name: str, window: Window) -> Measurement:
        assert self.windows.detector is not None
        assert window.sums is not None
        measurement = measure(self.windows.detector, window.sums, window.middle)
        self._measured[window_name] = (window.generation, measurement)
        return measurement


class Model:
    """One model.

    The tail's thread replaces ``row`` and ``standing``, the check's ``quality``: whole values that
    scrapes read without a lock.
    """

    def __init__(self, row: ModelRow, settings: MonitoringSettings) -> None:
        self.row = row
        self.settings = settings
        self.standing = Standing(None, ModelWindows(row.dimension, settings))
        self.quality: Mapping[str, Quality] = MappingProxyType({})

    @property
    def baseline(self) -> Baseline | None:
        """The baseline in use, if there is one."""
        return self.standing.baseline

    @property
    def windows(self) -> ModelWindows:
        """The windows measured against it."""
        return self.standing.windows

    def adopt(self, baseline: Baseline, windows: ModelWindows) -> None:
        """Measure against this baseline from now on, by windows of what came after it."""
        self.standing = Standing(baseline, windows)

    def assess(self) -> None:
        """Assess the vectors of each window that has enough; costs more than a scrape may."""
        windows, found = self.windows, {}
        for name, window in windows.windows.items():
            vectors = windows.vectors(name)
            if len(vectors) >= window.settings.min_vectors:
                found[name] = assess(vectors)
        self.quality = MappingProxyType(found)

    def forget(self) -> None:
        """Take back what the last check said of its vectors: this one could not.

        The history stays: it was judged within the hour, and is judged hourly.
        """
        self.quality = MappingProxyType({})
        self.standing.exact = MappingProxyType({})

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
        return self.standing.verdict(window_name, self._circumstances(now), deadline)

    def _circumstances(self, now: float) -> Circumstances:
        row = self.row
        received, mismatched = row.last_received_at, row.mismatched_at
        return Circumstances(
            now=now,
            last_received_at=None if received is None else received.timestamp(),
            mismatched_at=None if mismatched is None else mismatched.timestamp(),
            stale_after=self.settings.stale_after,
        )


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

    def remove(self, model_name: str) -> None:
        """Forget a model; scrapes under way keep the mapping they began with."""
        left = {name: model for name, model in self.by_name.items() if name != model_name}
        self.by_name = MappingProxyType(left)

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
