"""Regimes: kinds of traffic, each with what is normal in it.

All are without drift, but for the one whose ``change`` says when its traffic really changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from bench.traffic.arrivals import DAY, HOUR, MINUTE, WEEK, Arrivals, Floats, World
from bench.traffic.source import Rows, Source

Rate = Callable[[Floats], Floats]
"""Vectors a minute at times on the users' clocks, in multiples of the mean rate."""
Weights = Callable[[World, Floats], Floats]
"""Share of each topic at times, shape (n, k); need not add up to 1."""
Extra = Callable[[World, Arrivals, float, np.random.Generator], Arrivals]
"""Changes the arrivals of the hour that starts at a time."""

_LENGTHS = (20, 50)
"""Fewest and most vectors of a session."""
_MONDAY = datetime(2026, 1, 5, tzinfo=UTC).timestamp()
_UTC = ZoneInfo("UTC")


def flat(local: Floats) -> Floats:
    """Return the mean rate at any time."""
    return np.ones(len(local))


def day_and_night(local: Floats) -> Floats:
    """Return ten times as many at noon as at midnight."""
    exponent = np.log(10) / 2
    # The mean of exp(a cos t) over a turn is the modified Bessel function I0(a).
    rate: Floats = np.exp(-exponent * np.cos(2 * np.pi * local / DAY)) / np.i0(exponent)
    return rate


def working_week(local: Floats) -> Floats:
    """Return half as many at weekends."""
    return np.where(_is_weekend(local), 0.5, 1.0)


def office_hours(local: Floats) -> Floats:
    """Return nothing but from 09:00 to 18:00 on weekdays."""
    into = local % DAY
    is_open = (into >= 9 * HOUR) & (into < 18 * HOUR) & ~_is_weekend(local)
    return np.where(is_open, 7 * 24 / (5 * 9), 0.0)


def every_hour(local: Floats) -> Floats:
    """Return all of an hour in its first two minutes."""
    return np.where(local % HOUR < 2 * MINUTE, 30.0, 0.0)


def every_night(local: Floats) -> Floats:
    """Return all of a day from 02:00 to 02:30."""
    into = local % DAY - 2 * HOUR
    return np.where((into >= 0) & (into < HOUR / 2), 48.0, 0.0)


def _is_weekend(local: Floats) -> NDArray[np.bool_]:
    weekend: NDArray[np.bool_] = (local - _MONDAY) % WEEK >= 5 * DAY
    return weekend


def usual(world: World, times: Floats) -> Floats:
    """Return the same shares at any time."""
    return np.broadcast_to(world.shares, (len(times), len(world.shares)))


def seasonal(world: World, times: Floats) -> Floats:
    """Let shares swing by 20 % with the day and by 10 % with the week."""
    local = world.local(times)[:, None]
    daily = 0.2 * np.sin(2 * np.pi * local / DAY + world.daily)
    weekly = 0.1 * np.sin(2 * np.pi * local / WEEK + world.weekly)
    weights: Floats = world.shares * (1 + daily + weekly)
    return weights


def weekend(world: World, times: Floats) -> Floats:
    """Make half of the topics a third rarer at weekends."""
    rare = _is_weekend(world.local(times))[:, None] & world.half
    weights: Floats = world.shares * np.where(rare, 2 / 3, 1.0)
    return weights


def restless(world: World, times: Floats) -> Floats:
    """Let the logarithm of each share vary by 0.1, independently at each midnight."""
    day, part = np.divmod(world.local(times) / DAY, 1)
    first, turn = int(day.min()), np.pi / 2 * part[:, None]
    levels = np.array(
        [
            world.random(3, number).normal(size=len(world.shares))
            for number in range(first, int(day.max()) + 2)
        ]
    )
    at = day.astype(np.intp) - first
    # The squares of sine and cosine sum to 1, so the variance is the same at any hour.
    level = np.cos(turn) * levels[at] + np.sin(turn) * levels[at + 1]
    weights: Floats = world.shares * np.exp(0.1 * level)
    return weights


CAMPAIGN = (8.0, 15.0)
"""When the campaign runs, in days after the start."""


def campaign(world: World, times: Floats) -> Floats:
    """Let a new topic grow to 15 % within a day, and go within a day."""
    day = (times - world.start) / DAY
    share = 0.15 * np.clip(np.minimum(day - CAMPAIGN[0], CAMPAIGN[1] - day), 0, 1)[:, None]
    new = np.arange(len(world.shares)) == world.new[0]
    weights: Floats = world.shares * (1 - share) + new * share
    return weights


def gaps(world: World, hour: Arrivals, start: float, random: np.random.Generator) -> Arrivals:
    """Drop what arrives from 10:00 to 12:00 on every third day, while a release is deployed."""
    day, second = np.divmod(world.local(hour.times) - _MONDAY, DAY)
    return hour.at(~((day % 3 == 1) & (second // HOUR >= 10) & (second // HOUR < 12)))


def retries(world: World, hour: Arrivals, start: float, random: np.random.Generator) -> Arrivals:
    """Let a client send a vector 5 to 50 times within half a minute, six times a day."""
    sent = hour
    for row in random.integers(len(hour.times), size=random.poisson(6 / 24)):
        copies = hour.at(np.full(random.integers(4, 50), row))
        later = random.uniform(0, 30, len(copies.times))
        sent = sent.and_also(copies._replace(times=copies.times + later))
    return sent


def bursts(world: World, hour: Arrivals, start: float, random: np.random.Generator) -> Arrivals:
    """Let one vector in 35 begin a session, and nothing arrive besides: as many at the mean rate.

    The vectors of a session follow one another after 20 seconds, in the mean.
    """
    sent = hour.at(np.empty(0, np.intp))
    for first in np.flatnonzero(random.random(len(hour.times)) < 1 / np.mean(_LENGTHS)):
        [row] = world.source.rows(hour.topics[[first]], random)
        rows = _session(int(row), world.source, random)
        times = hour.times[first] + np.cumsum(random.exponential(20, len(rows)))
        session = Arrivals(times, world.source.fresh(rows, random), world.source.topic[rows])
        sent = sent.and_also(session)
    return sent


def popular(world: World, hour: Arrivals, start: float, random: np.random.Generator) -> Arrivals:
    """Make a quarter of the queries popular ones: 500 by Zipf's law, a tenth of them new each day.

    The most popular makes up 3.7 % of the traffic.
    """
    asked = np.flatnonzero(random.random(len(hour.times)) < 0.25)
    ranks = np.arange(1, 501)
    rank = random.choice(len(ranks), len(asked), p=1 / ranks / (1 / ranks).sum())
    # Each rank is taken over by another query every tenth day.
    renewed = ((hour.times[asked] // DAY).astype(np.intp) + rank) // 10
    for number in np.unique(renewed):
        chosen = renewed == number
        bank = world.random(1, int(number))
        rows = world.draw(len(ranks), bank)
        hour.vectors[asked[chosen]] = world.source.fresh(rows, bank)[rank[chosen]]
        hour.topics[asked[chosen]] = world.source.topic[rows][rank[chosen]]
    return hour


def questions(world: World, hour: Arrivals, start: float, random: np.random.Generator) -> Arrivals:
    """Make nine of ten queries one of 40 questions, by Zipf's law, which are always the same."""
    asked = np.flatnonzero(random.random(len(hour.times)) < 0.9)
    ranks, bank = np.arange(1, 41), world.random(4)
    rows = world.draw(len(ranks), bank)
    chosen = random.choice(len(ranks), len(asked), p=1 / ranks / (1 / ranks).sum())
    hour.vectors[asked] = world.source.fresh(rows, bank)[chosen]
    hour.topics[asked] = world.source.topic[rows][chosen]
    return hour


def probe(world: World, hour: Arrivals, start: float, random: np.random.Generator) -> Arrivals:
    """Send the same vector every minute, beside users that come and go: a check of health."""
    bank = world.random(5)
    rows = np.repeat(world.draw(1, bank), 60)
    vectors = np.repeat(world.source.fresh(rows[:1], bank), 60, axis=0)
    times: Floats = start + MINUTE * (0.5 + np.arange(60.0))
    return hour.and_also(Arrivals(times, vectors, world.source.topic[rows]))


def turns(world: World, hour: Arrivals, start: float, random: np.random.Generator) -> Arrivals:
    """Let vectors of two halves of the topics alternate, as titles and bodies do."""
    for first, of_half in ((0, world.half), (1, ~world.half)):
        at = np.arange(first, len(hour.times), 2)
        weights = np.broadcast_to(world.shares * of_half, (len(at), len(world.shares)))
        rows = world.source.rows(_topics(weights, random), random)
        hour.vectors[at] = world.source.fresh(rows, random)
        hour.topics[at] = world.source.topic[rows]
    return hour


def reindex(world: World, hour: Arrivals, start: float, random: np.random.Generator) -> Arrivals:
    """Embed the corpus in the first hour, and again every night from 02:00 to 03:00."""
    vectors, topics = world.corpus
    nights = start - start % DAY + 2 * HOUR + DAY * np.arange(-1, 2)
    for begin in (world.start, *nights):
        times = begin + HOUR * np.arange(len(vectors)) / len(vectors)
        now = (times >= start) & (times < start + HOUR)
        hour = hour.and_also(Arrivals(times[now], vectors[now], topics[now]))
    return hour


@dataclass(frozen=True)
class Regime:
    """A kind of traffic.

    Attributes
    ----------
    about : str
    per_minute : float
        Mean rate.
    rate : Rate
    weights : Weights
    users : int
        Whose sessions are interleaved; 0 for vectors that arrive independently.
    extra : Extra or None
    zone : ZoneInfo
        Of the users.
    start : tuple of two floats
        The stream begins at any minute between, in seconds since the epoch.
    change : tuple of two floats, or None
        When the traffic really changes, in days after the start.
    """

    about: str
    per_minute: float = 17
    rate: Rate = flat
    weights: Weights = usual
    users: int = 0
    extra: Extra | None = None
    zone: ZoneInfo = _UTC
    start: tuple[float, float] = (_MONDAY, _MONDAY + WEEK)
    change: tuple[float, float] | None = None

    def world(self, source: Source, random: np.random.Generator) -> World:
        """Make the world of a stream."""
        start = random.uniform(*self.start)
        return World(source, random, start - start % MINUTE, self.zone)

    def arrivals(
        self, world: World, start: float, random: np.random.Generator
    ) -> Iterator[Arrivals]:
        """Yield what arrives from a time on, hour by hour, without end."""
        sessions: list[list[int]] = [[] for _ in range(self.users)]
        while True:
            times = self._times(world, start, random)
            topics = _topics(self.weights(world, times), random)
            rows = world.source.rows(topics, random)
            if sessions:
                rows = _in_sessions(sessions, rows, world.source, random)
            hour = Arrivals(times, world.source.fresh(rows, random), world.source.topic[rows])
            yield hour if self.extra is None else self.extra(world, hour, start, random)
            start += HOUR

    def _times(self, world: World, start: float, random: np.random.Generator) -> Floats:
        minutes: Floats = start + MINUTE * np.arange(60.0)
        expected = self.per_minute * self.rate(world.local(minutes))
        begun = np.repeat(minutes, random.poisson(expected))
        return np.sort(begun + MINUTE * random.random(len(begun)))


def _topics(weights: Floats, random: np.random.Generator) -> Rows:
    """Draw a topic by each row of weights."""
    edges = np.cumsum(weights, axis=1)
    drawn = random.random((len(weights), 1)) * edges[:, -1:]
    return np.asarray((edges <= drawn).sum(axis=1), dtype=np.intp)


def _session(row: int, source: Source, random: np.random.Generator) -> Rows:
    """Draw what a user sends in a session that begins at a row: 20 to 50 near neighbours."""
    least, most = _LENGTHS
    return source.near(row, int(random.integers(least, most + 1)), random)


def _in_sessions(
    sessions: list[list[int]], rows: Rows, source: Source, random: np.random.Generator
) -> Rows:
    """Let each arrival continue the session of a random user; a new one begins with its row.

    A session is the list of rows that its user will still send.
    """
    found = np.empty_like(rows)
    users = random.integers(len(sessions), size=len(rows))
    for at, user in enumerate(users.tolist()):
        session = sessions[user]
        if not session:
            session += _session(int(rows[at]), source, random).tolist()
        found[at] = session.pop()
    return found


_BERLIN = ZoneInfo("Europe/Berlin")
_SPRING = datetime(2026, 3, 21, tzinfo=_BERLIN).timestamp()
_SATURDAY = _MONDAY + 5 * DAY

REGIMES = {
    "independent": Regime("independent vectors"),
    "volume": Regime("ten times as many vectors by day as by night", rate=day_and_night),
    "seasonal-1": Regime("topics follow day and week", per_minute=1, weights=seasonal),
    "seasonal-17": Regime("topics follow day and week", weights=seasonal),
    "seasonal-60": Regime("topics follow day and week", per_minute=60, weights=seasonal),
    "one-user": Regime("one user's sessions after another", users=1),
    "eight-users": Regime("eight users' sessions interleaved", users=8),
    "bursts": Regime("sessions of some minutes, as users come", extra=bursts),
    "reindex": Regime("the same corpus is embedded every night", extra=reindex),
    "popular": Regime("popular queries, by Zipf's law", extra=popular),
    "questions": Regime("nine of ten queries are one of 40 questions", extra=questions),
    "probe": Regime(
        "the same vector every minute, and five others by day and night",
        per_minute=5,
        rate=day_and_night,
        extra=probe,
    ),
    "turns": Regime("vectors of two kinds alternate", extra=turns),
    "retries": Regime("clients send a vector 5 to 50 times", extra=retries),
    "restless": Regime("topics vary from day to day, by chance", weights=restless),
    "campaign": Regime("a topic comes for a week", weights=campaign, change=CAMPAIGN),
    "deploy": Regime("gaps of two hours", extra=gaps),
    "office": Regime(
        "vectors come in office hours only, and topics follow day and week",
        rate=office_hours,
        weights=seasonal,
        start=(_MONDAY + 9 * HOUR, _MONDAY + 15 * HOUR),
    ),
    "hourly": Regime("a job sends what an hour brings at once", rate=every_hour),
    "nightly": Regime(
        "a job sends what a day brings in half an hour of the night",
        per_minute=5,
        rate=every_night,
        start=(_MONDAY + 2 * HOUR, _MONDAY + 2 * HOUR),
    ),
    "weekend": Regime(
        "the stream begins on a Saturday; half of the topics are rarer at weekends",
        rate=working_week,
        weights=weekend,
        start=(_SATURDAY, _SATURDAY + DAY / 2),
    ),
    "clock-change": Regime(
        "topics follow day and week on clocks that change after eight days",
        weights=seasonal,
        zone=_BERLIN,
        start=(_SPRING, _SPRING + DAY),
    ),
}
