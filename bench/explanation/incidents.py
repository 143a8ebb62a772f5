"""Changes of the model, of its numbers and of the data, made from stored vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bench.explanation.sets import Vectors
from bench.explanation.trials import SIZE, Trial
from exporter.explain.kinds import Kind

Change = Callable[[Trial], Vectors]


def _known(trial: Trial) -> Vectors:
    return trial.data.vectors[trial.window(())]


def _as_long(changed: Vectors, before: Vectors) -> Vectors:
    """Normalise, if the encoder does."""
    lengths = np.linalg.norm(before, axis=1)
    if np.abs(lengths - 1).max() > 0.01:
        return changed.astype(np.float32)
    unit: Vectors = changed / np.linalg.norm(changed, axis=1, keepdims=True)
    return unit.astype(np.float32)


def _rotated(trial: Trial, share: float = 1.0) -> Vectors:
    window = _known(trial)
    d = window.shape[1]
    turn = np.linalg.qr(trial.random.normal(size=(d, d)))[0].astype(np.float32)
    some = trial.random.random(len(window)) < share
    window[some] = window[some] @ turn
    return window


def _permuted(trial: Trial) -> Vectors:
    window = _known(trial)
    return np.ascontiguousarray(window[:, trial.random.permutation(window.shape[1])])


def _flipped(trial: Trial) -> Vectors:
    window = _known(trial)
    signs: Vectors = trial.random.choice(np.array([-1, 1], np.float32), window.shape[1])
    return window * signs


def _centred(trial: Trial) -> Vectors:
    window = _known(trial)
    return _as_long(window - trial.baseline.vectors.mean(axis=0), window)


def _silent(trial: Trial) -> Vectors:
    window = _known(trial)
    d = window.shape[1]
    window[:, trial.random.choice(d, max(1, d // 50), replace=False)] = 0
    return window


def _noisy(trial: Trial) -> Vectors:
    window = _known(trial)
    size = 0.3 * np.linalg.norm(window, axis=1, keepdims=True) / window.shape[1] ** 0.5
    return _as_long(window + size * trial.random.normal(size=window.shape), window)


def _tuned(trial: Trial, strength: float) -> Vectors:
    """Add a smooth function of low rank, as fine-tuning does."""
    window = _known(trial)
    d, deviation = window.shape[1], window.std()
    rank = max(4, d // 16)
    read = trial.random.normal(size=(d, rank)) / d**0.5
    written = trial.random.normal(size=(rank, d)) / rank**0.5
    added = np.tanh(2 * (window / deviation) @ read) @ written
    return _as_long(window + strength * deviation * added, window)


def _prefixed(trial: Trial) -> Vectors:
    """Add the same vector to all, as a prefix of the text does."""
    window = _known(trial)
    added = trial.random.normal(size=window.shape[1])
    added *= 0.2 * np.median(np.linalg.norm(window, axis=1)) / np.linalg.norm(added)
    return _as_long(window + added, window)


def _scaled(trial: Trial, factor: float) -> Vectors:
    return _known(trial) * np.float32(factor)


def _not_normalised(trial: Trial) -> Vectors:
    factors = trial.random.lognormal(1, 0.3, (SIZE, 1))
    return (_known(trial) * factors).astype(np.float32)


def _half(trial: Trial) -> Vectors:
    return _known(trial).astype(np.float16).astype(np.float32)


def _brain(trial: Trial) -> Vectors:
    bits = _known(trial).view(np.uint32)
    return ((bits + 0x8000) & np.uint32(0xFFFF0000)).view(np.float32)


def _int8(trial: Trial) -> Vectors:
    window = _known(trial)
    step = np.abs(window).max(axis=1, keepdims=True) / 127
    rounded: Vectors = np.rint(window / step) * step
    return rounded.astype(np.float32)


def _stuck(trial: Trial, share: float) -> Vectors:
    window = _known(trial)
    window[trial.random.random(len(window)) < share] = window[0]
    return window


def _new(trial: Trial, share: float) -> Vectors:
    topic = trial.data.topic
    rows = np.flatnonzero(np.isin(topic, trial.new))
    many = min(round(share * SIZE), len(rows))
    rest = min(round(many / share) - many, len(trial.pool))
    chosen = [
        trial.random.choice(rows, many, replace=False),
        trial.random.choice(trial.pool, rest, replace=False),
    ]
    order: NDArray[np.intp] = trial.random.permutation(np.concatenate(chosen))
    return trial.data.vectors[order]


def _mixed(trial: Trial, odds: float) -> Vectors:
    topics = np.unique(trial.data.topic[trial.pool])
    half = trial.random.permutation(topics)[: len(topics) // 2]
    weight = np.where(np.isin(trial.data.topic[trial.pool], half), odds, 1.0)
    size = min(SIZE, len(trial.pool) // 2)
    rows: NDArray[np.intp] = trial.random.choice(
        trial.pool, size, replace=False, p=weight / weight.sum()
    )
    return trial.data.vectors[rows]


INCIDENTS: dict[str, tuple[Kind, Change]] = {
    "no drift": ("none", _known),
    "rotation": ("model", _rotated),
    "rotation of 20 %": ("model", lambda trial: _rotated(trial, 0.2)),
    "rotation of 50 %": ("model", lambda trial: _rotated(trial, 0.5)),
    "permuted dimensions": ("model", _permuted),
    "flipped signs": ("model", _flipped),
    "centred": ("model", _centred),
    "silent dimensions": ("model", _silent),
    "noise of 0.3": ("model", _noisy),
    "tuned a little": ("model", lambda trial: _tuned(trial, 0.3)),
    "tuned much": ("model", lambda trial: _tuned(trial, 1.0)),
    "prefix": ("model", _prefixed),
    "scale 1.05": ("scale", lambda trial: _scaled(trial, 1.05)),
    "scale 5": ("scale", lambda trial: _scaled(trial, 5)),
    "not normalised": ("scale", _not_normalised),
    "float16": ("precision", _half),
    "bfloat16": ("precision", _brain),
    "int8": ("precision", _int8),
    "20 % stuck": ("stuck", lambda trial: _stuck(trial, 0.2)),  # Of 10 %, the score is quiet.
    "40 % stuck": ("stuck", lambda trial: _stuck(trial, 0.4)),
    "new topics 25 %": ("new content", lambda trial: _new(trial, 0.25)),
    "new topics 50 %": ("new content", lambda trial: _new(trial, 0.5)),
    "new topics 100 %": ("new content", lambda trial: _new(trial, 1.0)),
    "odds of half of the topics x6": ("other mix", lambda trial: _mixed(trial, 6)),
}
"""The true cause, and how to make a window, by name."""
