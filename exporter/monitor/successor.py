"""The successor of a baseline: made of a day or a week of vectors, and judged before it is used.

A drift that lasts must not become normal. So whatever showed that the span has no drift, two more
things must hold. The new detector finds none in the vectors of the baseline in use, at the hours at
which they arrived. And the detector in use finds none in the new vectors that arrived at those
hours of other days. A season, however strong, passes: it comes back at its hours.

A drift that came and went would pass, too. The scores of the span show such a drift, if the
baseline in use is not one to which every season is drift. Otherwise the successor is made of the
first of two spans in a row. Fitted to each of them, a detector must find no drift in the other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from exporter.detector.waves import known_seasons
from exporter.monitor.baseline import Baseline, Fit, fit, parts
from exporter.monitor.local_time import to_local
from exporter.monitor.maturing import (
    LATER,
    SPANS,
    Maturing,
    Score,
    Wait,
    last_drift,
    measured_ratio,
    plan,
    recent_seconds,
    stage_of,
)
from exporter.monitor.windows import REFERENCE_RATIO
from exporter.stats.arrays import Floats
from exporter.stats.thinning import thinned
from ingest.runtime.errors import FitFailed
from ingest.runtime.settings.settings import MonitoringSettings
from ingest.runtime.thresholds import STEADY, UNLIKE, Stage
from ingest.store.explanations import LastSeen
from ingest.store.history import Average
from ingest.store.selection import Selection

_log = logging.getLogger(__name__)

RETRY_SECONDS = 3_600.0
"""Seconds until what costs a fit, or a look at all vectors of the span, is tried again."""

_MEASURED = 0.9
"""Share of the vectors of a span that its scores must be about."""
_UNLIKE = STEADY["weekly"]["fast"].sudden
"""Score above which vectors are unlike others of their hour."""
_BOTH_UNLIKE = STEADY["weekly"]["slow"].lasting
"""The same for two of several pieces. By chance, two of ten exceed it in 1 of 22,000 cases, and one
of ten exceeds the other in 1 of 10,000."""
_PIECES = 10
"""Parts in which a span is judged: the smaller, the shorter the drift that shows."""
_FEWEST = 50
"""Vectors that are judged together, at least."""
_SCORED_HOURS = 84
"""Hours of the last week that must have scores, for a suggestion: half of them."""
_PERIOD = {"daily": "day", "weekly": "week"}
_FEW_RATIO = 5
"""A weekly baseline may have this many times fewer vectors than a provisional one. It is the last,
and without it a model with few vectors would not be watched for weeks, or only by the thresholds of
a provisional one. A day is too short: with eight users, a day of 1,440 vectors has few sessions, so
other sessions looked new every second day."""


class Past(Protocol):
    """What is stored of one model: its vectors, and what was measured of them.

    Vectors are a structured ndarray, shape (n,), in the order of arrival, with the fields ``seq``,
    ``received_at`` and ``embedding``.
    """

    @property
    def model_name(self) -> str:
        """Name of the model."""

    def scores(self, since: float) -> Sequence[Score]:
        """Return the recorded scores since a time, oldest first."""

    def drift_seen(self) -> LastSeen:
        """Return when the explainer last saw a drift from the baseline in use."""

    def vectors(self, start: float, end: float, most: int) -> NDArray[np.void]:
        """Return the vectors that arrived in a span, or stretches spread evenly over them."""

    def reference(self) -> NDArray[np.void]:
        """Return the vectors of the baseline in use."""


class ScoredPast(Past, Protocol):
    """The same, with the average of what was measured."""

    def average(self, since: float) -> Average | None:
        """Return the average score of the slow window against the baseline in use, if any."""


class _Refused(Exception):
    """The baseline that is due cannot be used."""

    def __init__(self, reason: Wait, detail: str = "") -> None:
        super().__init__(detail)
        self.reason = reason


def succeed(
    found: Baseline,
    past: Past,
    current: Mapping[str, float],
    settings: MonitoringSettings,
    now: float,
) -> tuple[Maturing | None, Fit | None]:
    """Return what comes next for a baseline, and that itself if it is due and has passed.

    Parameters
    ----------
    found : Baseline
        The one in use.
    past : Past
    current : mapping of str to float
        Scores that windows have now, by name.
    settings : MonitoringSettings
    now : float
        Seconds since the epoch.
    """
    attempt = _Attempt(found, past, current, settings, now)
    later = LATER[found.stage]
    planned, successor = attempt.at(later)
    if planned is not None and planned.waits_for == "vectors" and planned.stage != later[0]:
        # There may be enough of a day: vectors expire, or most of them arrived at once.
        planned, successor = attempt.at(later[:1])
    return planned, successor


def suggest(
    found: Baseline,
    past: ScoredPast,
    current: Mapping[str, float],
    now: float,
) -> Maturing | None:
    """Return the suggestion to replace a weekly baseline by the last week; None if there is none.

    It is made if that week had no drift from the baseline, but was a little unlike it all the time.
    For the parameters see `succeed`.
    """
    week = now - SPANS["weekly"]
    if found.pinned_at.timestamp() > week or _drifts(found.stage, current):
        return None
    average = past.average(week)
    if average is None or average.hours < _SCORED_HOURS or average.score <= UNLIKE:
        return None
    if max(last_drift(past.scores(week)), *past.drift_seen()) > week:
        return None
    return Maturing("weekly", now, "person")


def _drifts(stage: Stage, current: Mapping[str, float]) -> bool:
    thresholds = STEADY[stage]
    return any(score > thresholds[window].lasting for window, score in current.items())


@dataclass(frozen=True)
class _Attempt:
    """An attempt to find the successor; for the fields see `succeed`."""

    found: Baseline
    past: Past
    current: Mapping[str, float]
    settings: MonitoringSettings
    now: float

    def at(self, later: Sequence[Stage]) -> tuple[Maturing | None, Fit | None]:
        """Find a successor of one of these stages."""
        first_at = self.found.first_at.timestamp()
        scores, seen = self.past.scores(self.now - max(SPANS.values())), self.past.drift_seen()
        planned = plan(later, first_at, max(last_drift(scores), *seen), self.now)
        if planned is None or planned.waits_for is not None:
            return planned, None
        # Spans are compared where a season looks like drift. A slice that drifts for good goes on.
        passed_at = seen.slices + recent_seconds(self.settings.check_interval)
        if passed_at > self.now:
            return replace(planned, due_at=passed_at, waits_for="drift"), None
        if not planned.compares and _drifts(self.found.stage, self.current):
            # It may pass, or become drift by the rules. The next look will tell.
            return replace(planned, waits_for="drift"), None
        rows = self._vectors(planned)
        if not planned.compares and not self._is_measured(rows["received_at"], scores):
            planned = plan(later, first_at, self.now, self.now)
            assert planned is not None
            if planned.waits_for is not None:
                return replace(planned, due_at=self._later, waits_for="scores"), None
            rows = self._vectors(planned)
        try:
            return planned, self._judged(rows, planned)
        except _Refused as refused:
            self._log(planned, refused)
            return replace(planned, due_at=self._later, waits_for=refused.reason), None

    @property
    def _later(self) -> float:
        return self.now + RETRY_SECONDS

    def _span(self, planned: Maturing) -> tuple[float, float]:
        length = SPANS[planned.stage]
        # Of two spans that are compared, the first: the second is judged by it.
        end = self.now - length if planned.compares else self.now
        return end - length, end

    def _vectors(self, planned: Maturing) -> NDArray[np.void]:
        return self.past.vectors(*self._span(planned), self._most)

    def _more(self, start: float, end: float) -> Iterator[NDArray[np.void]]:
        return (self.past.vectors(*part, self._most) for part in parts(start, end))

    @property
    def _most(self) -> int:
        return self.settings.baseline.mature_vectors

    def _is_measured(self, times: Floats, scores: Sequence[Score]) -> bool:
        """Whether nearly all vectors were measured, but for those of the baseline itself."""
        others = times[times > self.found.last_at.timestamp()]
        if not len(others):
            return True
        seconds = {name: window.seconds for name, window in self.settings.windows}
        return measured_ratio(others, scores, seconds) >= _MEASURED

    def _judged(self, rows: NDArray[np.void], planned: Maturing) -> Fit:
        """Fit a detector to vectors, and let it and the one in use judge others.

        Raises
        ------
        _Refused
            If that is not possible, or they find drift.
        """
        period = SPANS[planned.stage]
        made = self._fitted(rows, planned.stage, self._span(planned))
        _require_alike(made, self.past.reference(), 1, "the baseline in use")
        self._require_same_hours(period)
        if planned.compares:
            # A detector tolerates as much as the hours of its own span differ, so both judge.
            latest = self.now - period, self.now
            newer = self.past.vectors(*latest, self._most)
            second = self._fitted(newer, planned.stage, latest)
            _require_alike(made, newer, _PIECES, "the following span")
            _require_alike(second, rows, _PIECES, "it, by the following span")
        return made

    def _fitted(self, rows: NDArray[np.void], stage: Stage, span: tuple[float, float]) -> Fit:
        if len(rows) < (least := self._least(stage)):
            raise _Refused("vectors", f"{len(rows)} vectors, and {least} are needed")
        # Before the fit, which takes seconds.
        times = to_local(rows["received_at"], self.settings.zone)
        if stage_of(known_seasons(times)) != stage:
            raise _Refused("vectors", f"they do not fill a {_PERIOD[stage]}")
        first, last = (datetime.fromtimestamp(at, UTC) for at in rows["received_at"][[0, -1]])
        source = str(Selection(arrived=(first, last)))
        try:
            made = fit(self.past.model_name, rows, source, self.settings.zone, self._more(*span))
        except (ValueError, FitFailed) as error:
            raise _Refused("unfit", str(error)) from error
        if not made.varies:
            raise _Refused("unfit", "its vectors are equal")
        if made.stage != stage:
            often = "without those that come often, they do not fill"
            raise _Refused("vectors", f"{often} a {_PERIOD[stage]}")
        return made

    def _least(self, stage: Stage) -> int:
        """Return the minimum vectors: no window that is measured now may have too few of them."""
        usual = self.settings.baseline.vectors if stage == "daily" else fewest(self.settings)
        known = self.found.detector.n_reference
        kept = [needed for needed in _needed(self.settings) if needed <= known]
        return max([min(usual, _smallest_sample(self.settings)), *kept])

    def _require_same_hours(self, period: float) -> None:
        """Raise if the baseline in use finds drift at its own hours of the last day or week."""
        first, last = self.found.first_at.timestamp(), self.found.last_at.timestamp()
        later = (self.now - last) // period * period
        if later > 0:
            most = self.found.detector.n_reference
            newer = self.past.vectors(first + later, last + later, most)
            _require_alike(self.found, newer, 1, "newer vectors of its hours")

    def _log(self, planned: Maturing, refused: _Refused) -> None:
        _log.warning(
            "next baseline not pinned",
            extra={
                "model_name": self.past.model_name,
                "stage": planned.stage,
                "reason": refused.reason,
                "detail": str(refused),
            },
        )


def fewest(settings: MonitoringSettings) -> int:
    """Return the minimum vectors of a first baseline that is a weekly one."""
    few = min(settings.baseline.vectors // _FEW_RATIO, _smallest_sample(settings))
    return max([few, *_needed(settings)])


def _smallest_sample(settings: MonitoringSettings) -> int:
    """Return how small a sample of stretches may be, which has as many vectors as it may."""
    return round(0.9 * settings.baseline.mature_vectors)


def _needed(settings: MonitoringSettings) -> list[int]:
    """Return how many vectors of a baseline each window needs to be measured."""
    return [REFERENCE_RATIO * window.min_vectors for _, window in settings.windows]


def _require_alike(judge: Baseline | Fit, rows: NDArray[np.void], pieces: int, which: str) -> None:
    """Raise if a baseline finds drift in vectors, or in more than one of some pieces of them.

    One of several may hold a moment that was unlike all others.
    """
    if len(rows) < _FEWEST:
        return
    detector = judge.detector
    parts = np.array_split(rows, min(pieces, len(rows) // _FEWEST))
    scores = []
    for part in parts:
        # Of more vectors than it calibrates, some from everywhere.
        some = part[thinned(len(part), detector.n_reference // REFERENCE_RATIO)]
        local = to_local(some["received_at"], judge.zone)
        scores.append(detector.score(detector.sums(some["embedding"], local)))
    limit = _UNLIKE if len(parts) == 1 else _BOTH_UNLIKE
    above = [score for score in scores if not score <= limit]
    if len(above) > min(1, len(parts) - 1):
        raise _Refused("unlike", f"{which}: score {max(above):.1f}")
