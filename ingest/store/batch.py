"""A batch: checked vectors of one model, to be stored together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Batch:
    """Vectors of one model. All are stored, or none.

    Attributes
    ----------
    model_name : str
        A legal model name.
    vectors : ndarray of float32, shape (n, d)
        C-contiguous and finite. d is at least 1; n may be 0 after sampling.
    ids : list of str or None, or None
        The client's id of each vector; None for a vector without one.
    metadata : list of bytes or None, or None
        Each vector's metadata as one encoded JSON object.
    timestamps : list of float or None, or None
        When each vector was made, as the client says, in seconds since the epoch.
    idempotency_key : str or None
        The request's ``Idempotency-Key``.
    fingerprint : bytes
        SHA-256 of the request's content. It distinguishes a repeated request from another request
        with the same key.
    revised_cosines : list of float or None, or None
        Cosine between each vector and the earlier one of its id that it revises; None for a vector
        that revises none. Set when the batch is stored.
    """

    model_name: str
    vectors: NDArray[np.float32]
    ids: list[str | None] | None = None
    metadata: list[bytes | None] | None = None
    timestamps: list[float | None] | None = None
    idempotency_key: str | None = None
    fingerprint: bytes = b""
    revised_cosines: list[float | None] | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dimension(self) -> int:
        """Number of components of each vector."""
        return int(self.vectors.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors and their metadata."""
        metadata = sum(len(item) for item in self.metadata or () if item is not None)
        return self.vectors.nbytes + metadata

    def parts(self, size: int) -> Iterator[Batch]:
        """Cut the batch into parts of at most ``size`` vectors."""
        if len(self) <= size:
            yield self
            return
        for first in range(0, len(self), size):
            yield self.take(range(first, min(first + size, len(self))))

    def take(self, rows: Sequence[int]) -> Batch:
        """Return a batch of the vectors with these row numbers."""

        def of(column: list[T] | None) -> list[T] | None:
            return None if column is None else [column[row] for row in rows]

        return replace(
            self,
            vectors=self.vectors[list(rows)],
            ids=of(self.ids),
            metadata=of(self.metadata),
            timestamps=of(self.timestamps),
            revised_cosines=of(self.revised_cosines),
        )
