"""Power: how often each method finds each kind of drift, at the same rate of false alarms."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from bench.detection.data import Dataset, Trial
from bench.detection.rivals import rivals
from bench.detection.scenarios import DRIFT
from bench.table import show
from exporter.detector.detector import Detector

Values = dict[tuple[int, str, str], list[float]]
OURS, ALARM = "score", "alarm"


def power(dataset: Dataset, trials: int, windows: int) -> None:
    """Print the power of every method in every scenario."""
    values: Values = defaultdict(list)
    for seed in range(trials):
        trial = Trial(dataset, seed)
        detector = Detector.fit(trial.reference)
        methods = {**rivals(trial.reference, seed), OURS: detector.score}
        for size in dataset.sizes:
            for _ in range(5 * windows):
                window = trial.window(size)
                for method, measure in methods.items():
                    values[size, "", method].append(measure(window))
            for name, drift in DRIFT.items():
                for _ in range(windows):
                    window = drift(trial, size)
                    for method, measure in methods.items():
                        values[size, name, method].append(measure(window))
    for size in dataset.sizes:
        names = [*methods, ALARM]
        table = [[_power(values, size, name, method) for method in names] for name in DRIFT]
        show(
            f"Power at 1 % false alarms: {dataset.name}, reference of {dataset.n_reference:,}, "
            f"windows of {size}, {trials * windows} windows each",
            ("", *names),
            [
                (name, *(f"{cell:.2f}" for cell in row))
                for name, row in zip(
                    [*DRIFT, "mean"], [*table, np.mean(table, axis=0)], strict=True
                )
            ],
        )


def _power(values: Values, size: int, name: str, method: str) -> float:
    if method == ALARM:
        return float(np.mean(np.array(values[size, name, OURS]) > 2))
    threshold = np.quantile(values[size, "", method], 0.99)
    return float(np.mean(np.array(values[size, name, method]) > threshold))
