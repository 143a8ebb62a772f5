"""An explanation says how much changed, which groups did, what they are, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from exporter.detector import Detector
from exporter.explain.explanation import Explanation, explain
from exporter.explain.observations import Observations
from tests.exporter.explain.space import KNOWN, Draw, Vectors

WORDS = ("apple", "bread", "chalk", "drums", "eagle", "fence", "glass", "horse")


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


def labelled(vectors: Vectors, topics: Sequence[int], random: np.random.Generator) -> Observations:
    """Give each vector a text about its topic, a language and an id."""
    metadata = [
        {
            "text": f"topic{chr(97 + topic)} and {random.choice(WORDS)} by {random.choice(WORDS)}",
            "language": "de" if topic >= 20 else "en",
            "id": int(random.integers(1 << 40)),
        }
        for topic in topics
    ]
    return Observations(vectors, metadata)


@pytest.fixture
def old(draw: Draw, random: np.random.Generator) -> tuple[Detector, Observations]:
    topics = np.repeat(KNOWN, 150)
    vectors = np.concatenate([draw([topic], 150) for topic in KNOWN])
    order = random.permutation(3_000)
    return Detector.fit(vectors[order]), labelled(vectors[order], topics[order].tolist(), random)


def drifted(draw: Draw, random: np.random.Generator) -> tuple[Observations, list[int]]:
    """Topic 20 is new with 12 %, topic 0 has vanished."""
    topics = [20] * 120 + [topic for topic in KNOWN[1:] for _ in range(47)]
    topics = topics[:1_000]
    vectors = np.concatenate([draw([topic], 1) for topic in topics])
    order = random.permutation(len(topics))
    shuffled = [topics[row] for row in order]
    return labelled(vectors[order], shuffled, random), shuffled


@pytest.fixture
def explained(
    old: tuple[Detector, Observations], draw: Draw, random: np.random.Generator
) -> tuple[Explanation, list[int]]:
    window, topics = drifted(draw, random)
    return explain(*old, window), topics


def test_a_new_topic_is_named_with_examples_words_and_metadata(
    explained: tuple[Explanation, list[int]],
) -> None:
    found, topics = explained
    group = found.groups[0]
    assert group.change == "grown"
    assert [topics[row] for row in group.examples] == [20] * len(group.examples)
    assert 3 <= len(set(group.examples.tolist())) <= 5
    assert set(group.examples.tolist()) <= set(group.rows.tolist())
    assert group.keywords[0].startswith("topicu")
    assert (group.metadata[0].key, group.metadata[0].value) == ("language", "de")
    assert group.lower < group.share < group.upper
    assert group.share_before < 0.02
    assert (found.metadata[0].key, found.metadata[0].value) == ("language", "de")


def test_a_group_is_not_named_by_a_word_of_the_whole_window(
    old: tuple[Detector, Observations], draw: Draw, random: np.random.Generator
) -> None:
    topics = random.permutation([20] * 120 + [21] * 120 + KNOWN * 38)
    vectors = np.concatenate([draw([topic], 1) for topic in topics])
    metadata = [
        {"text": f"der topic{chr(97 + topic)} und {random.choice(WORDS)}"} for topic in topics
    ]
    found = explain(*old, Observations(vectors, metadata))
    named = {term for group in found.groups[:2] for term in group.keywords}
    assert {"topicu", "topicv"} <= {word for term in named for word in term.split()}
    assert not {"der", "und"} & named


def test_a_vanished_topic_is_named_by_what_it_was(
    explained: tuple[Explanation, list[int]], old: tuple[Detector, Observations]
) -> None:
    found, _ = explained
    gone = [group for group in found.groups if group.change == "shrunk"]
    texts = old[1].texts
    named = [group for group in gone if any("topica" in word for word in group.keywords)]
    assert named
    examples = ["topica" in str(texts[row]) for group in named for row in group.examples]
    assert np.mean(examples) > 0.75
    assert all(group.share < 0.6 * group.share_before for group in named)


def test_queries_that_become_more_frequent_are_not_gone(draw: Draw) -> None:
    random = np.random.default_rng(0)
    queries = draw(KNOWN, 8)

    def traffic(n: int, share: float) -> Observations:
        is_query = random.random((n, 1)) < share
        return Observations(np.where(is_query, queries[random.integers(8, size=n)], draw(KNOWN, n)))

    baseline = traffic(4_000, 0.08)
    found = explain(Detector.fit(baseline.vectors), baseline, traffic(2_000, 0.25))
    assert any(group.change == "grown" for group in found.groups)
    assert not any(group.change == "shrunk" for group in found.groups)


def test_an_earlier_explanation_by_a_detector_with_other_axes_gives_no_ids(
    explained: tuple[Explanation, list[int]],
    old: tuple[Detector, Observations],
    draw: Draw,
    random: np.random.Generator,
) -> None:
    found, _ = explained
    other = tuple(replace(each, centre=each.centre[:-1]) for each in found.groups)
    window, _ = drifted(draw, random)
    again = explain(*old, window, replace(found, groups=other))
    known = {each.id for each in found.groups}
    assert again.groups
    assert known.isdisjoint(each.id for each in again.groups)


def test_the_groups_explain_what_has_changed(explained: tuple[Explanation, list[int]]) -> None:
    found, topics = explained
    assert found.cause.kind == "new content"
    assert 0.08 < found.changed.estimate < 0.14
    assert 0.06 < found.explained < 0.14
    grown = [group for group in found.groups if group.change == "grown"]
    assert found.explained == pytest.approx(sum(each.share - each.share_before for each in grown))
    most = [topics[row] for row in found.most_changed[:20]]
    assert most.count(20) >= 19


def test_a_group_keeps_its_id_while_it_lasts(
    old: tuple[Detector, Observations], draw: Draw, random: np.random.Generator
) -> None:
    first = explain(*old, drifted(draw, random)[0])
    second = explain(*old, drifted(draw, random)[0], first)
    ids = {group.id for group in first.groups}
    assert len(ids) == len(first.groups)
    assert {group.id for group in second.groups if group.change == "grown"} & ids
    assert first.groups[0].id == second.groups[0].id


def test_another_group_gets_an_id_that_was_never_used(
    old: tuple[Detector, Observations], draw: Draw, random: np.random.Generator
) -> None:
    def window(new: int) -> Observations:
        vectors = np.concatenate([draw([new], 120), draw(KNOWN, 880)])
        return Observations(random.permutation(vectors))

    first = explain(*old, window(20))
    quiet = explain(*old, Observations(draw(KNOWN, 1_000)), first)
    assert quiet.groups == ()
    third = explain(*old, window(21), quiet)
    assert not {group.id for group in third.groups} & {group.id for group in first.groups}
    both = explain(*old, window(21), third)
    assert both.groups[0].id == third.groups[0].id


def test_a_window_without_drift_names_nothing(
    detector: Detector, baseline: Vectors, draw: Draw
) -> None:
    found = [
        explain(detector, Observations(baseline), Observations(draw(KNOWN, 1_000)))
        for _ in range(20)
    ]
    assert sum(bool(each.groups) for each in found) <= 1
    assert [each.cause.kind for each in found].count("none") >= 19
    assert all(each.explained == 0 for each in found if not each.groups)


def test_large_sides_are_looked_at_in_stretches(
    detector: Detector, draw: Draw, baseline: Vectors
) -> None:
    vectors = np.concatenate([draw(KNOWN, 3_400), draw([20], 600)])
    order = np.random.default_rng(0).permutation(4_000)
    found = explain(detector, Observations(np.tile(baseline, (2, 1))), Observations(vectors[order]))
    assert found.n == 4_000
    rows = found.groups[0].rows
    assert (order[rows] >= 3_400).mean() > 0.9
    assert rows.max() > 2_500
    assert found.changed.estimate == pytest.approx(0.15, abs=0.04)


def test_values_that_take_turns_on_both_sides_are_not_named(detector: Detector, draw: Draw) -> None:
    def in_turns(n: int) -> Observations:
        metadata = [{"part": ("title", "body")[row % 2]} for row in range(n)]
        return Observations(draw(KNOWN, n), metadata)

    assert explain(detector, in_turns(5_000), in_turns(1_000)).metadata == ()


def test_a_word_of_every_second_text_of_the_window_does_not_name_a_group(
    old: tuple[Detector, Observations], draw: Draw, random: np.random.Generator
) -> None:
    topics = random.permutation([20] * 120 + KNOWN * 44)
    vectors = np.concatenate([draw([topic], 1) for topic in topics])
    metadata = [
        {"text": f"{('regards', 'greetings')[row % 2]} topic{chr(97 + topic)}"}
        for row, topic in enumerate(topics)
    ]
    found = explain(*old, Observations(vectors, metadata))
    assert found.groups[0].keywords == ("topicu",)


def test_without_metadata_groups_have_no_words(
    detector: Detector, baseline: Vectors, draw: Draw
) -> None:
    window = np.random.default_rng(0).permutation(
        np.concatenate([draw([20], 150), draw(KNOWN, 850)])
    )
    found = explain(detector, Observations(baseline), Observations(window))
    assert found.groups
    assert {(group.keywords, group.metadata) for group in found.groups} == {((), ())}


def test_the_same_input_gives_the_same_explanation(
    detector: Detector, baseline: Vectors, draw: Draw
) -> None:
    window = Observations(np.concatenate([draw(KNOWN, 800), draw([22], 100)]))
    one, two = (explain(detector, Observations(baseline), window) for _ in range(2))
    assert [group.rows.tolist() for group in one.groups] == [g.rows.tolist() for g in two.groups]
    assert one.cause == two.cause


@pytest.mark.parametrize(("before", "now"), [(0, 0), (0, 1), (1, 0), (1, 5)])
def test_constant_vectors_are_explained_too(before: float, now: float) -> None:
    baseline = np.full((200, 4), before, np.float32)
    window = np.full((60, 4), now, np.float32)
    found = explain(Detector.fit(baseline), Observations(baseline), Observations(window))
    assert found.cause.kind == ("none" if before == now else "stuck")
    assert np.isfinite(found.explained)


@pytest.mark.parametrize(
    ("n", "m", "message"),
    [
        (9, 3_000, "an explanation needs at least 10 vectors, got 9"),
        (100, 0, "an explanation needs vectors of the baseline, got none"),
    ],
)
def test_too_few_vectors_are_refused(
    detector: Detector, baseline: Vectors, draw: Draw, n: int, m: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        explain(detector, Observations(baseline[:m]), Observations(draw(KNOWN, 100)[:n]))
