"""Summary: an explanation in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from exporter.explain.explanation import Explanation, Group

_NAMED = 3
"""Groups of either kind that the headline names."""


def headline(model_name: str, explanation: Explanation) -> str:
    """Return what changed, in a few sentences for a message."""
    window = f"{model_name}: {_amount(explanation)}"
    named = [
        f"{title}: {', '.join(map(_in_short, groups))}."
        for title, groups in (
            ("New", _of(explanation, "grown")),
            ("Less", _of(explanation, "shrunk")),
        )
        if groups
    ]
    return " ".join([window, *named])


def details(explanation: Explanation) -> Iterator[str]:
    """Yield further sentences: the cause, its evidence, and the values of the metadata."""
    evidence = "; ".join(explanation.cause.evidence)
    yield f"Cause: {explanation.cause.kind}" + (f" ({evidence})." if evidence else ".")
    yield f"Score {explanation.score:.1f}, of {explanation.n:,} vectors."
    for value in explanation.metadata:
        yield (
            f"More often: {value.key} = {value.value}, {value.share:.1%}"
            f" (was {value.share_before:.1%})."
        )


def name(group: Group) -> str:
    """Return the words or the value that name a group; its id, if there are none."""
    if group.keywords:
        return ", ".join(group.keywords)
    if group.metadata:
        return f"{group.metadata[0].key} = {group.metadata[0].value}"
    return f"group {group.id}"


def told(
    explanation: Explanation, examples: Mapping[str, Sequence[Mapping[str, object]]]
) -> dict[str, Any]:
    """Return an explanation as JSON objects, with examples of each group by its id."""
    changed = explanation.changed
    return {
        "vectors": explanation.n,
        "score": explanation.score,
        "changed_ratio": {
            "estimate": changed.estimate,
            "lower": changed.lower,
            "upper": changed.upper,
        },
        "explained": explanation.explained,
        "cause": asdict(explanation.cause),
        "metadata": [asdict(each) for each in explanation.metadata],
        "groups": [
            {
                "id": each.id,
                "change": each.change,
                "share": each.share,
                "lower": each.lower,
                "upper": each.upper,
                "share_before": each.share_before,
                "keywords": each.keywords,
                "metadata": [asdict(value) for value in each.metadata],
                "examples": examples[each.id],
            }
            for each in explanation.groups
        ],
    }


def _amount(explanation: Explanation) -> str:
    last = f"the last {explanation.n:,} vectors"
    if explanation.cause.kind == "none":
        return f"{last} are like the baseline."
    if round(explanation.changed.lower, 2) > 0:
        return f"at least {explanation.changed.lower:.0%} of {last} are unlike the baseline."
    return f"{last} differ from the baseline, up to {explanation.changed.upper:.0%} of them."


def _of(explanation: Explanation, change: str) -> list[Group]:
    return [each for each in explanation.groups if each.change == change][:_NAMED]


def _in_short(group: Group) -> str:
    return f"{name(group)} {group.share:.1%} (was {group.share_before:.1%})"
