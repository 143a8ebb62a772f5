"""Arrivals: when vectors arrive, and which; also how often, and of which topics."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from bench.traffic.source import Rows, Source, Vectors

Floats = NDArray[np.float64]

MINUTE, HOUR, DAY, WEEK = 60.0, 3_600.0, 86_400.0, 604_800.0


class Arrivals(NamedTuple):
    """Vectors that arrive one after another.

    Attributes
    ----------
    times : ndarray of float64, shape (n,)
        Seconds since the epoch, in order.
    vectors : ndarray of float32, shape (n, d)
    topics : ndarray of intp, shape (n,)
    """

    times: Floats
    vectors: Vectors
    topics: Rows

    def at(self, rows: slice | NDArray[np.bool_] | Rows) -> Arrivals:
        """Return some of them."""
        return Arrivals(self.times[rows], self.vectors[rows], self.topics[rows])

    def and_also(self, others: Arrivals) -> Arrivals:
        """Return both, in order of time."""
        both = Arrivals(
            np.concatenate([self.times, others.times]),
            np.concatenate([self.vectors, others.vectors]),
            np.concatenate([self.topics, others.topics]),
        )
        return both.at(np.argsort(both.times, kind="stable"))


class World:
    """What one stream is about, and stays the same for its life.

    Parameters
    ----------
    source : Source
    random : numpy.random.Generator
        Chooses everything here.
    start : float
        When the stream begins, in seconds since the epoch: a full minute.
    zone : ZoneInfo
        Where its users are.

    Attributes
    ----------
    new : ndarray of intp
        Topics that are not in its traffic until they are injected.
    shares : ndarray of float64, shape (k,)
        Usual share of each topic.
    half : ndarray of bool, shape (k,)
        Half of the topics.
    daily, weekly : ndarray of float64, shape (k,)
        Phase of the day and of the week at which a topic is frequent. Half of the topics have the
        same.
    """

    def __init__(
        self, source: Source, random: np.random.Generator, start: float, zone: ZoneInfo
    ) -> None:
        self.source = source
        self.start = start
        self.zone = zone
        topics = len(source.counts)
        large = np.flatnonzero(source.counts >= min(60, np.median(source.counts)))
        self.new = random.choice(large, max(1, min(3, topics // 4)), replace=False)
        known = source.counts * ~np.isin(np.arange(topics), self.new)
        self.shares = known / known.sum()
        self.half = random.permutation(topics) < topics // 2
        self.daily = _phases(self.half, random)
        self.weekly = _phases(self.half, random)
        self._seed = int(random.integers(2**32))

    def random(self, *number: int) -> np.random.Generator:
        """Return the generator of one thing of this world: the same number gives the same."""
        return np.random.default_rng([self._seed, *number])

    def draw(self, size: int, random: np.random.Generator) -> Rows:
        """Draw rows of the usual topics."""
        topics = random.choice(len(self.shares), size, p=self.shares)
        return self.source.rows(topics, random)

    @cached_property
    def corpus(self) -> tuple[Vectors, Rows]:
        """3,000 vectors that are sent again and again, in this order, and their topics."""
        random = self.random(0)
        rows = self.draw(3_000, random)
        return self.source.fresh(rows, random), self.source.topic[rows]

    def local(self, times: Floats) -> Floats:
        """Return times as the clocks of the users show them."""
        hours, at = np.unique(times // HOUR, return_inverse=True)
        offsets = np.array([self._offset(hour * HOUR) for hour in hours])
        local: Floats = times + offsets[at]
        return local

    def _offset(self, time: float) -> float:
        offset = datetime.fromtimestamp(time, self.zone).utcoffset()
        assert offset is not None
        return offset.total_seconds()


def _phases(half: NDArray[np.bool_], random: np.random.Generator) -> Floats:
    phases = random.uniform(0, 2 * np.pi, len(half))
    phases[half] = phases[0]
    return phases
