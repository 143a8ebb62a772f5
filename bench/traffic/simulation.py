"""The simulation: one model in production, with a clock and a store that are not real."""

from __future__ import annotations

import math
import time
import zlib
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.traffic.arrivals import DAY, MINUTE, Arrivals
from bench.traffic.drifts import DRIFTS
from bench.traffic.pager import Pager, Rule
from bench.traffic.regimes import REGIMES
from bench.traffic.source import Source
from bench.traffic.store import Store, Stored
from exporter.monitor import ring
from exporter.monitor.baseline import Baseline, Fit, fills_week, fit
from exporter.monitor.maturing import SPANS, Score
from exporter.monitor.model import Model
from exporter.monitor.rise import WINDOW, compare
from exporter.monitor.states import State
from exporter.monitor.successor import RETRY_SECONDS, fewest, succeed
from exporter.monitor.verdict import Circumstances, judge_state
from exporter.monitor.windows import ModelWindows
from ingest.runtime.settings.settings import Settings
from ingest.runtime.thresholds import Stage
from ingest.store import copy
from ingest.store.changes import ModelRow, is_sampled
from ingest.store.explanations import LastSeen
from ingest.store.history import Average

_PATIENCE = 10.0
"""What the tail grants a vector on its way."""
_FIRST_DRIFT = 4
"""Days before the first injected drift."""
_DRIFT_EVERY = 3
"""Days in which each kind of drift is injected once."""


class Stream:
    """One model that is fed, judged and paged, minute by minute.

    Does what the tail and the fitting do, and reads the scores as a scrape does. Of a verdict it
    makes the state and the score: the other numbers take half of the time and page nothing by
    themselves.

    Parameters
    ----------
    settings : Settings
    dimension : int
    now : float
        Seconds since the epoch.
    """

    def __init__(self, settings: Settings, dimension: int, now: float) -> None:
        self._settings = settings
        self._store = Store(dimension)
        moment = _moment(now)
        row = ModelRow("simulated", dimension, 0, None, None, None, moment, created_at=moment)
        self._model = Model(row, settings.monitoring)
        self._history: deque[Score] = deque()
        self._recorded_at = now
        self._tried_at = -math.inf
        self._reference: NDArray[np.void] | None = None
        self._recorded = _Recorded([], [], [])
        self._rises: Mapping[str, float] = {}
        self.pager = Pager(Rule.shipped(settings), self._model.windows.limits)
        self.scores: dict[str, float | None] = {}

    @property
    def stage(self) -> Stage | None:
        """Stage of the baseline; None while there is none."""
        return None if self._model.baseline is None else self._model.baseline.stage

    def step(self, arrivals: Arrivals, now: float) -> None:
        """Let vectors arrive, and evaluate the rules at a time."""
        self._store.append(arrivals.times, arrivals.vectors)
        self._follow(now)
        states = self._judge(now)
        self.pager.evaluate(self.scores, self.stage or "provisional", self._rises, states)
        if now - self._recorded_at >= self._settings.monitoring.check_interval:
            self._recorded_at = now
            self._record(now)
            self._mature(now)

    def fork(self, now: float) -> Stream:
        """Return another stream of the same past."""
        other = Stream(self._settings, self._model.row.dimension, now)
        other._store = self._store.copy()
        other._model.row = self._model.row
        other._history = self._history.copy()
        other._recorded_at, other._tried_at = self._recorded_at, self._tried_at
        other._reference = self._reference
        other.pager = self.pager.copy()
        if self._model.baseline is not None:
            other._adopt(self._model.baseline, now)
            other._recorded, other._rises = self._recorded.copy(), self._rises
        return other

    def _follow(self, now: float) -> None:
        model, store = self._model, self._store
        baseline = model.baseline
        received = None if store.last_time is None else _moment(store.last_time)
        model.row = replace(
            model.row,
            last_seq=store.last_seq,
            last_received_at=received,
            baseline_version=None if baseline is None else baseline.version,
            now=_moment(now),
        )
        if baseline is None and (first := self._first(now)) is not None:
            self._pin(1, first, now)
        model.windows.follow(_Rows(store, now), store.last_seq, now)
        model.ledger.succeed(now, store.last_seq, store.last_seq, _PATIENCE)

    def _first(self, now: float) -> Fit | None:
        """Return the first baseline, when the tail would request it and it would be pinned."""
        settings, store = self._settings.monitoring, self._store
        first, name = settings.baseline.vectors, self._model.row.model_name
        if store.last_seq >= first:
            return fit(name, _rows(store.first(first)), "first", settings.zone)
        if not settings.baseline.mature:
            return None
        created_at = self._model.row.created_at.timestamp()
        if store.last_seq < fewest(settings) or now - created_at < SPANS["weekly"]:
            return None
        if now - self._tried_at < RETRY_SECONDS:
            return None
        self._tried_at = now
        rows = _rows(store.first(store.last_seq))
        if not fills_week(rows["received_at"], settings.zone):
            return None
        found = fit(name, rows, "first", settings.zone)
        return found if found.varies and found.stage == "weekly" else None

    def _pin(self, version: int, found: Fit, now: float) -> None:
        self.pager.renew()
        self._reference, rows = found.rows, found.rows
        first, last = (_moment(float(time)) for time in rows["received_at"][[0, -1]])
        self._adopt(
            Baseline(
                version,
                pinned_at=_moment(now),
                last_seq=int(rows["seq"].max()),
                first_at=first,
                last_at=last,
                matures=True,
                source=found.source,
                quality=found.quality,
                detector=found.detector,
                zone=found.zone,
            ),
            now,
        )

    def _adopt(self, baseline: Baseline, now: float) -> None:
        """Measure against a baseline, by windows that are read from the store."""
        dimension, monitoring = self._model.row.dimension, self._settings.monitoring
        windows = ModelWindows(
            dimension, monitoring, baseline.detector, baseline.last_seq, baseline.zone
        )
        windows.follow(_Rows(self._store, now), self._store.last_seq, now)
        self._model.adopt(baseline, windows)
        # Scores against different baselines are not compared.
        self._recorded, self._rises = _Recorded([], [], []), {}

    def _judge(self, now: float) -> dict[str, State]:
        """Measure the windows; return their states."""
        windows, received = self._model.windows, self._store.last_time
        circumstances = Circumstances(
            now,
            received,
            False,
            self._settings.monitoring.stale_after,
            self._model.ledger.following.trouble(now),
        )
        scores: dict[str, float | None] = {}
        states: dict[str, State] = {}
        for name, (stream, window) in windows.views.items():
            states[name] = judge_state(
                len(window),
                windows.limits[name],
                stream.level > 0,
                windows.detector,
                circumstances,
            )
            if states[name] == "ok":
                assert windows.detector is not None
                assert window.sums is not None
                scores[name] = windows.detector.score(window.sums)
            else:
                scores[name] = None
        self.scores = scores
        return states

    def _record(self, now: float) -> None:
        """Compare with the history of the past, and write what the exporter writes at a check."""
        stage, found = self.stage, self._model.baseline
        if stage is not None and found is not None:
            risen = compare(self._recorded, now, found.zone).by_slice
            self._rises = {WINDOW: risen[""]} if risen else {}
            self._recorded.append(now, self.scores[WINDOW], WINDOW in self.pager.firing)
            for window, score in self.scores.items():
                value = math.nan if score is None else score
                self._history.append(Score(window, now, value, stage))
        while self._history and self._history[0].time < now - max(SPANS.values()):
            self._history.popleft()

    def _mature(self, now: float) -> None:
        """Pin the next baseline when it is due, when the tail would request it."""
        model, found = self._model, self._model.baseline
        if found is None or not model.settings.baseline.mature or found.stage == "weekly":
            return
        if model.maturing is not None and now < model.maturing.due_at:
            return
        scores = {name: score for name, score in self.scores.items() if score is not None}
        assert self._reference is not None
        past = _Past(model.row.model_name, self._store, self._history, self._reference)
        model.maturing, successor = succeed(found, past, scores, model.settings, now)
        if successor is not None:
            self._pin(found.version + 1, successor, now)


class _Past(NamedTuple):
    """What a store and a history have of a model, as the `Past` of its baseline."""

    model_name: str
    store: Store
    history: Sequence[Score]
    pinned: NDArray[np.void]

    def scores(self, since: float) -> Sequence[Score]:
        return self.history

    def drift_seen(self) -> LastSeen:
        return LastSeen(-math.inf, -math.inf)  # The scores show all but a rise.

    def vectors(self, start: float, end: float, most: int) -> NDArray[np.void]:
        return _rows(self.store.spread(start, end, most))

    def reference(self) -> NDArray[np.void]:
        return self.pinned


class _Recorded(NamedTuple):
    """What a history has of the window whose rise is measured, as the `Past` of that."""

    times: list[float]
    scores: list[float]
    drifted_at: list[float]

    def append(self, now: float, score: float | None, drifts: bool) -> None:
        if score is not None:
            self.times.append(now)
            self.scores.append(score)
        if drifts:
            self.drifted_at.append(now)

    def averages(self, since: float, until: float) -> dict[str, Average]:
        first, end = bisect_right(self.times, since), bisect_right(self.times, until)
        if first == end:
            return {}
        hours = len({at // 3_600 for at in self.times[first:end]})
        return {"": Average(fmean(self.scores[first:end]), hours)}

    def drifted(self, since: float, until: float) -> set[str]:
        first = bisect_left(self.drifted_at, since)
        return {""} if first < bisect_right(self.drifted_at, until) else set()

    def copy(self) -> _Recorded:
        return _Recorded(*(each.copy() for each in self))


class _Rows(NamedTuple):
    """The vectors of a store, as a `Source` of windows."""

    store: Store
    now: float

    def first_seq(self, seconds: float) -> int:
        seqs = self.store.between(self.now - seconds, self.now).seqs
        return int(seqs[0]) if len(seqs) else self.store.last_seq + 1

    def read(self, after: int, seconds: float, level: int) -> ring.Arrivals:
        rows = self.store.after(after)
        rows = rows.at((rows.times > self.now - seconds) & is_sampled(rows.seqs, level))
        cosines = np.full(len(rows.seqs), np.nan, np.float32)
        return ring.Arrivals(rows.seqs, rows.vectors, rows.times, cosines)


def _rows(stored: Stored) -> NDArray[np.void]:
    """Return rows as a read of PostgreSQL returns them."""
    rows = np.empty(len(stored.seqs), copy.row_type(stored.vectors.shape[1]))
    rows["seq"], rows["received_at"], rows["embedding"] = stored
    return rows


def _moment(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)


@dataclass
class Outcome:
    """What was paged in one stream.

    Attributes
    ----------
    days : float
    pages : list of (float, float)
        Begin and end of each page, in days after the start.
    delays : dict of str to list of (float or None)
        By kind of drift: minutes from each onset to a page; None if there was none in 24 hours.
    cpu_seconds : float
        Per simulated day, drifts included.
    """

    days: int
    pages: list[tuple[float, float]]
    delays: dict[str, list[float | None]]
    cpu_seconds: float


def simulate(
    source: Source,
    regime_name: str,
    days: int,
    seed: int,
    number: int,
    settings: Settings,
    per_minute: float | None = None,
) -> Outcome:
    """Run one stream of a regime, and inject each drift at random moments of it.

    The drift runs in a copy of the stream, so that the stream itself stays without. It begins while
    no alert fires.

    Parameters
    ----------
    source : Source
    regime_name : str
    days : int
    seed, number : int
        The same seed and number of the stream give the same outcome.
    settings : Settings
    per_minute : float, optional
        Mean rate, in place of that of the regime.
    """
    begun = time.process_time()
    regime = REGIMES[regime_name]
    if per_minute is not None:
        regime = replace(regime, per_minute=per_minute)
    random = np.random.default_rng([seed, zlib.crc32(regime_name.encode()), number])
    world = regime.world(source, random)
    traffic = _minutes(regime.arrivals(world, world.start, random), world.start)
    stream = Stream(settings, source.vectors.shape[1], world.start)
    onsets = [
        world.start + DAY * (day + float(random.uniform(0, _DRIFT_EVERY)))
        for day in range(_FIRST_DRIFT, days - _DRIFT_EVERY + 1, _DRIFT_EVERY)
    ]
    pages: list[tuple[float, float]] = []
    delays: dict[str, list[float | None]] = {kind: [] for kind in DRIFTS}
    injected = 0
    began: float | None = None
    for _ in range(round(days * DAY / MINUTE)):
        now, arrivals = next(traffic)
        stream.step(arrivals, now)
        firing = bool(stream.pager.firing)
        if firing and began is None:
            began = now
        elif not firing and began is not None:
            pages.append((began, now))
            began = None
        if onsets and now >= onsets[0] and stream.stage is not None and not firing:
            onsets.pop(0)
            injected += 1
            for kind, drift in DRIFTS.items():
                own = world.random(2, injected, zlib.crc32(kind.encode()))
                change = drift(world, own)
                hours = (change(hour) for hour in regime.arrivals(world, now, own))
                delays[kind].append(_delay(stream.fork(now), _minutes(hours, now), now))
    if began is not None:
        pages.append((began, now))
    return Outcome(
        days,
        [((begin - world.start) / DAY, (end - world.start) / DAY) for begin, end in pages],
        delays,
        (time.process_time() - begun) / days,
    )


def _delay(stream: Stream, traffic: Iterator[tuple[float, Arrivals]], onset: float) -> float | None:
    for _ in range(round(DAY / MINUTE)):
        now, arrivals = next(traffic)
        stream.step(arrivals, now)
        if stream.pager.firing:
            return (now - onset) / MINUTE
    return None


def _minutes(hours: Iterator[Arrivals], start: float) -> Iterator[tuple[float, Arrivals]]:
    """Yield the end of each minute and what arrived in it."""
    end, waiting = start, next(hours)
    while True:
        for _ in range(60):
            end += MINUTE
            cut = int(np.searchsorted(waiting.times, end))
            yield end, waiting.at(slice(cut))
            waiting = waiting.at(slice(cut, None))
        # A retry may still wait for the next hour.
        waiting = waiting.and_also(next(hours))
