"""Observations: vectors with what is known of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.stats.arrays import Floats, Vectors

TEXT = "text"
"""Key of the metadata that holds the text that was embedded."""
VERSION = "model_version"
"""Key of the metadata that holds the version of the encoder."""


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """Vectors in the order of their arrival.

    Attributes
    ----------
    vectors : ndarray of float32, shape (n, d)
    metadata : sequence of mapping or None, length n, or None
        The JSON object that was sent with each vector.
    times : ndarray of float64, shape (n,), or None
        When each was stored, in seconds since the epoch. A detector that knows a season needs it.
    """

    vectors: Vectors
    metadata: Sequence[Mapping[str, object] | None] | None = None
    times: Floats | None = None

    def __post_init__(self) -> None:
        for name in ("metadata", "times"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.vectors):
                raise ValueError(f"{len(self.vectors)} vectors have {len(column)} {name}")

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def texts(self) -> list[str | None]:
        """The text of each vector, where its metadata holds one."""
        if self.metadata is None:
            return [None] * len(self)
        return [
            text if each and isinstance(text := each.get(TEXT), str) else None
            for each in self.metadata
        ]

    def take(self, rows: NDArray[np.intp]) -> Observations:
        """Return those in some rows, in this order."""
        metadata = None if self.metadata is None else [self.metadata[row] for row in rows.tolist()]
        times = None if self.times is None else self.times[rows]
        return Observations(self.vectors[rows], metadata, times)
