"""Real vectors with topics, and texts where the file has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

_COHERENT = 0.4
"""Share of the ten nearest vectors that have the same topic, from which a label is a topic for the
encoder. "libs" and "utils" are none."""
_NEIGHBOURS = 10
_JITTER = 1e-5
"""The files have float16. Without jitter, every window would look rounded like its baseline."""


@dataclass(frozen=True)
class Set:
    """Vectors, the topic of each, and perhaps its text."""

    name: str
    vectors: Vectors
    topic: NDArray[np.str_]
    texts: NDArray[np.str_] | None
    coherent: list[str]

    @property
    def n_reference(self) -> int:
        """Vectors of a baseline: what leaves a pool for windows of 1,000."""
        return min(5_000, len(self.vectors) - 2_400)


def load(file: Path) -> Set:
    """Read a file with ``embedding``, ``topic`` or ``section``, and perhaps ``text``."""
    with np.load(file) as data:
        vectors = data["embedding"].astype(np.float32)
        topic = data["topic"] if "topic" in data.files else data["section"]
        texts = data["text"] if "text" in data.files else None
    vectors *= (1 + _JITTER * np.random.default_rng(0).normal(size=vectors.shape)).astype(
        np.float32
    )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if np.abs(lengths - 1).max() < 0.01:
        vectors /= lengths
    return Set(file.stem, vectors, topic, texts, _coherent(vectors / lengths, topic))


def _coherent(unit: Vectors, topic: NDArray[np.str_]) -> list[str]:
    """Return the topics with at least 150 vectors whose neighbours mostly share the topic."""
    found = []
    for name, many in zip(*np.unique(topic, return_counts=True), strict=True):
        rows = np.flatnonzero(topic == name)[:200]
        cosines = unit[rows] @ unit.T
        cosines[np.arange(len(rows)), rows] = -1
        near = np.argpartition(-cosines, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
        if many >= 150 and (topic[near] == name).mean() >= _COHERENT:
            found.append(str(name))
    return found
