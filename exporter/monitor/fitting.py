"""Fitting: pins automatic baselines in a background thread, one at a time."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from exporter.monitor import baseline, fit_process, slices
from exporter.monitor.baseline import Baseline
from exporter.monitor.history import past_scores
from exporter.monitor.maturing import Score
from exporter.monitor.model import Model, Standing
from exporter.monitor.successor import RETRY_SECONDS, fewest, succeed, suggest
from ingest.runtime.errors import FitFailed, MonitorError
from ingest.runtime.worker import await_end
from ingest.store import explanations, history
from ingest.store.explanations import LastSeen
from ingest.store.history import Average
from ingest.store.pool import Borrow, Pool
from ingest.store.selection import Selection, select

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 60.0


class _Work(NamedTuple):
    """Work on the baseline of a model.

    Attributes
    ----------
    future : Future of float
        Seconds after which it, or other work, may follow.
    asked_at : float
        When, by a clock that never steps.
    asked : object
        What was asked for; what differs from it need not wait, once this is done.
    version : int or None
        The one that it makes readable again.
    """

    future: Future[float]
    asked_at: float
    asked: object = None
    version: int | None = None

    def may_be_followed(self, now: float, asked: object) -> bool:
        return self.future.done() and (
            asked != self.asked or now >= self.asked_at + self.future.result()
        )


class Fitting:
    """Pins the first baseline of a model, and those that it matures to, in its own thread.

    A fit takes seconds of a core. So outdated detectors are fitted again here, too.

    Parameters
    ----------
    pool : Pool
        Of the primary.
    monotonic : callable
        A clock that never steps.
    """

    def __init__(self, pool: Pool, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._monotonic = monotonic
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="baseline")
        self._works: dict[str, _Work] = {}
        self._early: dict[str, _Work] = {}
        self._slicings: dict[str, _Work] = {}
        self._suggestions: dict[str, _Work] = {}
        self._forgotten: list[Future[float]] = []
        self._failures: dict[tuple[str, str], str] = {}
        self._is_stopping = False

    def request_first(self, model_name: str, vectors: int, zone: ZoneInfo) -> None:
        """Pin the first n vectors of a model, unless that is under way or just failed."""

        def pin(borrow: Borrow) -> None:
            baseline.pin_first(borrow, model_name, vectors, zone)

        self._request(
            self._works, model_name, pin, _RETRY_SECONDS, is_done_once=True, asked=vectors
        )

    def request_early(self, model: Model) -> None:
        """Pin the first vectors of a model if few fill a week, unless tried within the hour."""
        name, settings = model.row.model_name, model.settings

        def pin(borrow: Borrow) -> None:
            vectors, least = settings.baseline.vectors, fewest(settings)
            baseline.pin_early(borrow, name, vectors, least, settings.zone)

        self._request(self._early, name, pin, RETRY_SECONDS, "no baseline of fewer vectors")

    def request_again(self, model_name: str, version: int) -> None:
        """Fit an outdated detector again, unless that is under way or just failed."""

        def fit(borrow: Borrow) -> None:
            baseline.fit_again(borrow, model_name, version)

        self._request(
            self._works,
            model_name,
            fit,
            _RETRY_SECONDS,
            "baseline not fitted again",
            is_done_once=True,
            version=version,
        )

    def is_being_replaced(self, model_name: str, version: int) -> bool:
        """Return whether a version of a baseline will be fitted again, or another is being pinned.

        Work that only waits its turn to pin another one does not count: it may wait for long behind
        other models.
        """
        work = self._works.get(model_name)
        if work is None or work.future.done():
            return False
        return work.future.running() or work.version == version

    def request_another(self, model: Model) -> None:
        """Pin the newest vectors of a model, as many as of a first baseline, if they vary."""
        name, vectors, found = model.row.model_name, model.settings.baseline.vectors, model.baseline
        assert found is not None
        version, zone = found.version, model.settings.zone

        def pin(borrow: Borrow) -> None:
            baseline.pin_another(borrow, name, vectors, version, zone)

        # Not at each check: while an encoder is stuck, the newest vectors do not differ, either.
        self._request(self._works, name, pin, RETRY_SECONDS)

    def request_next(self, model: Model, now: float) -> None:
        """Pin the next baseline of a model if it is due, unless it was looked at just now.

        Parameters
        ----------
        model : Model
            Gets what comes next as its ``maturing``.
        now : float
            Time of the store.
        """
        name, pause = model.row.model_name, float(model.settings.check_interval)
        self._request(self._works, name, lambda borrow: mature(borrow, model, now), pause)

    def request_suggestion(self, model: Model, now: float) -> None:
        """Note whether another weekly baseline is suggested, unless that was done within the hour.

        For the parameters see `request_next`.
        """
        self._request(
            self._suggestions,
            model.row.model_name,
            lambda borrow: note_suggestion(borrow, model, now),
            RETRY_SECONDS,
            "no suggestion of another baseline",
        )

    def request_slices(self, model_name: str, standing: Standing, keys: tuple[str, ...]) -> None:
        """Divide the baseline of a standing by keys of the metadata, which sets its slicing."""
        found = standing.baseline
        assert found is not None

        def divide(borrow: Borrow) -> None:
            known = standing.slicing
            made = () if known is None or known.keys != keys else known.slices
            standing.slicing = slices.divide(borrow, model_name, found, keys, made)
            if not standing.slicing.is_complete:
                raise FitFailed("the processes that fitted some of them ended too early")

        self._request(
            self._slicings,
            model_name,
            divide,
            _RETRY_SECONDS,
            "slices not fitted",
            is_done_once=True,
            asked=(keys, found.version),
        )

    def _request(
        self,
        works: dict[str, _Work],
        model_name: str,
        work: Callable[[Borrow], object],
        pause: float,
        failure: str = "baseline not pinned",
        is_done_once: bool = False,
        asked: object = None,
        version: int | None = None,
    ) -> None:
        last, now = works.get(model_name), self._monotonic()
        if last is None or last.may_be_followed(now, asked):
            future = self._threads.submit(self._do, model_name, work, failure, pause, is_done_once)
            works[model_name] = _Work(future, now, asked, version)

    def forget(self, model_name: str) -> None:
        """Forget a model that was removed, or replaced by another of its name."""
        for key in [key for key in self._failures if key[0] == model_name]:
            del self._failures[key]
        for works in self._all:
            work = works.pop(model_name, None)
            # Work that runs already pins nothing: the vectors that it read are gone.
            if work is not None and not work.future.cancel():
                left = [*self._forgotten, work.future]
                self._forgotten = [future for future in left if not future.done()]

    def stop(self) -> None:
        """Stop after the work under way.

        Work that waits for the server, or for the process of a large fit, is interrupted.
        """
        self._is_stopping = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        works = (work for works in self._all for work in works.values())
        futures = [*self._forgotten, *(work.future for work in works)]
        running = [future for future in futures if not future.cancelled()]
        await_end(lambda seconds: not wait(running, seconds).not_done, self._cut)

    def _cut(self) -> None:
        self._pool.cut()
        fit_process.kill()

    @property
    def _all(self) -> tuple[dict[str, _Work], ...]:
        return self._works, self._early, self._slicings, self._suggestions

    def _do(
        self,
        model_name: str,
        work: Callable[[Borrow], object],
        failure: str,
        pause: float,
        is_done_once: bool,
    ) -> float:
        """Do work; return the seconds after which other work may follow."""
        try:
            work(self._pool.borrow)
        # Log every error: the thread has no caller that would see it.
        except Exception as error:
            if self._is_stopping and isinstance(error, MonitorError):
                _log.info("fit interrupted", extra={"model_name": model_name})
                return pause
            # What fails for days is one line in the log.
            if self._failures.get((model_name, failure)) != repr(error):
                self._failures[model_name, failure] = repr(error)
                _log.error(
                    f"{failure}; it will be tried again",
                    exc_info=not isinstance(error, MonitorError | ValueError),
                    extra={"model_name": model_name, "error": str(error)},
                )
            # A fit that had too little memory costs as much each time.
            return max(pause, RETRY_SECONDS) if isinstance(error, FitFailed) else pause
        self._failures.pop((model_name, failure), None)
        return 0.0 if is_done_once else pause


class _Past(NamedTuple):
    """What the store has of a model, as the `Past` of its baseline."""

    borrow: Borrow
    model_name: str
    baseline: Baseline

    def scores(self, since: float) -> list[Score]:
        version, stage = self.baseline.version, self.baseline.stage
        with self.borrow() as connection:
            return past_scores(connection, self.model_name, _moment(since), version, stage)

    def average(self, since: float) -> Average | None:
        version, name = self.baseline.version, self.model_name
        with self.borrow() as connection:
            return history.average(connection, name, "slow", version, since, math.inf)

    def drift_seen(self) -> LastSeen:
        with self.borrow() as connection:
            return explanations.last_seen(connection, self.model_name, self.baseline.version)

    def vectors(self, start: float, end: float, most: int) -> NDArray[np.void]:
        span = Selection(arrived=(_moment(start), _moment(end)), most=most)
        with self.borrow() as connection:
            return select(connection, self.model_name, span)

    def reference(self) -> NDArray[np.void]:
        with self.borrow() as connection:
            return baseline.reference(connection, self.model_name, self.baseline.version)


def mature(borrow: Borrow, model: Model, now: float) -> None:
    """Note what comes next for the baseline of a model, and pin it if it is due."""
    found, name = model.baseline, model.row.model_name
    if found is None or not found.matures:
        return
    past = _Past(borrow, name, found)
    planned, successor = succeed(found, past, _scores(model, now), model.settings, now)
    if successor is not None:
        baseline.pin_next(borrow, name, successor, found.version)
    # A baseline that was adopted meanwhile has another future.
    if model.baseline is found:
        model.maturing = planned


def note_suggestion(borrow: Borrow, model: Model, now: float) -> None:
    """Note whether another weekly baseline is suggested to people."""
    found = model.baseline
    if found is None or not found.matures or found.stage != "weekly":
        return
    past = _Past(borrow, model.row.model_name, found)
    suggested = suggest(found, past, _scores(model, now), now)
    if model.baseline is found:
        model.maturing = suggested


def _scores(model: Model, now: float) -> dict[str, float]:
    """Return the scores that the windows of a model have now."""
    return {
        each.series.window: each.verdict.measurement.score
        for each in model.snapshot(now).series
        if each.verdict.measurement is not None
    }


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
