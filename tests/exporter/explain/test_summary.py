"""Summary: an explanation in sentences for a tired reader."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from exporter.detector.ratio import ChangedRatio
from exporter.explain.cause import Cause
from exporter.explain.explanation import Explanation, Group
from exporter.explain.kinds import Kind
from exporter.explain.metadata import Value
from exporter.explain.summary import details, headline, name, recalled, told

ROWS = np.arange(3)
GROUP = Group(
    id="g1",
    change="grown",
    share=0.095,
    share_before=0.012,
    lower=0.08,
    upper=0.11,
    rows=ROWS,
    examples=ROWS,
    keywords=("audio", "player"),
    metadata=(Value("language", "de", 0.9, 0.1),),
    centre=np.zeros(2, np.float32),
)
SHRUNK = replace(
    GROUP, id="g2", change="shrunk", keywords=("perl",), share=0.001, share_before=0.022
)


def explanation(
    *groups: Group, lower: float = 0.09, kind: Kind = "new content", evidence: tuple[str, ...] = ()
) -> Explanation:
    return Explanation(
        n=1_000,
        score=12.34,
        changed=ChangedRatio(0.1, lower, 0.12),
        explained=0.07,
        groups=groups,
        metadata=(Value("tenant", "acme", 0.4, 0.05),),
        cause=Cause(kind, evidence),
        most_changed=ROWS,
        numbered=len(groups),
    )


def test_the_headline_says_how_much_changed_what_is_new_and_what_is_gone() -> None:
    assert headline("docs", explanation(GROUP, SHRUNK)) == (
        "docs: at least 9 % of the last 1,000 vectors are unlike the baseline."
        " New: audio, player 9.5 % (was 1.2 %). Gone: perl 0.1 % (2.2 %)."
    )
    halved = replace(SHRUNK, share=0.011)
    assert headline("docs", explanation(halved)).endswith(" Less: perl 1.1 % (was 2.2 %).")


def test_a_topic_that_the_baseline_has_is_not_new() -> None:
    risen = replace(GROUP, keywords=("video",), share_before=0.045)
    assert headline("docs", explanation(risen, GROUP, SHRUNK)).endswith(
        " New: audio, player 9.5 % (was 1.2 %). More: video 9.5 % (4.5 %)."
        " Gone: perl 0.1 % (2.2 %)."
    )


def test_a_part_of_a_known_topic_that_grew_is_not_new() -> None:
    """The group is a part of it, so its share before is less than that of the topic."""
    known = explanation(GROUP, kind="other mix")
    assert headline("docs", known).endswith(" More: audio, player 9.5 % (was 1.2 %).")
    unknown = explanation(replace(GROUP, share_before=0.0), kind="other mix")
    assert headline("docs", unknown).endswith(" New: audio, player 9.5 % (was 0.0 %).")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (explanation(kind="none"), "docs: the last 1,000 vectors are like the baseline."),
        (
            explanation(lower=0.001),
            "docs: the last 1,000 vectors differ from the baseline; how many cannot be told."
            " No single group stands out.",
        ),
    ],
)
def test_it_claims_no_more_than_is_known(found: Explanation, expected: str) -> None:
    assert headline("docs", found) == expected


def test_a_drift_that_one_window_hardly_shows_is_not_like_the_baseline() -> None:
    little = replace(explanation(lower=0.001, kind="unknown"), score=1.8)
    assert headline("docs", little) == (
        "docs: the last 1,000 vectors differ too little from the baseline for one window to show"
        " what changed."
    )
    named = headline("docs", replace(little, groups=(GROUP,)))
    assert "too little" not in named
    assert named.endswith(" New: audio, player 9.5 % (was 1.2 %).")
    surely = headline("docs", replace(little, changed=ChangedRatio(0.1, 0.09, 0.12)))
    assert surely.startswith("docs: at least 9 % of ")


def test_no_groups_are_listed_of_a_window_that_is_like_the_baseline() -> None:
    found = explanation(GROUP, SHRUNK, kind="none")
    assert headline("docs", found) == "docs: the last 1,000 vectors are like the baseline."


def test_a_headline_names_three_groups_of_a_kind_at_most() -> None:
    many = [replace(GROUP, keywords=(word,)) for word in ("one", "two", "three", "four")]
    assert "three" in headline("docs", explanation(*many))
    assert "four" not in headline("docs", explanation(*many))


def test_a_headline_of_a_changed_model_says_so_instead_of_its_groups() -> None:
    part = explanation(GROUP, kind="model")
    told = (
        "docs: at least 9 % of the last 1,000 vectors are unlike the baseline."
        " The model seems to have changed."
    )
    assert headline("docs", part) == told + " New: audio, player 9.5 % (was 1.2 %)."
    nearly_all = replace(part, changed=ChangedRatio(0.95, 0.09, 0.97))
    assert headline("docs", nearly_all) == told


def test_a_headline_is_one_short_line_whatever_the_words_are() -> None:
    hostile = replace(GROUP, keywords=("a\nb\x00\u2028c", "word " * 200))
    line = headline("docs", explanation(hostile))
    assert line.isprintable()
    assert len(line) <= 300
    assert "New: a b c" in line


def test_a_group_has_the_name_of_its_words_or_else_of_a_value_or_else_of_its_number() -> None:
    assert name(GROUP) == "audio, player"
    assert name(replace(GROUP, keywords=())) == "language = de"
    assert name(replace(GROUP, keywords=(), metadata=())) == "group g1"


def test_the_details_are_the_cause_its_evidence_and_frequent_values() -> None:
    found = explanation(kind="model", evidence=("all clusters moved alike", "lengths unchanged"))
    assert list(details(told(found, {}))) == [
        "Cause: model (all clusters moved alike; lengths unchanged).",
        "Score 12.3, of 1,000 vectors.",
        "More often: tenant = acme, 40.0 % (was 5.0 %).",
    ]
    assert next(details(told(explanation(kind="unknown"), {}))) == "Cause: unknown."


def test_what_is_told_to_programs_is_json() -> None:
    found = told(explanation(GROUP), {"g1": [{"seq": 7}]})
    assert json.loads(json.dumps(found))["groups"][0]["examples"] == [{"seq": 7}]
    assert found["changed_ratio"] == {"estimate": 0.1, "lower": 0.09, "upper": 0.12}
    assert found["cause"] == {"kind": "new content", "evidence": ()}


def test_what_was_told_is_enough_for_the_next_explanation() -> None:
    centre = np.array([0.123456, -2.0], np.float32)
    given = explanation(replace(GROUP, centre=centre), SHRUNK, kind="model", evidence=("a", "b"))
    kept = json.loads(json.dumps(told(given, {"g1": [], "g2": []})))
    found = recalled(kept)
    assert (found.changed, found.cause, found.metadata) == (
        *(given.changed, given.cause, given.metadata),
    )
    assert found.numbered == 2
    assert [(each.id, each.change) for each in found.groups] == [("g1", "grown"), ("g2", "shrunk")]
    np.testing.assert_allclose(found.groups[0].centre, centre, atol=1e-4)
    assert told(found, {"g1": [], "g2": []}) == told(given, {"g1": [], "g2": []})


def test_what_a_later_release_told_besides_is_ignored() -> None:
    kept = told(explanation(GROUP), {"g1": []})
    [value], [of_group] = kept["metadata"], kept["groups"][0]["metadata"]
    more = {
        **kept,
        "changed_ratio": {**kept["changed_ratio"], "more": 1},
        "metadata": [{**value, "more": 1}],
        "groups": [{**kept["groups"][0], "metadata": [{**of_group, "more": 1}], "more": 1}],
    }
    assert told(recalled(more), {"g1": []}) == told(recalled(kept), {"g1": []})
