"""The changed ratio: what it says in each kind of drift, and what it costs."""

from __future__ import annotations

import time
from collections import defaultdict
from functools import partial

import numpy as np

from bench.detection.data import Dataset, Source, Trial, Vectors
from bench.detection.scenarios import (
    ROUNDING,
    Scenario,
    new_topic,
    odds,
    rotation,
    scaled,
    stuck,
)
from bench.table import show
from exporter.detector.detector import Detector


def all_new(trial: Trial, size: int) -> Vectors:
    """Draw vectors of the new topic only, between near neighbours where it has too few."""
    return Source(trial.new, int(trial.random.integers(1 << 30))).draw(size)


INCIDENTS: dict[str, Scenario] = {
    "no drift": Trial.window,
    **ROUNDING,
    **{
        f"new topic {share:.0%}": partial(new_topic, share=share)
        for share in (0.05, 0.1, 0.25, 0.5)
    },
    "new topic 100%": all_new,
    "odds of half of the topics x2": partial(odds, ratio=2),
    "10% stuck": partial(stuck, share=0.1),
    "scale x1.05": partial(scaled, factor=1.05),
    "rotation": rotation,
}


def ratio(dataset: Dataset, trials: int, windows: int) -> None:
    """Print mean and 5 to 95 % of the estimates, how often the bound is above 0, and the cost."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    seconds: dict[int, list[float]] = defaultdict(list)
    for seed in range(trials):
        trial = Trial(dataset, seed)
        detector = Detector.fit(trial.reference)
        for size in dataset.sizes:
            for name, incident in INCIDENTS.items():
                for _ in range(windows):
                    window = trial.random.permutation(incident(trial, size))
                    start = time.process_time()
                    changed = detector.changed_ratio(window)
                    seconds[size].append(time.process_time() - start)
                    found[name, size].append((changed.estimate, changed.lower))
    show(
        f"Changed ratio: {dataset.name}, reference of {dataset.n_reference:,}, "
        f"{trials * windows} windows each; CPU "
        + ", ".join(f"{np.median(seconds[size]) * 1e3:.0f} ms at {size}" for size in dataset.sizes),
        ("", *(f"{size}: {what}" for size in dataset.sizes for what in ("mean", "5-95 %", "> 0"))),
        [
            (name, *(cell for size in dataset.sizes for cell in _cells(found[name, size])))
            for name in INCIDENTS
        ],
    )


def _cells(found: list[tuple[float, float]]) -> tuple[str, str, str]:
    estimates, lower = np.array(found).T
    low, high = np.quantile(estimates, (0.05, 0.95))
    return f"{estimates.mean():.3f}", f"{low:.2f}-{high:.2f}", f"{np.mean(lower > 0):.2f}"
