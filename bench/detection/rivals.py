"""Classical measures of drift. Each is a number that grows with the drift."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score

from bench.detection.data import Vectors
from exporter.stats import ks, wasserstein
from exporter.stats.columns import sorted_columns

Rival = Callable[[Vectors], float]


def rivals(reference: Vectors, seed: int) -> dict[str, Rival]:
    """Return all of them, fitted to a reference.

    Thresholds are measured on windows without drift, so no method suffers from bad calibration.
    With such a threshold, KS with Bonferroni's correction is the largest statistic of a dimension.
    """
    random = np.random.default_rng(seed)
    columns = sorted_columns(reference)
    deviation = np.maximum(reference.std(axis=0), 0.05 * np.median(reference.std(axis=0)))
    centroid = reference.mean(axis=0)
    some = reference[:500]
    distances = np.square(some[:, None, :] - some[None, :60]).sum(axis=2)
    waves = random.normal(size=(reference.shape[1], 512)) / np.sqrt(np.median(distances))
    waves = waves.astype(np.float32)

    def embedded(vectors: Vectors) -> Vectors:
        angles = vectors @ waves
        return np.concatenate([np.cos(angles).mean(axis=0), np.sin(angles).mean(axis=0)])

    expected = embedded(reference)

    def mmd(window: Vectors) -> float:
        return float(np.square(embedded(window) - expected).sum())

    def classifier(window: Vectors) -> float:
        other = reference[random.permutation(len(reference))[: len(window)]]
        vectors = np.concatenate([window, other])
        label = np.repeat([1, 0], len(window))
        fold = random.permutation(len(label)) % 2
        score = np.empty(len(label))
        for held_out in (0, 1):
            model = RidgeClassifier(alpha=len(window) * vectors.var()).fit(
                vectors[fold != held_out], label[fold != held_out]
            )
            score[fold == held_out] = model.decision_function(vectors[fold == held_out])
        return float(roc_auc_score(label, score))

    return {
        "KS + Bonferroni": lambda w: float(ks.of_columns(columns, sorted_columns(w)).max()),
        "mean W1": lambda w: float(
            (wasserstein.of_columns(columns, sorted_columns(w)) / deviation).mean()
        ),
        "RFF-MMD": mmd,
        "centroid": lambda w: float(np.square(w.mean(axis=0) - centroid).sum()),
        "classifier": classifier,
    }
