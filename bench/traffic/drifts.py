"""Drifts that are injected into a stream."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from bench.traffic.arrivals import Arrivals, World

Change = Callable[[Arrivals], Arrivals]
"""What happens to the arrivals."""
Drift = Callable[[World, np.random.Generator], Change]
"""Chooses the direction, topic or topics once, so that they stay the same while it lasts."""


def rotation(world: World, random: np.random.Generator) -> Change:
    """Rotate all vectors, like another encoder of the same geometry."""
    dimension = world.source.vectors.shape[1]
    turn = np.linalg.qr(random.normal(size=(dimension, dimension)))[0].astype(np.float32)
    return lambda arrivals: arrivals._replace(vectors=arrivals.vectors @ turn)


def scale(world: World, random: np.random.Generator, factor: float) -> Change:
    """Multiply all vectors by a factor."""
    return lambda arrivals: arrivals._replace(vectors=arrivals.vectors * np.float32(factor))


def new_topic(world: World, random: np.random.Generator, share: float) -> Change:
    """Replace a share of the vectors by ones of a topic that the stream never had."""
    topic = random.choice(world.new)

    def change(arrivals: Arrivals) -> Arrivals:
        chosen = random.random(len(arrivals.times)) < share
        return _replaced(world, arrivals, chosen, np.full(chosen.sum(), topic), random)

    return change


def odds(world: World, random: np.random.Generator) -> Change:
    """Double the odds of half of the topics that the stream has."""
    known = random.permutation(np.flatnonzero(world.shares))
    half = np.zeros(len(world.shares), bool)
    half[known[: len(known) // 2]] = True
    usual = float(world.shares[half].sum())
    shares = world.shares * half / usual

    def change(arrivals: Arrivals) -> Arrivals:
        # Of the other half, usual / (1 + usual) go over: then the odds are 2 usual / (1 - usual).
        goes_over = random.random(len(arrivals.times)) < usual / (1 + usual)
        chosen = ~half[arrivals.topics] & goes_over
        topics = random.choice(len(shares), chosen.sum(), p=shares)
        return _replaced(world, arrivals, chosen, topics, random)

    return change


def _replaced(
    world: World,
    arrivals: Arrivals,
    chosen: np.ndarray,
    topics: np.ndarray,
    random: np.random.Generator,
) -> Arrivals:
    rows = world.source.rows(topics, random)
    vectors, labels = arrivals.vectors.copy(), arrivals.topics.copy()
    vectors[chosen], labels[chosen] = world.source.fresh(rows, random), topics
    return arrivals._replace(vectors=vectors, topics=labels)


DRIFTS: dict[str, Drift] = {
    "rotation": rotation,
    "scale 1.05": partial(scale, factor=1.05),
    "topic 25 %": partial(new_topic, share=0.25),
    "topic 10 %": partial(new_topic, share=0.10),
    "topic 5 %": partial(new_topic, share=0.05),
    "odds x2": odds,
}
