"""A space with topics, from which the tests of explanations draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Draw = Callable[[Sequence[int], int], Vectors]

KNOWN = list(range(20))
"""Topics of the baseline; 20 to 23 are new."""


def drawing(seed: int) -> Draw:
    """Return a function that draws unit vectors of topics: of each in turn, in a random order."""
    centres = np.random.default_rng(0).normal(size=(24, 64))
    # New topics are related to known ones, as real ones are.
    centres[20:] = 0.7 * (centres[:4] + centres[4:8] + centres[20:])
    random = np.random.default_rng(seed + 1)

    def draw(topics: Sequence[int], n: int) -> Vectors:
        of = random.permutation(np.resize(np.array(topics), n))
        found = centres[of] + 0.8 * random.normal(size=(n, 64))
        unit: Vectors = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
        return unit

    return draw
