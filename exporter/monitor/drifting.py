"""Drifting: tells the log when drift of a window begins, and when it ends."""

from __future__ import annotations

import logging
import math
from collections.abc import Container

from exporter.monitor.maturing import Crossing, Hour, Score
from exporter.monitor.series import Series
from exporter.monitor.snapshot import ModelSnapshot, SeriesSnapshot
from ingest.runtime.thresholds import KEPT_SECONDS

_log = logging.getLogger(__name__)


class Drifting:
    """The windows that drift, by the thresholds of the rules for one model.

    As in the rules, drift ends only when it was not seen for a while. So a score about the
    threshold is one drift, not many. Nothing is kept over a restart: a drift that lasts then begins
    again in the log.
    """

    def __init__(self) -> None:
        self._windows: dict[Series, _Window] = {}

    def notice(self, model: ModelSnapshot) -> None:
        """Look at the windows of a model, at each check."""
        if model.baseline is None:
            return
        for each in model.series:
            known = self._windows.setdefault(each.series, _Window())
            measured = each.verdict.measurement
            score = Score(
                each.series.window,
                model.computed_at,
                math.nan if measured is None else measured.score,
                model.baseline.stage,
            )
            known.notice(each, score, model.baseline.version)

    def keep(self, models: Container[str]) -> None:
        """Forget all models but these."""
        self._windows = {
            series: window
            for series, window in self._windows.items()
            if series.model_name in models
        }


class _Window:
    """One window: its last hour, and since when it drifts."""

    def __init__(self) -> None:
        self._hour = Hour()
        self._version = 0
        self._began: float | None = None
        self._seen = 0.0
        self._highest = 0.0

    def notice(self, each: SeriesSnapshot, score: Score, version: int) -> None:
        if version != self._version:
            # Scores against different baselines are not averaged.
            self._hour, self._version = Hour(), version
        crossing = self._hour.add(score)
        if crossing is not None:
            self._drifts(each.series, crossing, score.time)
        elif self._began is not None and score.time - self._seen >= KEPT_SECONDS:
            self._ends(each, score.value)

    def _drifts(self, series: Series, crossing: Crossing, now: float) -> None:
        if self._began is None:
            self._began, self._highest = now, 0.0
            _log.warning(
                "drift began",
                extra={
                    "model_name": series.model_name,
                    "window": series.window,
                    "score": round(crossing.score, 1),
                    "threshold": crossing.threshold,
                },
            )
        self._seen, self._highest = now, max(self._highest, crossing.score)

    def _ends(self, each: SeriesSnapshot, score: float) -> None:
        assert self._began is not None
        _log.info(
            "drift ended",
            extra={
                "model_name": each.series.model_name,
                "window": each.series.window,
                # Not measured any more, unless it is ok.
                "state": each.verdict.state,
                "score": None if math.isnan(score) else round(score, 1),
                "highest_score": round(self._highest, 1),
                "seconds": round(self._seen - self._began),
            },
        )
        self._began = None
