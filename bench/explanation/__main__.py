"""``python -m bench.explanation [DATA.npz ...]``: what explanations get right, and what they cost.

DATA has ``embedding``, shape (n, d), ``topic`` or ``section``, shape (n,), and perhaps ``text``; by
default, the package descriptions of the demo. Thresholds were chosen on three such files.
"""

from __future__ import annotations

import exporter  # noqa: F401  (one BLAS thread, before numpy)

# isort: split
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import get_args

import numpy as np

from bench.explanation.cost import cost
from bench.explanation.incidents import INCIDENTS
from bench.explanation.limits import limits
from bench.explanation.sets import Set, load
from bench.explanation.trials import Tally, Trial, new_topics, quiet, quiet_sessions, vanished_topic
from bench.results import report
from exporter.explain.explanation import explain
from exporter.explain.kinds import Kind
from exporter.explain.observations import Observations

DEMO = files("demo") / "data" / "package-descriptions-minilm.npz"
SHARES = {"10 + 5 %": (0.1, 0.05), "5 + 5 %": (0.05, 0.05)}
DATA_KINDS = ("new content", "other mix", "foreign")
MODEL_KINDS = ("model", "scale", "precision", "stuck", "foreign")
"""Kinds that say it is the model, or that it cannot be told."""


def main(paths: list[Path], quick: bool) -> None:
    """Print all tables."""
    trials = 2 if quick else 6
    tallies: dict[str, dict[str, Tally]] = {}
    causes: Counter[tuple[str, str]] = Counter()
    sides: Counter[bool] = Counter()
    for data in map(load, paths):
        tallies[data.name] = {name: Tally() for name in SHARES}
        for seed in range(trials):
            trial = Trial(data, seed)
            _groups(trial, tallies[data.name])
            if seed < 2:
                _causes(trial, causes, sides)
        for seed in range(1 if quick else 4):
            quiet_sessions(data, seed, 3 if quick else 5, tallies[data.name]["10 + 5 %"])
    _show(tallies, causes, sides, quick)
    _show_limits(list(map(load, paths)), quick)
    head = ("1,000 vectors of 768 dimensions", "CPU ms")
    rows = cost(load(paths[0]))
    report("explanation", "cost", "Cost, one BLAS thread", head, rows, quick)


def _groups(trial: Trial, tallies: dict[str, Tally]) -> None:
    for name, shares in SHARES.items():
        new_topics(trial, shares, tallies[name])
    first = tallies["10 + 5 %"]
    for _ in range(4):
        vanished_topic(trial, first)
        quiet(trial, first)


def _causes(trial: Trial, causes: Counter[tuple[str, str]], sides: Counter[bool]) -> None:
    for truth, change in INCIDENTS.values():
        found = explain(
            trial.detector, Observations(trial.baseline.vectors), Observations(change(trial))
        )
        causes[truth, found.cause.kind] += 1
        if found.changed.estimate >= 0.1:
            right = DATA_KINDS if truth in ("new content", "other mix") else MODEL_KINDS
            sides[found.cause.kind in right] += 1


def _show(
    tallies: dict[str, dict[str, Tally]],
    causes: Counter[tuple[str, str]],
    sides: Counter[bool],
    quick: bool,
) -> None:
    rows = [
        (data, shares, *(_mean(getattr(tally, name)) for name in ("precision", "found", "purity")),
         _mean(tally.keyword), _mean(tally.value), round(float(np.median(tally.milliseconds))))
        for data, by_shares in tallies.items()
        for shares, tally in by_shares.items()
    ]  # fmt: skip
    head = ("data", "new topics", "precision@20", "found", "purity", "first keyword", "value", "ms")
    report("explanation", "groups", "Two new topics in 1,000 vectors", head, rows, quick)
    rows = [
        (
            data,
            *(_mean(getattr(by["10 + 5 %"], name)) for name in ("vanished", "quiet", "sessions")),
        )
        for data, by in tallies.items()
    ]
    columns = ("data", "vanished topic found", "group without drift", "the same in sessions")
    report(
        "explanation", "silence", "Vanished topics, and windows without drift", columns, rows, quick
    )
    kinds = [kind for kind in get_args(Kind) if any(kind in pair for pair in causes)]
    truths = list(dict.fromkeys(truth for truth, _ in INCIDENTS.values()))
    table = [(truth, *(causes[truth, kind] for kind in kinds)) for truth in truths]
    title = (
        f"Causes; model against data right: {sides[True]} of {sides.total()} with a ratio of 0.1"
    )
    report("explanation", "causes", title, ("truth", *kinds), table, quick)


def _show_limits(sets: list[Set], quick: bool) -> None:
    rows = []
    for data in sets:
        found = limits(data, 2 if quick else 16)
        rows.append(
            (
                data.name,
                *map(_mean, (found.new, found.new_known, found.vanished, found.vanished_known)),
                _mean(found.quiet),
            )
        )
    head = (
        "data",
        "new found",
        "by one who knows",
        "vanished found",
        "this by one who knows",
        "quiet with a group",
    )
    report("explanation", "limits", "Any label, and what can be found at all", head, rows, quick)


def _mean(values: Sequence[float]) -> float | str:
    return round(float(np.mean(values)), 2) if values else "-"


if __name__ == "__main__":
    given = [Path(word) for word in sys.argv[1:] if not word.startswith("--")]
    with as_file(DEMO) as demo:
        main(given or [demo], "--quick" in sys.argv[1:])
