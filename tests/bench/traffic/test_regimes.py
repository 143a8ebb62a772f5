"""Each regime has the rates, the seasons, the repeats and the sessions that it promises."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice

import numpy as np
import pytest

from bench.traffic.arrivals import DAY, HOUR, MINUTE, WEEK, Arrivals, World
from bench.traffic.regimes import REGIMES, campaign, popular, restless, retries, seasonal
from bench.traffic.source import Source

QUIET = [name for name, regime in REGIMES.items() if regime.change is None]


def world_of(name: str, source: Source, seed: int = 0) -> World:
    return REGIMES[name].world(source, np.random.default_rng(seed))


def traffic(name: str, source: Source, hours: int, seed: int = 0) -> tuple[World, Arrivals]:
    """Return the first hours of a stream."""
    random = np.random.default_rng(seed)
    world = REGIMES[name].world(source, random)
    chunks = list(islice(REGIMES[name].arrivals(world, world.start, random), hours))
    return world, Arrivals(*(np.concatenate(column) for column in zip(*chunks, strict=True)))


def copies(arrivals: Arrivals) -> np.ndarray:
    """Return how often each vector occurs, most frequent first."""
    return np.sort(np.unique(arrivals.vectors, axis=0, return_counts=True)[1])[::-1]


@pytest.mark.parametrize("name", REGIMES)
def test_vectors_arrive_in_order_from_a_full_minute_on(name: str, source: Source) -> None:
    world, found = traffic(name, source, hours=3)
    assert world.start % 60 == 0
    assert found.times[0] >= world.start
    if name == "bursts":
        return  # Its sessions go on in the next hour.
    # A retry may come after the end of its hour.
    assert found.times[-1] < world.start + 3 * HOUR + 30
    if name != "retries":
        assert (np.diff(found.times) >= 0).all()
    assert found.vectors.dtype == np.float32
    assert np.isfinite(found.vectors).all()


@pytest.mark.parametrize("name", REGIMES)
def test_the_same_seed_gives_the_same_traffic(name: str, source: Source) -> None:
    first, again = (traffic(name, source, hours=2, seed=4)[1] for _ in range(2))
    other = traffic(name, source, hours=2, seed=5)[1]
    assert (first.vectors == again.vectors).all()
    assert (first.times == again.times).all()
    assert first.vectors.shape != other.vectors.shape or (first.vectors != other.vectors).any()


@pytest.mark.parametrize("name", QUIET)
def test_new_topics_are_in_no_traffic_without_drift(name: str, source: Source) -> None:
    world, found = traffic(name, source, hours=24)
    assert len(world.new) == 2
    assert set(found.topics) == set(range(8)) - set(world.new)


@pytest.mark.parametrize(
    ("name", "expected"), [("seasonal-1", 1), ("independent", 17), ("seasonal-60", 60)]
)
def test_as_many_arrive_as_the_rate_says(name: str, expected: int, source: Source) -> None:
    _, found = traffic(name, source, hours=48)
    assert len(found.times) / 48 / 60 == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize(
    ("name", "every", "first", "last", "expected"),
    [("hourly", HOUR, 0, 120, 17 * 60), ("nightly", DAY, 7_200, 9_000, 5 * 60 * 24)],
)
def test_a_job_sends_in_a_short_time_what_a_longer_one_brings(
    name: str, every: float, first: float, last: float, expected: int, source: Source
) -> None:
    _, found = traffic(name, source, hours=48)
    into = found.times % every
    assert ((into >= first) & (into < last)).all()
    assert len(found.times) * every / (48 * HOUR) == pytest.approx(expected, rel=0.05)


def test_an_office_sends_on_weekdays_from_nine_to_six(source: Source) -> None:
    _, found = traffic("office", source, hours=7 * 24)
    hours = found.times % DAY // HOUR
    assert set(hours) == set(range(9, 18))
    # The epoch began on a Thursday.
    assert set((found.times // DAY + 3) % 7) == set(range(5))
    assert len(found.times) / WEEK * MINUTE == pytest.approx(17, rel=0.02)


@pytest.mark.parametrize("name", ["independent", "seasonal-17", "volume", "eight-users"])
def test_vectors_do_not_repeat(name: str, source: Source) -> None:
    assert copies(traffic(name, source, hours=24)[1])[0] == 1


def test_ten_times_as_many_arrive_at_noon_as_at_midnight(source: Source) -> None:
    _, found = traffic("volume", source, hours=48)
    by_hour = np.histogram(found.times % DAY // HOUR, range(25))[0]
    assert by_hour[[11, 12]].sum() / by_hour[[23, 0]].sum() == pytest.approx(10, rel=0.2)
    assert by_hour.sum() / 2_880 == pytest.approx(17, rel=0.05)


def test_topics_swing_by_a_fifth_with_the_day_and_a_tenth_with_the_week(source: Source) -> None:
    world = world_of("seasonal-17", source)
    times = np.arange(0, WEEK, HOUR)
    swing = seasonal(world, times) / np.where(world.shares, world.shares, np.nan)
    waves = np.abs(np.fft.rfft(swing - 1, axis=0)) / len(times) * 2
    kept = np.isfinite(waves[0])
    assert waves[7, kept] == pytest.approx(np.full(kept.sum(), 0.2))
    assert waves[1, kept] == pytest.approx(np.full(kept.sum(), 0.1))
    waves[[1, 7]] = 0
    assert waves[:, kept].max() < 1e-9


def test_restless_topics_differ_by_a_tenth_from_day_to_day_and_change_slowly(
    source: Source,
) -> None:
    world = world_of("restless", source)
    times = np.arange(0, 100 * WEEK, HOUR)
    kept = world.shares > 0
    level = np.log(restless(world, times)[:, kept] / world.shares[kept])
    assert np.abs(np.diff(level, axis=0)).max() < 0.06
    for hour in (0, 7, 12):
        assert level[hour::24].std() == pytest.approx(0.1, rel=0.05)
    days = level[12::24]
    # Of noon and noon, half of the variance is that of the midnight between.
    assert np.corrcoef(days[1:, 0], days[:-1, 0])[0, 1] == pytest.approx(0.5, abs=0.1)
    assert np.corrcoef(days[7:, 0], days[:-7, 0])[0, 1] == pytest.approx(0, abs=0.1)
    assert np.corrcoef(days[:, 0], days[:, 1])[0, 1] == pytest.approx(0, abs=0.1)
    np.testing.assert_allclose(restless(world, times[30:50]), restless(world, times)[30:50])


def test_half_of_the_topics_swing_together_and_the_others_by_themselves(source: Source) -> None:
    world = world_of("seasonal-17", source)
    for phases in (world.daily, world.weekly):
        assert len(set(phases[world.half])) == 1
        assert len(set(phases[~world.half])) == 4
    assert world.half.sum() == 4


def test_arrivals_follow_the_weights(source: Source) -> None:
    world, found = traffic("seasonal-17", source, hours=14 * 24)
    together = np.isin(found.topics, np.flatnonzero(world.half))
    by_hour = [together[found.times % DAY // HOUR == hour].mean() for hour in range(24)]
    at = seasonal(world, np.arange(0, 2 * WEEK, HOUR))
    expected = at[:, world.half].sum(axis=1) / at.sum(axis=1)
    expected = expected.reshape(14, 24).mean(axis=0)
    assert by_hour == pytest.approx(expected, abs=0.03)
    assert np.ptp(by_hour) > 0.05


def similarity(arrivals: Arrivals, lag: int) -> float:
    """Return the mean cosine of vectors some arrivals apart."""
    return float((arrivals.vectors[lag:] * arrivals.vectors[:-lag]).sum(axis=1).mean())


def test_sessions_hold_20_to_50_vectors_of_one_topic(source: Source) -> None:
    _, found = traffic("one-user", source, hours=24)
    ends = np.flatnonzero(np.diff(found.topics))
    # Two sessions in a row may have the same topic.
    assert np.diff(ends).min() >= 20
    assert np.median(np.diff(ends)) == pytest.approx(36, abs=8)
    usual = traffic("independent", source, hours=24)[1]
    assert similarity(found, lag=1) > similarity(usual, lag=1) + 0.3
    assert similarity(found, lag=60) == pytest.approx(similarity(usual, lag=60), abs=0.03)


def test_eight_sessions_are_interleaved(source: Source) -> None:
    _, found = traffic("eight-users", source, hours=24)
    same = np.mean([(found.topics[lag:] == found.topics[:-lag]).mean() for lag in range(1, 9)])
    usual = 1 / 6
    # An eighth of the neighbours is of the same user, and most of those of the same session.
    assert same == pytest.approx(usual + (1 - usual) / 8 * 0.88, abs=0.03)


def test_bursts_are_sessions_of_one_topic_within_minutes(source: Source) -> None:
    _, found = traffic("bursts", source, hours=5 * 24)
    assert len(found.times) / (5 * 24 * 60) == pytest.approx(17, rel=0.1)
    # As many sessions begin at random, and each lasts for 11 minutes, in the mean.
    regime = replace(REGIMES["bursts"], per_minute=0.1)
    world, random = world_of("bursts", source), np.random.default_rng(1)
    hours = list(islice(regime.arrivals(world, world.start, random), 10 * 24))
    rare = Arrivals(*(np.concatenate(column) for column in zip(*hours, strict=True)))
    rare = rare.at(np.argsort(rare.times))
    sessions = np.split(rare.topics, np.flatnonzero(np.diff(rare.times) > 600) + 1)
    alone = [session for session in sessions if len(session) <= 50]
    assert len(alone) > 20
    assert min(map(len, alone)) >= 20
    assert all(len(set(session.tolist())) == 1 for session in alone)


def test_the_corpus_is_sent_in_the_first_hour_and_every_night(source: Source) -> None:
    world, found = traffic("reindex", source, hours=72)
    repeated = copies(found)
    assert (repeated > 1).sum() == 3_000
    assert set(repeated[:3_000]) == {4}
    corpus = {vector.tobytes() for vector in world.corpus[0]}
    again = np.array([vector.tobytes() in corpus for vector in found.vectors])
    later = found.times[again & (found.times > world.start + HOUR)]
    assert set(later % DAY // HOUR) == {2}


def test_a_quarter_of_the_queries_are_popular_ones(source: Source) -> None:
    world, found = traffic("popular", source, hours=24)
    day = found.at(found.times // DAY == found.times[0] // DAY + (world.start % DAY > DAY / 2))
    repeated = copies(day)
    assert repeated[0] / len(day.times) == pytest.approx(0.25 / 6.79, rel=0.2)
    assert repeated[repeated > 1].sum() / len(day.times) == pytest.approx(0.24, abs=0.02)


def test_a_tenth_of_the_popular_queries_is_new_each_day(source: Source) -> None:
    random = np.random.default_rng(0)
    world = world_of("popular", source)
    seen = []
    for day in (0, DAY):
        rows = np.zeros(200_000, np.intp)
        usual = Arrivals(np.full(200_000, day), source.vectors[rows], source.topic[rows])
        asked = popular(world, usual, day, random)
        seen.append({vector.tobytes() for vector in np.unique(asked.vectors, axis=0)})
        assert set(asked.topics) == set(range(8)) - set(world.new)
    # The 501st is what is not popular.
    assert [len(vectors) for vectors in seen] == [501, 501]
    assert len(seen[0] & seen[1]) == 451


def test_nine_of_ten_queries_are_one_of_40_questions(source: Source) -> None:
    _, found = traffic("questions", source, hours=24)
    repeated = copies(found)
    assert (repeated > 1).sum() == 40
    assert repeated[:40].sum() / len(found.times) == pytest.approx(0.9, abs=0.02)
    assert repeated[0] / len(found.times) == pytest.approx(0.9 / 4.28, rel=0.1)


def test_a_probe_comes_every_minute_whoever_else_comes(source: Source) -> None:
    _, found = traffic("probe", source, hours=24)
    repeated = copies(found)
    assert (repeated[0], repeated[1]) == (24 * 60, 1)
    hours = np.bincount((found.times // HOUR % 24).astype(int)) - 60
    assert hours[12] > 5 * hours[0]


def test_two_halves_of_the_topics_take_turns(source: Source) -> None:
    world, found = traffic("turns", source, hours=1)
    is_first = world.half[found.topics]
    assert is_first[::2].all()
    assert not is_first[1::2].any()


def test_retries_are_bursts_of_5_to_50_within_half_a_minute(source: Source) -> None:
    random = np.random.default_rng(0)
    world, hour = traffic("independent", source, hours=1)
    bursts = []
    for _ in range(2_000):
        sent = retries(world, hour, world.start, random)
        _, at, count = np.unique(sent.vectors, axis=0, return_inverse=True, return_counts=True)
        for burst in np.flatnonzero(count > 1):
            bursts.append(count[burst])
            assert np.ptp(sent.times[at == burst]) < 30
            assert len(set(sent.topics[at == burst])) == 1
    assert len(bursts) / 2_000 == pytest.approx(6 / 24, rel=0.15)
    assert (min(bursts), max(bursts)) == (5, 50)


def test_a_campaign_brings_a_topic_for_a_week_and_takes_it_away(source: Source) -> None:
    world = world_of("campaign", source)
    days = np.array([0, 8, 8.5, 9, 12, 14.5, 15, 20])
    weights = campaign(world, world.start + days * DAY)
    assert weights[:, world.new[0]] == pytest.approx(
        np.array([0, 0, 0.075, 0.15, 0.15, 0.075, 0, 0])
    )
    assert weights.sum(axis=1) == pytest.approx(np.ones(8))
    assert REGIMES["campaign"].change == (8, 15)


def test_a_deployment_lasts_two_hours_on_every_third_day(source: Source) -> None:
    _, found = traffic("deploy", source, hours=10 * 24)
    gaps = np.flatnonzero(np.diff(found.times) > HOUR)
    assert np.diff(found.times)[gaps] == pytest.approx(2 * HOUR, abs=60)
    assert np.diff(found.times[gaps]) == pytest.approx(3 * DAY, abs=60)
    assert set(found.times[gaps] % DAY // HOUR) == {9}


def test_the_weekend_stream_begins_on_a_saturday_and_changes_on_monday(source: Source) -> None:
    world, found = traffic("weekend", source, hours=72)
    assert datetime.fromtimestamp(world.start, UTC).weekday() == 5
    monday = np.array([datetime.fromtimestamp(t, UTC).weekday() == 0 for t in found.times])
    rare = world.half[found.topics]
    assert rare[monday].mean() / rare[~monday].mean() > 1.1
    assert monday.sum() / DAY * 60 == pytest.approx(17, rel=0.05)
    sunday = found.times[found.times < found.times[monday][0]]
    assert len(sunday) / np.ptp(sunday) * 60 == pytest.approx(8.5, rel=0.05)


def test_the_users_clock_changes_after_eight_days(source: Source) -> None:
    world = world_of("clock-change", source)
    days = world.start + DAY * np.arange(12.0)
    offsets = world.local(days) - days
    assert set(offsets) == {HOUR, 2 * HOUR}
    changed = int(np.argmax(offsets == 2 * HOUR))
    assert changed in (8, 9)
    assert REGIMES["clock-change"].weights is seasonal
    noon = seasonal(world, np.array([days[0], days[0] + 2 * WEEK - HOUR]))
    assert noon[0] == pytest.approx(noon[1])
