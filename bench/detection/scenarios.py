"""Kinds of drift, each at several strengths."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench.detection.data import Trial, Vectors

Scenario = Callable[[Trial, int], Vectors]


def new_topic(trial: Trial, size: int, share: float) -> Vectors:
    """Mix in a topic that the reference has not seen."""
    new = round(share * size)
    rows = trial.random.choice(len(trial.new), new, replace=new > len(trial.new))
    return np.concatenate([trial.window(size - new), trial.new[rows]])


def odds(trial: Trial, size: int, ratio: float) -> Vectors:
    """Draw half of the known topics more often."""
    weight = ratio * trial.in_half.mean()
    often = round(size * weight / (weight + 1 - trial.in_half.mean()))
    parts = (np.flatnonzero(trial.in_half), often), (np.flatnonzero(~trial.in_half), size - often)
    rows: list[NDArray[np.intp]] = [
        trial.random.choice(part, count, replace=count > len(part)) for part, count in parts
    ]
    return trial.pool[np.concatenate(rows)]


def rotation(trial: Trial, size: int) -> Vectors:
    """Rotate all vectors, like another model with the same geometry."""
    return trial.window(size) @ trial.turn


def noise(trial: Trial, size: int, share: float) -> Vectors:
    """Add noise of a share of the norm. Unit vectors stay unit vectors, as in an encoder."""
    vectors = trial.window(size)
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    noisy: NDArray[np.float64] = vectors + share * norm / vectors.shape[1] ** 0.5 * (
        trial.random.normal(size=vectors.shape)
    )
    if np.allclose(norm, 1, atol=1e-3):
        noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    return noisy.astype(np.float32)


def zeroed(trial: Trial, size: int, share: float) -> Vectors:
    """Set some dimensions to zero."""
    vectors = trial.window(size)
    d = vectors.shape[1]
    vectors[:, trial.random.permutation(d)[: max(1, round(share * d))]] = 0
    return vectors


def scaled(trial: Trial, size: int, factor: float) -> Vectors:
    """Multiply all vectors by a factor."""
    return trial.window(size) * np.float32(factor)


def collapsed(trial: Trial, size: int, share: float) -> Vectors:
    """Move all vectors a part of the way to their mean."""
    vectors = trial.window(size)
    moved: Vectors = vectors + np.float32(share) * (trial.reference.mean(axis=0) - vectors)
    return moved


def stuck(trial: Trial, size: int, share: float) -> Vectors:
    """Replace a share of the vectors by one vector."""
    vectors = trial.window(size)
    vectors[: round(share * size)] = vectors[0]
    return vectors


def twice(trial: Trial, size: int) -> Vectors:
    """Send every vector twice."""
    return np.repeat(trial.window(size // 2), 2, axis=0)


def float16(trial: Trial, size: int) -> Vectors:
    """Round to half precision."""
    return trial.window(size).astype(np.float16).astype(np.float32)


def int8(trial: Trial, size: int) -> Vectors:
    """Round to 255 levels."""
    vectors = trial.window(size)
    step = np.abs(vectors).max() / 127
    rounded: Vectors = np.round(vectors / step) * step
    return rounded


DRIFT: dict[str, Scenario] = {
    **{f"new topic {s:.0%}": partial(new_topic, share=s) for s in (0.01, 0.02, 0.05)},
    **{f"new topic {s:.0%}": partial(new_topic, share=s) for s in (0.1, 0.25, 0.5)},
    **{f"odds of half of the topics x{r:g}": partial(odds, ratio=r) for r in (1.25, 1.5, 2)},
    "rotation": rotation,
    **{f"noise {s:.0%} of the norm": partial(noise, share=s) for s in (0.1, 0.3)},
    **{f"{s:.0%} of dimensions zeroed": partial(zeroed, share=s) for s in (0.01, 0.08, 0.25)},
    **{f"scale x{f:g}": partial(scaled, factor=f) for f in (1.01, 1.05, 1.2)},
    **{f"collapse {s:.0%} to the mean": partial(collapsed, share=s) for s in (0.05, 0.1, 0.3)},
    **{f"{s:.0%} stuck": partial(stuck, share=s) for s in (0.01, 0.05, 0.2)},
    "every vector twice": twice,
}

ROUNDING: dict[str, Scenario] = {
    "float16": float16,
    "int8": int8,
    "noise 1%": partial(noise, share=0.01),
}
