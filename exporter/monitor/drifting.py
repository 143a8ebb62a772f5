"""Drifting: which windows and slices drift now, and a line in the log when that begins and ends."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType

from exporter.monitor.maturing import Crossing, Hour, Score
from exporter.monitor.series import Series
from exporter.monitor.snapshot import ModelSnapshot, SeriesSnapshot
from exporter.monitor.states import UNMEASURED
from ingest.runtime.thresholds import (
    DRAINED_SECONDS,
    HELD_SECONDS,
    KEPT_SECONDS,
    Thresholds,
    of_fleet,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Drift:
    """A drift of one window, or of a slice of it, that has not ended.

    Times are in seconds since the epoch.

    Attributes
    ----------
    began_at, seen_at : float
        When it was first and last seen.
    baseline_version : int
    highest : float
        The highest score so far, or average of an hour.
    measured_at : float
        When its window was last measured and showed it.
    lasts : bool
        Whether it was seen at the last look, or went on because its window was not measured.
    """

    began_at: float
    seen_at: float
    baseline_version: int
    highest: float
    measured_at: float
    lasts: bool = True

    def until(self, now: float) -> Drift:
        """Return this drift without times after ``now``: the clock was set back since."""
        if self.seen_at <= now:
            return self
        began_at, measured_at = min(self.began_at, now), min(self.measured_at, now)
        return replace(self, began_at=began_at, seen_at=now, measured_at=measured_at)


class Drifting:
    """The windows that drift, by the thresholds of the rules.

    As in the rules, drift ends only when it was not seen for a while. So a score about the
    threshold is one drift, not many. While its window is not measured, it goes on. After a restart,
    only what is recalled or resumed is known: a drift that lasts begins again in the log.

    Attributes
    ----------
    now : mapping of Series to Drift
        Replaced as a whole.
    """

    def __init__(self) -> None:
        # Each with the time at which its baseline was pinned: another model of a name may have the
        # same version.
        self._hours: dict[Series, tuple[datetime, Hour]] = {}
        self.now: Mapping[Series, Drift] = MappingProxyType({})

    def notice(self, model: ModelSnapshot, watched: int) -> None:
        """Look at the windows and slices of a model, at each check.

        The drift of a slice that is not measured any more ends without a word, and so does that of
        a model that was removed, and is another one of its name now.

        Parameters
        ----------
        model : ModelSnapshot
        watched : int
            Number of models and slices with a score, by which the thresholds grow.
        """
        if model.baseline is None:
            self._keep(lambda series: series.model_name != model.row.model_name)
            return
        now = {
            series: drift.until(model.computed_at)
            if series.model_name == model.row.model_name
            else drift
            for series, drift in self.now.items()
        }
        thresholds = of_fleet(model.baseline.stage, watched)
        present = {each.series: each for each in _every(model)}
        unmeasured = {
            each.series.window
            for each in model.series
            if each.verdict.measurement is None and each.verdict.state in UNMEASURED
        }
        for series, each in present.items():
            is_unmeasured = series.window in unmeasured
            found = self._drift(
                model, each, thresholds[series.window], now.pop(series, None), is_unmeasured
            )
            if found is not None:
                now[series] = found
        gone = [
            series
            for series in self._hours
            if series.model_name == model.row.model_name and series not in present
        ]
        for series in gone:
            known = now.pop(series, None)
            is_unmeasured = (
                series.window in unmeasured and self._hours[series][0] == model.baseline.pinned_at
            )
            found = None if known is None else _later(known, model.computed_at, is_unmeasured)
            if found is None:
                del self._hours[series]
            else:
                now[series] = found
        self.now = MappingProxyType(now)

    def recall(self, model: ModelSnapshot, scores: Iterable[Score], watched: int) -> None:
        """Take the scores of the last hour from before a restart, in the order of time.

        They are of the windows of a model, against its baseline. For ``watched``, see `notice`.
        """
        assert model.baseline is not None
        thresholds = of_fleet(model.baseline.stage, watched)
        for score in scores:
            series = Series(model.row.model_name, score.window)
            _, hour = self._hours.setdefault(series, (model.baseline.pinned_at, Hour()))
            hour.add(score, thresholds[score.window])

    def resume(self, model: ModelSnapshot, series: Series, drift: Drift) -> None:
        """Go on with a drift that was known before a restart: nobody can see it now."""
        assert model.baseline is not None
        self._hours.setdefault(series, (model.baseline.pinned_at, Hour()))
        self.now = MappingProxyType({**self.now, series: drift})

    def is_news(self, model: ModelSnapshot, watched: int) -> bool:
        """Return whether a window or slice has a score of drift, but is not known to drift."""
        if model.baseline is None:
            return False
        thresholds = of_fleet(model.baseline.stage, watched)
        return any(
            each.series not in self.now
            and (
                _is_sudden(each, thresholds[each.series.window])
                or _has_risen(each, thresholds[each.series.window])
            )
            for each in _every(model)
        )

    def keep(self, models: Container[str]) -> None:
        """Forget all models but these."""
        self._keep(lambda series: series.model_name in models)

    def _keep(self, keeps: Callable[[Series], bool]) -> None:
        self._hours = {series: hour for series, hour in self._hours.items() if keeps(series)}
        kept = {series: drift for series, drift in self.now.items() if keeps(series)}
        self.now = MappingProxyType(kept)

    def _drift(
        self,
        model: ModelSnapshot,
        each: SeriesSnapshot,
        thresholds: Thresholds,
        known: Drift | None,
        is_unmeasured: bool,
    ) -> Drift | None:
        """Return the drift of a window that goes on or begins, if there is one."""
        assert model.baseline is not None
        pinned_at, version = model.baseline.pinned_at, model.baseline.version
        now, measured = model.computed_at, each.verdict.measurement
        value = math.nan if measured is None else measured.score
        of_baseline, hour = self._hours.get(each.series, (pinned_at, Hour()))
        if of_baseline != pinned_at:
            # Scores against different baselines are not averaged.
            hour = Hour()
            if known is not None:
                _tell_end(each, value, known)
                known = None
        self._hours[each.series] = pinned_at, hour
        score = Score(each.series.window, now, value, model.baseline.stage)
        crossing = hour.add(score, thresholds)
        if crossing is not None and value <= thresholds.lasting:
            # The average of the hour is still high, but the drift is over.
            crossing = None
        if crossing is not None or _has_risen(each, thresholds):
            highest = value if crossing is None else crossing.score
            if known is None:
                _tell_begin(each, crossing, thresholds)
                return Drift(now, now, version, highest, now)
            highest = max(known.highest, highest)
            return replace(known, seen_at=now, highest=highest, measured_at=now, lasts=True)
        if known is None:
            return None
        later = _later(known, now, is_unmeasured)
        if later is None:
            _tell_end(each, value, known)
        return later


def _later(drift: Drift, now: float, is_unmeasured: bool) -> Drift | None:
    """Return a drift that is not seen at a look; None if it has ended."""
    most = HELD_SECONDS if drift.lasts else DRAINED_SECONDS
    if is_unmeasured and now - drift.measured_at <= most:
        return replace(drift, seen_at=now, lasts=True)
    return None if now - drift.seen_at >= KEPT_SECONDS else replace(drift, lasts=False)


def _is_sudden(each: SeriesSnapshot, thresholds: Thresholds) -> bool:
    measured = each.verdict.measurement
    return measured is not None and measured.score > thresholds.sudden


def _has_risen(each: SeriesSnapshot, thresholds: Thresholds) -> bool:
    return each.rise is not None and each.rise > thresholds.rise


def _every(model: ModelSnapshot) -> Iterator[SeriesSnapshot]:
    yield from model.series
    yield from model.slices


def _named(series: Series) -> dict[str, str]:
    """Return the fields of a line in the log that say which series it is about."""
    named = {"model_name": series.model_name, "window": series.window}
    return named | {"slice": series.slice} if series.slice else named


def _tell_begin(each: SeriesSnapshot, crossing: Crossing | None, thresholds: Thresholds) -> None:
    if crossing is not None:
        above = {"score": round(crossing.score, 1), "threshold": round(crossing.threshold, 1)}
    else:
        assert each.rise is not None
        above = {"rise": round(each.rise, 1), "threshold": round(thresholds.rise, 1)}
    _log.warning("drift began", extra={**_named(each.series), **above})


def _tell_end(each: SeriesSnapshot, score: float, drift: Drift) -> None:
    _log.info(
        "drift ended",
        extra={
            **_named(each.series),
            # Not measured any more, unless it is ok.
            "state": each.verdict.state,
            "score": None if math.isnan(score) else round(score, 1),
            "highest_score": round(drift.highest, 1),
            "seconds": round(drift.seen_at - drift.began_at),
        },
    )
