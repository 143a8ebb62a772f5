"""A map of the baseline stays; a window is placed on it, and shrunk groups are ringed."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.explain.explanation import Explanation, explain
from exporter.explain.map import Map, draw
from exporter.explain.observations import Observations
from tests.exporter.explain.space import KNOWN, drawing

NEW = 20
WORDS = ("apple", "bread", "chalk", "drums")


class Drawn(NamedTuple):
    """A map and what it was drawn from."""

    detector: Detector
    baseline: Observations
    window: Observations
    topic: NDArray[np.intp]
    found: Explanation
    map: Map


def observed(topics: NDArray[np.intp], seed: int) -> Observations:
    draw_topic = drawing(seed)
    vectors = np.concatenate([draw_topic([topic], 1) for topic in topics.tolist()])
    metadata = [
        {"text": f"topic{chr(97 + topic)} {WORDS[row % len(WORDS)]}"}
        for row, topic in enumerate(topics.tolist())
    ]
    return Observations(vectors, metadata)


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    """A window in which a fifth of the vectors are of a new topic, and one topic has vanished."""
    random = np.random.default_rng(0)
    baseline = observed(random.permutation(np.repeat(KNOWN, 75)), 0)
    topic = random.permutation(np.concatenate([np.full(100, NEW), random.choice(KNOWN[1:], 400)]))
    window = observed(topic, 1)
    detector = Detector.fit(baseline.vectors)
    found = explain(detector, baseline, window)
    return Drawn(detector, baseline, window, topic, found, draw(detector, baseline, window, found))


def test_a_vector_lies_among_those_of_its_topic(drawn: Drawn) -> None:
    shown = drawn.map.rows
    known = np.flatnonzero(drawn.topic[shown] != NEW)
    middles = {
        topic: np.median(drawn.map.window[drawn.topic[shown] == topic], axis=0)
        for topic in KNOWN[1:]
    }
    apart = [
        np.linalg.norm(drawn.map.window[at] - middles[int(drawn.topic[shown][at])]) for at in known
    ]
    assert np.median(apart) < 0.1


def test_all_vectors_lie_within_the_map_and_the_examples_of_groups_are_among_them(
    drawn: Drawn,
) -> None:
    assert len(drawn.map.baseline) == 600
    assert 250 <= len(drawn.map.rows) <= 300
    for positions in (drawn.map.baseline, drawn.map.window):
        assert np.linalg.norm(positions, axis=1).max() <= 1 + 1e-5
    for group in drawn.found.groups:
        if group.change == "grown":
            assert np.isin(group.examples, drawn.map.rows).all()


def test_a_later_map_of_the_same_baseline_has_the_same_positions(drawn: Drawn) -> None:
    other = observed(np.resize(KNOWN, 300), 2)
    found = explain(drawn.detector, drawn.baseline, other)
    later = draw(drawn.detector, drawn.baseline, other, found, drawn.map.baseline)
    assert later.baseline is drawn.map.baseline
    # What was kept of a baseline of another size is not used.
    fewer = draw(drawn.detector, drawn.baseline, other, found, drawn.map.baseline[:100])
    np.testing.assert_array_equal(fewer.baseline, drawn.map.baseline)


def test_a_vanished_topic_is_ringed_where_it_was(drawn: Drawn) -> None:
    shrunk = [group for group in drawn.found.groups if group.change == "shrunk"]
    assert "topica" in {group.keywords[0] for group in shrunk}
    assert [ring.name for ring in drawn.map.rings] == [group.id for group in shrunk]
    [ring] = drawn.map.rings
    inside = np.linalg.norm(drawn.map.baseline - [ring.x, ring.y], axis=1) <= ring.radius
    assert 0.02 < inside.mean() < 0.1


def test_a_group_is_ringed_if_the_map_shows_none_of_its_rows(drawn: Drawn) -> None:
    shown = np.linspace(0, len(drawn.baseline) - 1, len(drawn.map.baseline)).astype(np.intp)
    unseen = tuple(
        replace(group, rows=np.setdiff1d(group.rows, shown)) for group in drawn.found.groups
    )
    found = replace(drawn.found, groups=unseen)
    again = draw(drawn.detector, drawn.baseline, drawn.window, found, drawn.map.baseline)
    assert again.rings == drawn.map.rings


def test_parts_of_the_map_have_the_words_of_their_texts(drawn: Drawn) -> None:
    names = {region.name for region in drawn.map.regions}
    assert len(names) >= 6
    assert all(name.startswith("topic") for name in names)
    bare = Observations(drawn.baseline.vectors)
    assert draw(drawn.detector, bare, drawn.window, drawn.found, drawn.map.baseline).regions == ()
