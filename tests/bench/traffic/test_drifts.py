"""Drifts change what they say, by as much as they say, and the same at any time."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from bench.traffic.arrivals import Arrivals, World
from bench.traffic.drifts import DRIFTS
from bench.traffic.regimes import REGIMES
from bench.traffic.source import Source


@pytest.fixture
def world(source: Source) -> World:
    return REGIMES["independent"].world(source, np.random.default_rng(0))


@pytest.fixture
def hours(world: World) -> list[Arrivals]:
    random = np.random.default_rng(1)
    return list(islice(REGIMES["independent"].arrivals(world, world.start, random), 20))


def drifted(kind: str, world: World, hours: list[Arrivals]) -> list[Arrivals]:
    change = DRIFTS[kind](world, np.random.default_rng(2))
    return [change(hour) for hour in hours]


@pytest.mark.parametrize("kind", DRIFTS)
def test_a_drift_leaves_times_and_what_it_was_given(
    kind: str, world: World, hours: list[Arrivals]
) -> None:
    before = [hour.vectors.copy() for hour in hours]
    after = drifted(kind, world, hours)
    assert all((hour.vectors == was).all() for hour, was in zip(hours, before, strict=True))
    assert all((a.times == b.times).all() for a, b in zip(after, hours, strict=True))
    assert all(a.vectors.dtype == np.float32 for a in after)
    assert any((a.vectors != b.vectors).any() for a, b in zip(after, hours, strict=True))


def test_a_rotation_keeps_all_angles_within_and_between_hours(
    world: World, hours: list[Arrivals]
) -> None:
    after = drifted("rotation", world, hours)
    before = hours[0].vectors @ hours[5].vectors.T
    assert np.allclose(after[0].vectors @ after[5].vectors.T, before, atol=1e-5)
    assert np.abs(after[0].vectors - hours[0].vectors).mean() > 0.1


def test_a_scale_multiplies(world: World, hours: list[Arrivals]) -> None:
    after = drifted("scale 1.05", world, hours)[0]
    assert np.allclose(after.vectors, 1.05 * hours[0].vectors)


@pytest.mark.parametrize("percent", [5, 10, 25])
def test_a_new_topic_has_its_share(percent: int, world: World, hours: list[Arrivals]) -> None:
    after = drifted(f"topic {percent} %", world, hours)
    topics = np.concatenate([hour.topics for hour in after])
    is_new = np.isin(topics, world.new)
    assert is_new.mean() == pytest.approx(percent / 100, rel=0.1)
    assert len(set(topics[is_new])) == 1
    changed = np.concatenate(
        [(a.vectors != b.vectors).any(axis=1) for a, b in zip(after, hours, strict=True)]
    )
    assert (changed == is_new).all()


def test_the_odds_of_half_of_the_topics_double(world: World, hours: list[Arrivals]) -> None:
    def shares(arrivals: list[Arrivals]) -> np.ndarray:
        topics = np.concatenate([hour.topics for hour in arrivals])
        return np.bincount(topics, minlength=8) / len(topics)

    changed = drifted("odds x2", world, hours)
    before, after = shares(hours), shares(changed)
    grown = after > before
    kept = grown[hours[0].topics]
    assert (changed[0].vectors[kept] == hours[0].vectors[kept]).all()
    assert grown.sum() == 3
    odds = [share[grown].sum() / share[~grown].sum() for share in (before, after)]
    assert odds[1] / odds[0] == pytest.approx(2, rel=0.05)
    # Within a half, the proportions stay.
    assert after[grown] / after[grown].sum() == pytest.approx(
        before[grown] / before[grown].sum(), abs=0.02
    )
