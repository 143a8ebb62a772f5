"""The incident: real sentence embeddings in which the share of a new topic grows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingest.files.reader import Rows

DATA = Path(__file__).parent / "data" / "package-descriptions-minilm.npz"

NEW_SECTION = "perl"
"""Section that is left out of the baseline."""
BASELINE_VECTORS = 3_000
RATE = 25
"""Vectors per second, sent in one batch."""
QUIET_SECONDS = 30
GROWTH_SECONDS = 50
FINAL_SHARE = 0.4
"""Share of the new topic in the last batch. It grows linearly from 0."""

SWAP_SECONDS = 15
"""Seconds of usual traffic before the encoder is swapped, and again after that."""

_SEED = 20_240_101


def share(second: int) -> float:
    """Return the share of the new topic in the batch of a second."""
    return FINAL_SHARE * max(0.0, (second - QUIET_SECONDS) / GROWTH_SECONDS)


class Incident:
    """One-line descriptions of Debian packages, embedded by all-MiniLM-L6-v2, in a fixed order."""

    def __init__(self) -> None:
        with np.load(DATA) as data:
            self._embedding = data["embedding"].astype(np.float32)
            self._text = data["text"].tolist()
            is_new = data["section"] == NEW_SECTION
        shuffled = np.random.default_rng(_SEED).permutation(len(is_new))
        self._usual = shuffled[~is_new[shuffled]]
        self._new = shuffled[is_new[shuffled]]

    def baseline(self) -> Rows:
        """Return the vectors of the baseline, without the new topic."""
        return self._rows(self._usual[:BASELINE_VECTORS])

    def stream(self) -> Iterator[Rows]:
        """Yield one batch per second. No vector is sent twice."""
        usual, new = self._usual[BASELINE_VECTORS:], self._new
        for second in range(1, QUIET_SECONDS + GROWTH_SECONDS + 1):
            count = math.ceil(RATE * share(second))
            yield self._rows(np.concatenate([usual[: RATE - count], new[:count]]))
            usual, new = usual[RATE - count :], new[count:]

    def swap(self) -> Iterator[Rows]:
        """Yield one batch per second: usual ones, then as another encoder would embed them.

        The other encoder is a stand-in: it turns each vector by the same random rotation. Distances
        between its vectors are as before, but they cannot be compared with the earlier ones.
        """
        usual = self._usual[BASELINE_VECTORS:]
        square = np.random.default_rng(_SEED).normal(size=(self._embedding.shape[1],) * 2)
        rotation = np.linalg.qr(square).Q.astype(np.float32)
        for second in range(2 * SWAP_SECONDS):
            chosen = usual[second * RATE : (second + 1) * RATE]
            rows = self._rows(chosen)
            yield rows if second < SWAP_SECONDS else replace(rows, vectors=rows.vectors @ rotation)

    def _rows(self, chosen: NDArray[np.intp]) -> Rows:
        texts = [{"text": self._text[i]} for i in chosen]
        return Rows(str(DATA), "row", chosen, chosen, self._embedding[chosen], metadata=texts)
