"""Power on a new topic: of the score, and of an oracle that knows the direction."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from bench.detection.data import Dataset, Trial, Vectors
from bench.table import show
from exporter.detector.detector import Detector

SHARES = (0.0, 0.01, 0.02, 0.05, 0.1)
_RIDGE = 0.05


def oracle(dataset: Dataset, trials: int, windows: int) -> None:
    """Print power at 1 % false alarms, for windows of the larger size."""
    size = dataset.sizes[-1]
    values: dict[tuple[str, float], list[float]] = defaultdict(list)
    for seed in range(trials):
        trial = Trial(dataset, 5_000 + seed)
        detector = Detector.fit(trial.reference)
        shown, known = np.array_split(trial.random.permutation(trial.new), 2)
        towards = _discriminant(trial.reference, known)
        for share in SHARES:
            for _ in range(windows * (5 if share == 0 else 1)):
                count = round(share * size)
                rows = trial.random.choice(len(shown), count, replace=count > len(shown))
                window = np.concatenate([trial.window(size - count), shown[rows]])
                moved = window.mean(axis=0) - trial.reference.mean(axis=0)
                values["oracle", share].append(float(moved @ towards))
                values["score", share].append(detector.score(window))
    lines = []
    for name in ("oracle", "score"):
        threshold = np.quantile(values[name, 0.0], 0.99)
        found = [np.mean(np.array(values[name, share]) > threshold) for share in SHARES[1:]]
        lines.append((name, *(f"{power:.2f}" for power in found)))
    show(
        f"Power on new topics: {dataset.name}, windows of {size}, {trials * windows} windows each; "
        "the oracle knows half of the new topic's vectors, the other half is mixed in",
        ("", *(f"{share:.0%}" for share in SHARES[1:])),
        lines,
    )


def _discriminant(reference: Vectors, topic: Vectors) -> Vectors:
    """Return Fisher's discriminant of the topic, of unit variance in the reference."""
    covariance = np.cov(reference.T, dtype=np.float64)
    covariance += _RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    towards = np.linalg.solve(covariance, topic.mean(axis=0) - reference.mean(axis=0))
    scaled: Vectors = (towards / (reference @ towards).std()).astype(np.float32)
    return scaled
