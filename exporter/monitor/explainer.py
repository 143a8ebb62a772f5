"""The explainer: says what changed in each window or slice that drifts, in a background thread.

It is slower than an examination, and reads texts and metadata from the store. So it has a thread of
its own, which explains one window or slice at a time and then rests for as long as that took.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from exporter.detector.ratio import FEWEST
from exporter.explain.explanation import Explanation, explain
from exporter.explain.map import draw
from exporter.explain.summary import headline, recalled, titled, told
from exporter.monitor import evidence, privacy
from exporter.monitor.drifting import Drift, Drifting
from exporter.monitor.evidence import Evidence
from exporter.monitor.maturing import Score
from exporter.monitor.model import Model, Models, Standing
from exporter.monitor.recorded import is_readable
from exporter.monitor.series import Series
from exporter.monitor.snapshot import ExaminationStatus, ModelSnapshot, SeriesSnapshot
from exporter.monitor.states import UNMEASURED
from ingest.runtime.errors import StoreLost, StoreUnavailable
from ingest.runtime.settings.settings import ExplanationSettings
from ingest.runtime.thresholds import DRAINED_SECONDS, KEPT_SECONDS, LASTING_SECONDS
from ingest.runtime.worker import Worker
from ingest.store import explanations, history, reports
from ingest.store.explanations import ExplanationRow
from ingest.store.models import hold
from ingest.store.pool import Pool

_log = logging.getLogger(__name__)

REFRESHED_AFTER = (300.0, 1_800.0, 7_200.0, 28_800.0)
"""Seconds after the begin of a drift at which it is explained again. Each summary is a series of
Prometheus, so a drift has five at most."""
EXPLANATION = "explanation"
"""Value of the label `examination` on the metrics page."""
_MOST_SLICES = 3
"""Slices of a model that are explained while they drift, at most: those that began first."""
_WAIT_SECONDS = 0.1


class _Explained(NamedTuple):
    """An explanation without a map, and what that is drawn from; the settings are those of then."""

    row: ExplanationRow
    found: Explanation
    read: Evidence
    settings: ExplanationSettings


class Explainer:
    """Explains each drift when it begins and at `REFRESHED_AFTER`, and keeps that in the store.

    A window that drifts but is not measured now keeps its explanation.

    Of several processes that follow the same model, the first one explains, and the others take its
    explanation from the store. After a restart, a drift that lasts keeps its explanation. Maps are
    drawn when all windows of a model are explained: an alert waits for the words. Slices have none.

    Parameters
    ----------
    models : Models
    pool : Pool
        Of the store or of its replicas; vectors and metadata are read from there.
    primary : Pool
        Where explanations are kept.
    interval : float
        Seconds between two looks at all models.
    settings : ExplanationSettings
    followed : threading.Event
        Set once the windows have been read; there is nothing to explain before.
    rest : callable, optional
        Waits for so many seconds. By default until it is stopped, at most.

    Attributes
    ----------
    settings : ExplanationSettings
        Those in use.
    examined : mapping of str to ExaminationStatus
        How the last look went; replaced as a whole.
    """

    def __init__(
        self,
        models: Models,
        pool: Pool,
        primary: Pool,
        interval: float,
        settings: ExplanationSettings,
        followed: threading.Event,
        rest: Callable[[float], object] | None = None,
    ) -> None:
        self._models = models
        self._pool = pool
        self._primary = primary
        self._interval = interval
        self.settings = settings
        self._lock = threading.Lock()
        self._watched = 1
        self._followed = followed
        self._stopped = threading.Event()
        self._rest = self._stopped.wait if rest is None else rest
        self._drifting = Drifting()
        self._recalled: set[str] = set()
        self._worker = Worker(
            "explainer",
            self._work,
            lambda: self._interval,
            failed=_log_failure,
            meanwhile=self.look,
        )
        self.examined: Mapping[str, ExaminationStatus] = MappingProxyType({})

    def start(self) -> None:
        """Start to explain."""
        self._worker.start()

    def stop(self, cut: Callable[[], None]) -> None:
        """Stop; ``cut`` interrupts a wait for the server."""
        self._stopped.set()
        self._worker.stop(cut)

    def reconfigure(self, interval: float, settings: ExplanationSettings) -> None:
        """Apply other settings, and say again what they do not allow any more."""
        self._interval = interval
        with self._lock:
            self.settings = settings
            for model in self._models.by_name.values():
                self._show(model.standing, model.standing.explained)
        self._worker.wake()

    def notice(self, models: Sequence[ModelSnapshot]) -> None:
        """Look soon if a drift has begun in one of these models: its alert comes soon, too."""
        watched = max(self._watched, sum(model.watched for model in models))
        if any(self._drifting.is_news(model, watched) for model in models):
            self._worker.wake()

    def _work(self) -> None:
        while not self._followed.wait(_WAIT_SECONDS):
            if self._worker.is_stopping:
                return
        self.look()

    def look(self) -> None:
        """Look at all models, and explain the drifts whose explanation is due.

        A model or a window that raises leaves the others alone. A window that cannot be explained
        keeps its older explanation.

        Raises
        ------
        StoreLost
            If PostgreSQL is away.
        Exception
            The first error that a model or a window raised.
        """
        models, spent, errors = self._models.by_name, 0.0, list[Exception]()
        watched = self._watched = self._count_watched()
        for model in models.values():
            if self._worker.is_stopping:
                return
            start, has_explained, is_lost = time.perf_counter(), False, False
            try:
                has_explained = self._look_at(model, watched, errors)
            except StoreLost as error:
                # Told rather than what one model has.
                errors.insert(0, error)
                is_lost = True
            except Exception as error:
                error.add_note(f"Raised by a look at model {model.row.model_name}")
                errors.append(error)
            took = time.perf_counter() - start
            spent += took
            if is_lost:
                break
            if has_explained:
                self._rest(took)
        self._drifting.keep(models)
        self._recalled.intersection_update(models)
        status = ExaminationStatus(not errors, spent)
        self.examined = MappingProxyType({EXPLANATION: status})
        if errors:
            raise errors[0]

    def _count_watched(self) -> int:
        """Count the models and slices with a score, also those of other shards."""
        own = self._models.watched
        try:
            with self._primary.borrow() as connection:
                return max(own, reports.watched(connection))
        except StoreUnavailable:
            return max(own, self._watched)

    def _look_at(self, model: Model, watched: int, errors: list[Exception]) -> bool:
        """Attach the explanations to a model; return whether one was made."""
        standing = model.standing  # read once: the tail replaces it when a baseline is adopted
        subject = model.judge(standing, self._models.now())
        if subject.baseline is not None and model.row.model_name not in self._recalled:
            self._recall(subject, watched)
            self._recalled.add(model.row.model_name)
        self._drifting.notice(subject, watched)
        explained, made = {}, list[_Explained]()
        for each, drift in self._due(subject):
            try:
                current, number, began_at = self._current(each.series, drift)
                # Without a measurement, as between two runs of a job, there is nothing to explain.
                if number is not None and each.verdict.measurement is not None:
                    begun = replace(drift, began_at=began_at)
                    current = self._explain(subject, each, begun, current, number, made)
            except StoreLost:
                raise
            except Exception as error:
                error.add_note(f"Raised by the explanation of {each.series}")
                errors.append(error)
                current = standing.explained.get(each.series)
            if current is not None:
                explained[each.series] = current
        with self._lock:
            self._show(standing, explained)
        for without_map in made:
            if without_map.row.slice:
                continue
            try:
                self._draw(without_map)
            except StoreLost:
                raise
            except Exception as error:
                row = without_map.row
                error.add_note(f"Raised by the map of {row.model_name}, {row.window_name} window")
                errors.append(error)
        return bool(made)

    def _recall(self, subject: ModelSnapshot, watched: int) -> None:
        """Know what a process before knew of the drifts of a model, so that they go on.

        Otherwise an average of an hour would take an hour to show one, and between two runs of a
        job nobody could see one. Slices are not fitted yet.
        """
        assert subject.baseline is not None
        now, version = subject.computed_at, subject.baseline.version
        since = datetime.fromtimestamp(now - LASTING_SECONDS - 2 * self._interval, UTC)
        with self._primary.borrow() as connection:
            past = history.scores(connection, subject.row.model_name, since)
        scores = [
            Score(window, at, score, subject.baseline.stage)
            for window, at, score, measured_by in past
            if measured_by == version and at <= now
        ]
        self._drifting.recall(subject, scores, watched)
        for each in subject.series:
            if each.verdict.measurement is not None or each.verdict.state not in UNMEASURED:
                continue
            with self._primary.borrow() as connection:
                found = explanations.newest(connection, *each.series, now)
            if (
                found is not None
                and is_readable(found)
                and found.baseline_version == version
                # It is noted at each look.
                and now - found.seen_at <= max(DRAINED_SECONDS, 2 * self._interval)
            ):
                score, seen_at = found.told["score"], min(found.seen_at, now)
                drift = Drift(found.began_at, seen_at, version, score, measured_at=seen_at)
                self._drifting.resume(subject, each.series, drift)

    def _show(self, standing: Standing, rows: Mapping[Series, ExplanationRow]) -> None:
        """Attach the rows that the settings of now allow: those of a while ago allowed more."""
        standing.explained = MappingProxyType(
            {series: row for series, row in rows.items() if self._permits(row)}
        )

    def _due(self, subject: ModelSnapshot) -> Iterator[tuple[SeriesSnapshot, Drift]]:
        """Yield the windows that drift, and then the slices that began to drift first."""
        now = self._drifting.now
        for each in subject.series:
            if each.series in now:
                yield each, now[each.series]
        # For a moment, findings may have slices of the baseline before, which are fitted no more.
        parts = () if subject.slicing is None else subject.slicing.slices
        fitted = {part.name for part in parts}
        drifting = [
            each for each in subject.slices if each.series in now and each.series.slice in fitted
        ]
        drifting.sort(key=lambda each: now[each.series].began_at)
        names = list(dict.fromkeys(each.series.slice for each in drifting))[:_MOST_SLICES]
        for each in drifting:
            if each.series.slice in names:
                yield each, now[each.series]

    def _permits(self, row: ExplanationRow) -> bool:
        told = row.told
        return is_readable(row) and privacy.permits(
            self.settings, told["texts"], told["metadata_keys"]
        )

    def _current(
        self, series: Series, drift: Drift
    ) -> tuple[ExplanationRow | None, int | None, float]:
        """Return the explanation of a drift so far, if it may be shown.

        Then the number of the next one if it is due, and when the drift began.
        """
        with self._primary.borrow() as connection:
            found = explanations.newest(connection, *series, drift.seen_at)
            if (
                found is None
                or found.baseline_version != drift.baseline_version
                or found.seen_at <= drift.began_at - KEPT_SECONDS
            ):
                return None, 0, drift.began_at
            explanations.see(connection, found, drift.seen_at)
        if not self._permits(found):
            # The settings allow less than they did, or another release said it: say it again.
            return None, found.number + 1, found.began_at
        age = self._models.now() - found.began_at
        number = sum(age >= after for after in REFRESHED_AFTER)
        return found, number if number > found.number else None, found.began_at

    def _explain(
        self,
        subject: ModelSnapshot,
        each: SeriesSnapshot,
        drift: Drift,
        current: ExplanationRow | None,
        number: int,
        made: list[_Explained],
    ) -> ExplanationRow | None:
        """Explain a window and keep that; return what counts, which may be another process's.

        Add it to those that were made, if it counts. An explanation of a model that was removed
        meanwhile is not kept. Then return None.
        """
        assert subject.baseline is not None
        series, version, settings = each.series, subject.baseline.version, self.settings
        read = self._read(subject, each, settings)
        if len(read.window) < FEWEST:
            # A smaller window can be measured. And a slice, which is measured in a sample of the
            # window, may have too few of the newest vectors.
            return current
        previous = None if current is None else recalled(current.told)
        found = explain(read.detector, read.reference, read.window, previous, is_drift=True)
        # The time joins an explanation with its map. PostgreSQL and Python round some microseconds
        # differently, but no milliseconds.
        now = round(self._models.now(), 3)
        row = ExplanationRow(
            *series,
            began_at=drift.began_at,
            number=number,
            explained_at=now,
            seen_at=max(now, drift.seen_at),
            baseline_version=version,
            summary=headline(titled(series.model_name, series.slice), found),
            told=told(found, read.examples(found, settings)) | privacy.shown(settings),
        )
        with self._primary.borrow() as connection, hold(connection, [subject.row]) as held:
            if not held:
                return None
            kept = explanations.keep(connection, row, KEPT_SECONDS)
        if kept is row:
            made.append(_Explained(row, found, read.for_map(), settings))
        return kept

    def _read(
        self, subject: ModelSnapshot, each: SeriesSnapshot, settings: ExplanationSettings
    ) -> Evidence:
        """Read the vectors of a window, or of a slice of it."""
        assert subject.baseline is not None
        name, window, of_slice = each.series
        whole = next(one for one in subject.series if one.series.window == window)
        with self._pool.borrow() as connection:
            read = evidence.read(
                connection, name, subject.row.dimension, subject.baseline, whole.limits, settings
            )
            if not of_slice:
                return read
            assert subject.slicing is not None
            part = next(part for part in subject.slicing.slices if part.name == of_slice)
            return evidence.of_slice(
                connection, name, read, part, subject.baseline.version, each.limits.capacity
            )

    def _draw(self, explained: _Explained) -> None:
        """Draw the map of an explanation, and keep it."""
        row, found, read, settings = explained
        with self._primary.borrow() as connection:
            before = explanations.last_map(connection, row.model_name, row.baseline_version)
        positions = None if before is None else np.array(before["baseline"], np.float32)
        drawn = draw(read.detector, read.reference, read.window, found, positions)
        with self._primary.borrow() as connection:
            explanations.keep_map(connection, row, read.drawn(drawn, found, settings))


def _log_failure(error: Exception) -> None:
    if isinstance(error, StoreUnavailable):
        _log.warning("no explanation; the next look follows", extra={"error": str(error)})
    else:
        _log.error("no explanation; the next look follows", exc_info=error)
