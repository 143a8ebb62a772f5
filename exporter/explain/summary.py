"""Summary: an explanation in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from exporter.detector.ratio import ChangedRatio
from exporter.explain.cause import SURPRISING, Cause
from exporter.explain.explanation import Explanation, Group
from exporter.explain.kinds import Kind
from exporter.explain.metadata import Value

_NAMED = 3
"""Groups of either kind that the headline names."""
_LONGEST = 300
"""Characters of a headline."""
_GONE = 0.2
"""Ratio of the shares of a group, now and before, below which it is gone. With the reverse ratio
it is new."""
_UNKNOWN = 0.0005
"""Share before, below which a group is new if the cause is another mix of what was known. A group
may be the part of a topic that grew."""

_CAUSES: Mapping[Kind, str] = {
    "foreign": "Another encoder, or another language or domain.",
    "model": "The model seems to have changed.",
    "scale": "The lengths of the vectors changed, their directions did not.",
    "precision": "The vectors are rounded more than before.",
    "stuck": "The same vectors come again and again.",
}
"""What a headline says of a cause that groups do not show."""
_MOST = 0.5
"""Changed ratio from which such a cause changed every group, so that none is worth a name."""


def headline(model_name: str, explanation: Explanation) -> str:
    """Return what changed in one line, for a message: a few sentences, 300 characters at most."""
    kind, groups = explanation.cause.kind, explanation.groups
    sentences = [f"{model_name}: {_amount(explanation)}"]
    if kind in _CAUSES:
        sentences.append(_CAUSES[kind])
    if kind != "none" and (kind not in _CAUSES or explanation.changed.estimate < _MOST):
        grown = [each for each in groups if each.change == "grown"][:_NAMED]
        new = [
            each
            for each in grown
            if each.share_before < (_UNKNOWN if kind == "other mix" else _GONE * each.share)
        ]
        more = [each for each in grown if each not in new]
        shrunk = [each for each in groups if each.change == "shrunk"][:_NAMED]
        gone = [each for each in shrunk if each.share < _GONE * each.share_before]
        less = [each for each in shrunk if each not in gone]
        before = "was "  # only once: the second number of the others is then understood
        for title, named in (("New", new), ("More", more), ("Gone", gone), ("Less", less)):
            parts = []
            for each in named:
                parts.append(_in_short(each, before))
                before = ""
            if parts:
                sentences.append(f"{title}: {', '.join(parts)}.")
        if not groups and kind not in _CAUSES and not _shows_too_little(explanation):
            sentences.append("No single group stands out.")
    printable = "".join(char if char.isprintable() else " " for char in " ".join(sentences))
    line = " ".join(printable.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 4].rpartition(' ')[0]} ..."


def titled(model_name: str, slice_name: str) -> str:
    """Return the name of a model in a headline, with that of a slice unless it is empty."""
    return f"{model_name} ({slice_name})" if slice_name else model_name


def details(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield further sentences: the cause, its evidence, and the values of the metadata.

    Parameters
    ----------
    told : mapping
        What `told` returned.
    """
    cause = told["cause"]
    evidence = "; ".join(cause["evidence"])
    yield f"Cause: {cause['kind']}" + (f" ({evidence})." if evidence else ".")
    yield f"Score {told['score']:.1f}, of {told['vectors']:,} vectors."
    for value in told["metadata"]:
        yield (
            f"More often: {value['key']} = {value['value']}, {_percent(value['share'])}"
            f" (was {_percent(value['share_before'])})."
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
                "name": name(each),
                "change": each.change,
                "share": each.share,
                "lower": each.lower,
                "upper": each.upper,
                "share_before": each.share_before,
                "keywords": each.keywords,
                "metadata": [asdict(value) for value in each.metadata],
                "examples": examples[each.id],
                "centre": [round(value, 4) for value in each.centre.tolist()],
            }
            for each in explanation.groups
        ],
        "numbered": explanation.numbered,
    }


def recalled(told: Mapping[str, Any]) -> Explanation:
    """Return the explanation that was told, without the rows of its vectors.

    It is enough for the next one, whose groups keep its ids.
    """
    # By name: a later release may tell more of each.
    changed = told["changed_ratio"]
    rows = np.empty(0, np.intp)
    return Explanation(
        n=told["vectors"],
        score=told["score"],
        changed=ChangedRatio(changed["estimate"], changed["lower"], changed["upper"]),
        explained=told["explained"],
        groups=tuple(
            Group(
                id=each["id"],
                change=each["change"],
                share=each["share"],
                share_before=each["share_before"],
                lower=each["lower"],
                upper=each["upper"],
                rows=rows,
                examples=rows,
                keywords=tuple(each["keywords"]),
                metadata=tuple(map(_value, each["metadata"])),
                centre=np.array(each["centre"], np.float32),
            )
            for each in told["groups"]
        ),
        metadata=tuple(map(_value, told["metadata"])),
        cause=Cause(told["cause"]["kind"], tuple(told["cause"]["evidence"])),
        most_changed=rows,
        numbered=told["numbered"],
    )


def _value(told: Mapping[str, Any]) -> Value:
    return Value(told["key"], told["value"], told["share"], told["share_before"])


def _amount(explanation: Explanation) -> str:
    last = f"the last {explanation.n:,} vectors"
    if explanation.cause.kind == "none":
        return f"{last} are like the baseline."
    if round(explanation.changed.lower, 2) > 0:
        return (
            f"at least {explanation.changed.lower * 100:.0f} % of {last} are unlike the baseline."
        )
    if _shows_too_little(explanation):
        return f"{last} differ too little from the baseline for one window to show what changed."
    return f"{last} differ from the baseline; how many cannot be told."


def _shows_too_little(explanation: Explanation) -> bool:
    """Whether drift is known, but not from this window."""
    return (
        explanation.cause.kind == "unknown"
        and explanation.score < SURPRISING
        and not explanation.groups
    )


def _in_short(group: Group, before: str) -> str:
    return f"{name(group)} {_percent(group.share)} ({before}{_percent(group.share_before)})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
