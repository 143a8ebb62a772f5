"""Windows with two new topics and a vanished one, and windows without drift."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.explanation.sets import Set, Vectors
from bench.traffic.source import Source
from exporter.detector import Detector
from exporter.explain.explanation import Explanation, Group, explain
from exporter.explain.keywords import terms
from exporter.explain.observations import Observations

SIZE = 1_000
VANISHED = (0.03, 0.09)
"""Shares of the baseline between which a topic may vanish."""


@dataclass
class Tally:
    """Answers of one kind of question, right or wrong, or shares."""

    precision: list[float] = field(default_factory=list)
    found: list[float] = field(default_factory=list)
    purity: list[float] = field(default_factory=list)
    vanished: list[float] = field(default_factory=list)
    quiet: list[float] = field(default_factory=list)
    sessions: list[float] = field(default_factory=list)
    keyword: list[float] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)


class Trial:
    """A baseline without two topics, and other vectors of its topics."""

    def __init__(self, data: Set, seed: int) -> None:
        self.data = data
        self.random = np.random.default_rng(seed)
        self.new = self.random.choice(data.coherent, 2, replace=False).tolist()
        order = self.random.permutation(len(data.topic))
        known = order[~np.isin(data.topic[order], self.new)]
        # A topic of 10 % needs 100 vectors besides; the pool has 1,000 for a window.
        n = min(data.n_reference, len(known) - SIZE)
        self.reference, self.pool = known[:n], known[n:]
        self.detector = Detector.fit(data.vectors[self.reference])
        self.baseline = self.observed(self.reference)

    def observed(self, rows: NDArray[np.intp]) -> Observations:
        """Return vectors with texts, a tenant by chance, and a language that gives away the new."""
        metadata: list[dict[str, object]] = []
        for row in rows.tolist():
            new = self.data.topic[row] in self.new
            language = "de" if new else self.random.choice(["en", "fr"], p=[0.9, 0.1])
            about: dict[str, object] = {
                "tenant": f"t{self.random.integers(20)}",
                "language": str(language),
                "request": f"r{row}",
            }
            if self.data.texts is not None:
                about["text"] = str(self.data.texts[row])
            metadata.append(about)
        return Observations(self.data.vectors[rows], metadata)

    def window(self, shares: tuple[float, ...], without: str = "") -> NDArray[np.intp]:
        """Draw rows: new topics in these shares, and known topics but one."""
        topic = self.data.topic
        new = [
            self.random.choice(np.flatnonzero(topic == name), round(share * SIZE), replace=False)
            for name, share in zip(self.new, shares, strict=False)
        ]
        pool = self.pool[topic[self.pool] != without]
        rest = self.random.choice(pool, SIZE - sum(map(len, new)), replace=False)
        return self.random.permutation(np.concatenate([*new, rest]))


def new_topics(trial: Trial, shares: tuple[float, float], tally: Tally) -> None:
    """Ask for two new topics."""
    rows = trial.window(shares)
    window = trial.observed(rows)
    start = time.process_time()
    found = explain(trial.detector, trial.baseline, window)
    tally.milliseconds.append(1e3 * (time.process_time() - start))
    topic = trial.data.topic[rows]
    tally.precision.append(float(np.isin(topic[found.most_changed[:20]], trial.new).mean()))
    named = set()
    for group in _changed(found, "grown"):
        counted = Counter(topic[group.rows].tolist())
        name = max(trial.new, key=lambda each: counted[each])
        purity = counted[name] / max(len(group.rows), 1)
        tally.purity.append(purity)
        if purity >= 0.5:
            named.add(name)
            if trial.data.texts is not None:
                right = bool(group.keywords) and group.keywords[0] in _names(trial.data, name)
                tally.keyword.append(right)
    tally.found.append(len(named) / 2)
    first = found.metadata[0] if found.metadata else None
    tally.value.append(first is not None and (first.key, first.value) == ("language", "de"))


def vanished_topic(trial: Trial, tally: Tally) -> None:
    """Ask for a topic that the window lacks; nothing is new."""
    topic = trial.data.topic
    shares = {name: (topic[trial.reference] == name).mean() for name in trial.data.coherent}
    candidates = [name for name in shares if VANISHED[0] <= shares[name] <= VANISHED[1]]
    if not candidates:
        return
    name = str(trial.random.choice(candidates))
    if (topic[trial.pool] != name).sum() < SIZE:
        return
    found = explain(trial.detector, trial.baseline, trial.observed(trial.window((), name)))
    of = [Counter(topic[trial.reference[g.rows]].tolist()) for g in _changed(found, "shrunk")]
    tally.vanished.append(any(counted.most_common(1)[0][0] == name for counted in of))


def quiet(trial: Trial, tally: Tally) -> None:
    """Ask about a window without drift."""
    found = explain(trial.detector, trial.baseline, trial.observed(trial.window(())))
    tally.quiet.append(len(found.groups) > 0)


def quiet_sessions(data: Set, seed: int, windows: int, tally: Tally) -> None:
    """Ask about windows without drift, where vectors of a session resemble each other."""
    source, random = Source(data.vectors, data.topic), np.random.default_rng(seed)
    baseline = _sessions(source, 5 * SIZE, random)
    detector = Detector.fit(baseline)
    for _ in range(windows):
        window = Observations(_sessions(source, SIZE, random))
        found = explain(detector, Observations(baseline), window)
        tally.sessions.append(len(found.groups) > 0)


def _sessions(source: Source, size: int, random: np.random.Generator) -> Vectors:
    """Draw sessions of 3 to 49 near neighbours, one after the other."""
    rows: list[int] = []
    while len(rows) < size:
        length = int(random.choice([random.integers(3, 8), random.integers(20, 50)]))
        rows += source.near(int(random.integers(len(source.vectors))), length, random).tolist()
    return source.fresh(np.array(rows[:size]), random)


def _changed(found: Explanation, change: str) -> list[Group]:
    return [group for group in found.groups if group.change == change]


def _names(data: Set, topic: str) -> set[str]:
    """Return the words in 5 % or more of the topic's texts, thrice as frequent as elsewhere."""
    assert data.texts is not None
    mine = data.topic == topic
    here = Counter(term for text in data.texts[mine] for term in terms(str(text)))
    there = Counter(term for text in data.texts[~mine] for term in terms(str(text)))
    n, m = int(mine.sum()), int((~mine).sum())
    return {
        term
        for term, count in here.items()
        if count >= 0.05 * n and count / n >= 3 * there[term] / m
    }
