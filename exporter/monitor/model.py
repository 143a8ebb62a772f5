"""A monitored model: its row in the store, its baseline, its windows and findings."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from exporter.detector import Detector
from exporter.monitor.baseline import Baseline
from exporter.monitor.following import Following, Ledger
from exporter.monitor.forecast import Forecast
from exporter.monitor.maturing import Maturing
from exporter.monitor.rise import Rise
from exporter.monitor.series import Series
from exporter.monitor.slices import SliceFinding, Slicing
from exporter.monitor.snapshot import Findings, Magnitude, ModelSnapshot, SeriesSnapshot
from exporter.monitor.states import State
from exporter.monitor.verdict import (
    Circumstances,
    Measurement,
    Revisions,
    Verdict,
    judge_state,
    judge_vectors,
    measure,
)
from exporter.monitor.windows import Limits, ModelWindows
from ingest.runtime.settings.settings import MonitoringSettings
from ingest.store.changes import ModelRow, sampled_ratio
from ingest.store.explanations import ExplanationRow

_log = logging.getLogger(__name__)


_CHECKS_MISSED = 3
"""Intervals between checks after which a magnitude is too old: the checks fail, or hang."""


class Standing:
    """A model's windows, findings and measurements for one baseline, or without one.

    Replaced as a whole when another baseline is adopted, so that no number that was measured
    against one baseline is ever shown together with another. The examiner's thread replaces
    ``findings`` as a whole; scrapes read them without a lock. The windows have their own lock.

    Attributes
    ----------
    baseline : Baseline or None
    windows : ModelWindows
    findings : mapping of str to Findings
        By name of the window.
    explained : mapping of Series to ExplanationRow
        What changed in the windows that drift, and in slices of them. The explainer's thread
        replaces it as a whole.
    examined_at : dict of str to float
        When each examination last succeeded, by a clock that never steps; kept by the examiner.
    slicing : Slicing or None
        The slices of the baseline; None until the thread that fits them sets it.
    """

    def __init__(self, baseline: Baseline | None, windows: ModelWindows) -> None:
        self.baseline = baseline
        self.windows = windows
        # A new baseline begins a new history.
        forecast = None if baseline is None else Forecast("too_short")
        self.findings: Mapping[str, Findings] = MappingProxyType(
            dict.fromkeys(windows, Findings(forecast=forecast))
        )
        self.explained: Mapping[Series, ExplanationRow] = MappingProxyType({})
        self.examined_at: dict[str, float] = {}
        self.slicing: Slicing | None = None
        self._measured: dict[str, tuple[int, Measurement]] = {}
        self._revised: dict[str, tuple[int, Revisions]] = {}

    def attach(self, examination: str, found: Mapping[str, Any]) -> None:
        """Replace what an examination found out about each window; by name of the window."""
        self.findings = MappingProxyType(
            {
                name: replace(findings, **{examination: found.get(name)})
                for name, findings in self.findings.items()
            }
        )

    def snapshot(
        self,
        row: ModelRow,
        following: Following,
        circumstances: Circumstances,
        maturing: Maturing | None,
        slice_keys: tuple[str, ...],
        deadline: float = math.inf,
        with_vectors: bool = False,
    ) -> ModelSnapshot:
        """Judge all windows at one moment; see :meth:`Model.snapshot`.

        Of slices, only those of ``slice_keys`` are shown: their values are public.
        """
        explained = self.explained
        findings = {
            name: _allowed(_current(found, circumstances), slice_keys)
            for name, found in self.findings.items()
        }
        with self.windows.lock:
            verdicts = {name: self._verdict(name, circumstances, deadline) for name in self.windows}
            series = tuple(
                SeriesSnapshot(
                    Series(row.model_name, name),
                    self.windows.limits[name],
                    verdict,
                    _about(findings[name], verdict),
                    self._revisions(name),
                    explained.get(Series(row.model_name, name)),
                    self.windows.arrivals(name) if with_vectors else None,
                )
                for name, verdict in verdicts.items()
            )
        slices = tuple(
            self._slice(
                Series(row.model_name, name, each.slice.name),
                each,
                found.slices.computed_at,
                found.rise,
                circumstances,
                explained,
            )
            for name, found in findings.items()
            if found.slices is not None
            for each in found.slices.slices
        )
        return ModelSnapshot(
            row,
            self.baseline,
            series,
            circumstances.now,
            following,
            circumstances.not_followed,
            maturing,
            self.slicing,
            slices,
            slice_keys,
        )

    def _slice(
        self,
        series: Series,
        found: SliceFinding,
        computed_at: float,
        risen: Rise | None,
        circumstances: Circumstances,
        explained: Mapping[Series, ExplanationRow],
    ) -> SeriesSnapshot:
        """Judge a slice of a window by what the last examinations found."""
        detector = found.slice.detector
        limits = Limits.of(self.windows.limits[series.window].settings, detector.n_reference)
        circumstances = replace(
            circumstances,
            last_received_at=found.received_at or circumstances.last_received_at,
            baseline_varies=found.slice.varies,
        )
        state, measured = _states(found.vectors, limits, found.is_sampled, detector, circumstances)
        shown = measured == "ok"
        verdict = Verdict(
            state=state,
            vectors=found.vectors,
            start=found.start,
            sampled_ratio=found.sampled_ratio,
            measurement=found.measurement if shown else None,
            baseline_version=None if self.baseline is None else self.baseline.version,
        )
        magnitude = (
            Magnitude(found.changed, computed_at) if shown and found.changed is not None else None
        )
        return SeriesSnapshot(
            series,
            limits,
            verdict,
            Findings(magnitude=magnitude, rise=risen if shown else None),
            Revisions(0, None),
            explained.get(series),
        )

    def _verdict(self, name: str, circumstances: Circumstances, deadline: float) -> Verdict:
        stream, window = self.windows.views[name]
        vectors, limits, detector = len(window), self.windows.limits[name], self.windows.detector
        state, measured = _states(vectors, limits, stream.level > 0, detector, circumstances)
        measurement, is_overdue = self._measurement(name, measured, deadline)
        return Verdict(
            state=state,
            vectors=vectors,
            start=self.windows.start(name),
            sampled_ratio=sampled_ratio(stream.level),
            measurement=measurement,
            baseline_version=None if self.baseline is None else self.baseline.version,
            is_overdue=is_overdue,
        )

    def _measurement(
        self, name: str, state: State, deadline: float
    ) -> tuple[Measurement | None, bool]:
        """Return the measurement to show, and whether there was no time for a new one."""
        if state != "ok":
            return None, False
        window, detector = self.windows.views[name].window, self.windows.detector
        assert detector is not None
        assert window.sums is not None
        generation, measurement = self._measured.get(name, (-1, None))
        if generation == window.generation:
            return measurement, False
        if time.monotonic() > deadline:
            return measurement, True
        measurement = measure(detector, window.sums)
        self._measured[name] = (window.generation, measurement)
        return measurement, False

    def _revisions(self, name: str) -> Revisions:
        generation = self.windows.views[name].window.generation
        known = self._revised.get(name)
        if known is None or known[0] != generation:
            found = Revisions.of(self.windows.revised_cosines(name))
            self._revised[name] = known = generation, found
        return known[1]


def _states(
    vectors: int,
    limits: Limits,
    is_sampled: bool,
    detector: Detector | None,
    circumstances: Circumstances,
) -> tuple[State, State]:
    """Return the state of a window, and that of the vectors of its known dimension."""
    state = judge_state(vectors, limits, is_sampled, detector, circumstances)
    if state == "dimension_changed":
        # They are measured still.
        return state, judge_vectors(vectors, limits.least(is_sampled), circumstances)
    return state, state


def _current(findings: Findings, circumstances: Circumstances) -> Findings:
    """Leave out what is too old."""
    old = {
        name: None
        for name in ("magnitude", "rise", "slices")
        if (found := getattr(findings, name)) is not None
        and found.computed_at < circumstances.examined_since
    }
    return replace(findings, **old) if old else findings


def _allowed(findings: Findings, slice_keys: Sequence[str]) -> Findings:
    """Leave out the values of keys that were configured when the slices were measured."""
    found = findings.slices
    return findings if found is None else replace(findings, slices=found.of_keys(slice_keys))


def _about(findings: Findings, verdict: Verdict) -> Findings:
    """Leave out what does not belong to a verdict without a measurement."""
    if verdict.measurement is None and (findings.magnitude or findings.rise):
        return replace(findings, magnitude=None, rise=None)
    return findings


class Model:
    """One model.

    The tail's thread replaces ``row``, ``standing`` and ``ledger.following`` as a whole; scrapes
    read them without a lock.

    Attributes
    ----------
    maturing : Maturing or None
        What comes next for the baseline; None while that is not known, or if nothing does. The
        thread that pins baselines replaces it.
    """

    def __init__(self, row: ModelRow, settings: MonitoringSettings) -> None:
        self.row = row
        self.settings = settings
        self.ledger = Ledger(row.now.timestamp())
        self.standing = Standing(None, ModelWindows(row.dimension, settings))
        self.maturing: Maturing | None = None

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
        self.maturing = None

    def snapshot(
        self, now: float, deadline: float = math.inf, with_vectors: bool = False
    ) -> ModelSnapshot:
        """Judge all windows at one moment.

        Parameters
        ----------
        now : float
            Seconds since the epoch, by the clock of the store.
        deadline : float
            By ``time.monotonic``; after it, the last measurement of a window is used.
        with_vectors : bool
            Whether to copy the vectors of each window, too.
        """
        return self.judge(self.standing, now, deadline, with_vectors)

    def judge(
        self,
        standing: Standing,
        now: float,
        deadline: float = math.inf,
        with_vectors: bool = False,
    ) -> ModelSnapshot:
        """Do the same against a standing that may have been replaced since."""
        row, following = self.row, self.ledger.following
        circumstances = self._circumstances(row, following, standing.baseline, now)
        return standing.snapshot(
            row,
            following,
            circumstances,
            self.maturing,
            self.settings.slices_of(row.model_name),
            deadline,
            with_vectors,
        )

    def _circumstances(
        self, row: ModelRow, following: Following, baseline: Baseline | None, now: float
    ) -> Circumstances:
        received = row.last_received_at
        return Circumstances(
            now=now,
            last_received_at=None if received is None else received.timestamp(),
            has_mismatch=row.mismatch is not None,
            stale_after=self.settings.stale_after_of(row.model_name),
            examined_since=now - _CHECKS_MISSED * self.settings.check_interval,
            not_followed=following.trouble(now),
            baseline_varies=baseline is None or baseline.varies,
        )


class Models:
    """All monitored models, and the store's clock.

    Parameters
    ----------
    monotonic : callable
        A clock that never steps; carries the store's time on between polls.

    Attributes
    ----------
    by_name : mapping of str to Model
        Replaced as a whole; a scrape under way keeps the mapping it began with.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._offset = 0.0
        self._failing: dict[str, str] = {}
        self.by_name: Mapping[str, Model] = MappingProxyType({})

    @property
    def watched(self) -> int:
        """Models and slices that have a score now; see `ModelSnapshot`."""
        return sum(each.watched for each in self.snapshots())

    def add(self, model: Model) -> None:
        """Add a model, or replace the one of its name."""
        self.by_name = MappingProxyType({**self.by_name, model.row.model_name: model})

    def remove(self, model_name: str) -> None:
        """Forget a model."""
        left = {name: model for name, model in self.by_name.items() if name != model_name}
        self.by_name = MappingProxyType(left)
        self._failing.pop(model_name, None)

    def snapshots(
        self, deadline: float = math.inf, by_name: Mapping[str, Model] | None = None
    ) -> Iterator[ModelSnapshot]:
        """Judge every model. A model that raises is left out and logged; the others go on.

        Parameters
        ----------
        deadline : float
            By ``time.monotonic``; after it, the last measurement of a window is used.
        by_name : mapping of str to Model, optional
            Those to judge, for whoever counts what is left out. By default all at present.
        """
        now = self.now()
        for name, model in (self.by_name if by_name is None else by_name).items():
            try:
                yield model.snapshot(now, deadline)
            except Exception as error:
                self._log_failure(name, error)
            else:
                self._failing.pop(name, None)

    def _log_failure(self, model_name: str, error: Exception) -> None:
        """Log the failure of a model, once until it is judged again or fails in another way."""
        if self._failing.get(model_name) != repr(error):
            self._failing[model_name] = repr(error)
            _log.error("model not judged", exc_info=error, extra={"model_name": model_name})

    def set_clock(self, now: float) -> None:
        """Take over the store's time, in seconds since the epoch."""
        self._offset = now - self._monotonic()

    def now(self) -> float:
        """Return the store's time."""
        return self._offset + self._monotonic()
