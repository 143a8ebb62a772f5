"""Sampling: stores a share of the vectors of a model."""

from __future__ import annotations

from hashlib import blake2b
from itertools import count

from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch

_HASHES = 2**64


class Sampler:
    """Selects a share of the vectors of each model.

    The id alone decides on a vector, so every process and every retry decide alike. Vectors
    without an id are selected by a hash of a running number.

    Attributes
    ----------
    settings : IngestSettings
        The current settings. May be replaced at any time.
    """

    def __init__(self, settings: IngestSettings) -> None:
        self.settings = settings
        self._numbers = count()

    def sample(self, batch: Batch) -> Batch:
        """Return the part of a batch to store, which may be empty."""
        ratio = self._ratio(batch.model_name)
        if ratio == 1:
            return batch
        ids = batch.ids or [None] * len(batch)
        return batch.take([row for row, id_ in enumerate(ids) if self._hash(id_) < ratio * _HASHES])

    def _ratio(self, model_name: str) -> float:
        own = self.settings.models.get(model_name)
        return self.settings.sample_ratio if own is None else own.sample_ratio

    def _hash(self, id_: str | None) -> int:
        # Not every nth, because a stream may repeat itself with that period.
        data = f"#{next(self._numbers)}" if id_ is None else id_
        return int.from_bytes(blake2b(data.encode(), digest_size=8).digest())
