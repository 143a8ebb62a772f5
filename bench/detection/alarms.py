"""False alarms of single windows: without drift, rounded, and arriving in sessions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from bench.detection.data import Dataset, Source, Trial, Vectors
from bench.detection.scenarios import ROUNDING, Scenario
from bench.table import show
from exporter.detector.detector import Detector


def false_alarms(dataset: Dataset, trials: int, windows: int) -> None:
    """Print how often windows alarm without drift, or with rounding only."""
    largest = dataset.n_reference // 5
    kinds: dict[str, Callable[[Trial], Vectors]] = {
        f"no drift, {size} vectors": _of_size(Trial.window, size)
        for size in sorted({50, 100, 200, largest})
    }
    for name, rounded in ROUNDING.items():
        kinds[f"{name}, {largest} vectors"] = _of_size(rounded, largest)
    alarms: dict[str, list[bool]] = defaultdict(list)
    for seed in range(trials):
        trial = Trial(dataset, 1_000 + seed)
        detector = Detector.fit(trial.reference)
        for name, window in kinds.items():
            alarms[name] += [detector.alarm(window(trial)) for _ in range(windows)]
    show(
        f"Alarms at alpha = 1 %: {dataset.name}, reference of {dataset.n_reference:,}, "
        f"{trials * windows} windows each",
        ("", "alarms"),
        [(name, f"{np.mean(each):.1%}") for name, each in alarms.items()],
    )


def _of_size(scenario: Scenario, size: int) -> Callable[[Trial], Vectors]:
    return lambda trial: scenario(trial, size)


def sessions(dataset: Dataset, trials: int) -> None:
    """Print alarms for vectors that arrive in sessions, with a reference in order and shuffled."""
    alarms: dict[tuple[int, str], list[bool]] = defaultdict(list)
    for seed in range(trials):
        trial = Trial(dataset, 2_000 + seed)
        known = Source(np.concatenate([trial.reference, trial.pool]), seed)
        new = Source(trial.new, seed)
        reference, stream = known.sessions(5_000), known.sessions(5_000)
        judges = {
            "reference in order": Detector.fit(reference),
            "reference shuffled": Detector.fit(trial.random.permutation(reference)),
        }
        for size in (50, 200, 1_000):
            for _ in range(25):
                at = trial.random.integers(len(stream) - size)
                window = stream[at : at + size]
                for name, judge in judges.items():
                    alarms[size, name].append(judge.alarm(window))
                for share in (0.25, 0.5):
                    drifted = np.concatenate(
                        [window[int(share * size) :], new.draw(int(share * size))]
                    )
                    alarm = judges["reference in order"].alarm(drifted)
                    alarms[size, f"new topic {share:.0%}, in order"].append(alarm)
    names = list(dict.fromkeys(name for _, name in alarms))
    show(
        f"Alarms at alpha = 1 % when vectors arrive in sessions of 20 to 50 neighbours: "
        f"{dataset.name}, reference of 5,000, {trials * 25} windows each",
        ("window", *names),
        [
            (str(size), *(f"{np.mean(alarms[size, name]):.1%}" for name in names))
            for size in (50, 200, 1_000)
        ],
    )
