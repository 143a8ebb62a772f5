"""What could be found at all: beside each answer, that of a classifier that knows the topic.

Any label of 150 vectors or more may be new or vanish here, also one that the encoder does not see.
The classifier is a linear discriminant of other vectors with that label and of the baseline's. Its
verdict has to pass the tests that a group has to pass. It is no upper bound, but what it misses can
hardly be found without knowing the label.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bench.explanation.sets import Set
from bench.explanation.trials import SIZE, VANISHED, Trial
from exporter.explain.explanation import explain
from exporter.explain.observations import Observations
from exporter.stats.arrays import Floats
from exporter.stats.enrichment import log_p_value

Rows = NDArray[np.intp]

_LEAST = 150
"""Vectors with a label."""
_RIDGE = 0.1
"""Variance added in every direction, as a share of the mean."""
_SURE_NEW, _SURE_GONE = np.log(7e-3), np.log(0.05 / 64)
"""Levels of Fisher's test: that of a grown group, and that of one of 64 clusters."""
_NEW, _VANISHED, _QUIET = 2, 4, 2
"""Windows with new topics and with a vanished one for a baseline, and quiet ones after each."""


@dataclass
class Answers:
    """Shares of what was found, by explanations and by a classifier that knows the label."""

    new: list[bool] = field(default_factory=list)
    new_known: list[bool] = field(default_factory=list)
    vanished: list[bool] = field(default_factory=list)
    vanished_known: list[bool] = field(default_factory=list)
    quiet: list[bool] = field(default_factory=list)


def limits(data: Set, baselines: int) -> Answers:
    """Ask for new and vanished labels, and about windows without drift."""
    names, counts = np.unique(data.topic, return_counts=True)
    every = replace(data, coherent=names[counts >= _LEAST].tolist())
    answers = Answers()
    for seed in range(baselines):
        trial = Trial(every, seed)
        for _ in range(_NEW):
            _new(trial, answers)
        for _ in range(_VANISHED):
            _vanished(trial, answers)
            for _ in range(_QUIET):
                found = _groups(trial, trial.window(()))
                answers.quiet.append(len(found["grown"]) + len(found["shrunk"]) > 0)
    return answers


def _groups(trial: Trial, rows: Rows) -> dict[str, list[Rows]]:
    """Explain a window, and return the groups of each kind: as rows of the data."""
    vectors = trial.data.vectors
    baseline = Observations(vectors[trial.reference])
    found = explain(trial.detector, baseline, Observations(vectors[rows]))
    side = {"grown": rows, "shrunk": trial.reference}
    return {
        change: [side[change][each.rows] for each in found.groups if each.change == change]
        for change in side
    }


def _new(trial: Trial, answers: Answers) -> None:
    rows = trial.window((0.1, 0.05))
    topic, half = trial.data.topic, trial.reference[1::2]
    grown = _groups(trial, rows)["grown"]
    for name in trial.new:
        answers.new.append(any((topic[each] == name).mean() >= 0.5 for each in grown))
        inside = np.setdiff1d(np.flatnonzero(topic == name), rows)
        share = float((topic[rows] == name).mean())
        taken = _classified(trial, inside, trial.reference[::2], share)
        now, before = rows[taken[rows]], half[taken[half]]
        is_pure = len(now) > 0 and (topic[now] == name).mean() >= 0.5
        log_p = log_p_value(len(now), len(rows), len(before), len(half))
        answers.new_known.append(bool(is_pure and log_p < _SURE_NEW))


def _vanished(trial: Trial, answers: Answers) -> None:
    topic, reference = trial.data.topic, trial.reference
    shares = {name: float((topic[reference] == name).mean()) for name in trial.data.coherent}
    candidates = [
        name
        for name, share in shares.items()
        if VANISHED[0] <= share <= VANISHED[1] and (topic[trial.pool] != name).sum() >= SIZE
    ]
    if not candidates:
        return
    name = str(trial.random.choice(candidates))
    rows = trial.window((), name)
    shrunk = _groups(trial, rows)["shrunk"]
    answers.vanished.append(any(_most_frequent(topic[each]) == name for each in shrunk))
    known, half = reference[::2], reference[1::2]
    is_name = topic[known] == name
    taken = _classified(trial, known[is_name], known[~is_name], shares[name])
    now, before = rows[taken[rows]], half[taken[half]]
    is_right = len(before) > 0 and _most_frequent(topic[before]) == name
    is_less = len(now) / len(rows) <= 0.5 * len(before) / len(half)
    log_p = log_p_value(len(before), len(half), len(now), len(rows))
    answers.vanished_known.append(bool(is_right and is_less and log_p < _SURE_GONE))


def _most_frequent(topics: NDArray[np.str_]) -> str:
    return str(Counter(topics.tolist()).most_common(1)[0][0])


def _classified(trial: Trial, inside: Rows, outside: Rows, share: float) -> NDArray[np.bool_]:
    """Say which vectors of the data belong to a label, of which a window has this share.

    The cut is that with the highest F1 on the vectors that it was learned from.
    """
    vectors = trial.data.vectors.astype(np.float64)
    sides = [vectors[inside], vectors[outside]]
    scatter: Floats = np.sum([len(side) * np.cov(side.T) for side in sides], axis=0)
    scatter /= sum(map(len, sides))
    scatter += _RIDGE * np.trace(scatter) / len(scatter) * np.eye(len(scatter))
    apart = sides[0].mean(axis=0) - sides[1].mean(axis=0)
    score: Floats = vectors @ np.linalg.solve(scatter, apart)
    cuts = np.quantile(score[inside], np.linspace(0.05, 0.95, 37))
    recall = (score[inside] > cuts[:, None]).mean(axis=1)
    wrong = (score[outside] > cuts[:, None]).mean(axis=1)
    taken = recall * share + wrong * (1 - share)
    best = int(np.argmax(2 * recall * share / (taken + share)))
    above: NDArray[np.bool_] = score > cuts[best]
    return above
