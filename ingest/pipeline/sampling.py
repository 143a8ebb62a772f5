"""Sampling: which vectors of a model are stored, where there are more than the store can take."""

from __future__ import annotations

from hashlib import blake2b
from itertools import count

from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch

_HASHES = 2**64


class Sampler:
    """Takes a share of each model's vectors.

    A vector with an id is taken or not by its id alone: in every process, and again when it is
    sent again. Others are taken as by chance, but the same ones after every start.

    Attributes
    ----------
    settings : IngestSettings
        Those in force; may be replaced at any time.
    """

    def __init__(self, settings: IngestSettings) -> None:
        self.settings = settings
        self._numbers = count()

    def sample(self, batch: Batch) -> Batch:
        """Return what is stored of a batch, which may be nothing of it."""
        ratio = self._ratio(batch.model_name)
        if ratio == 1:
            return batch
        ids = batch.ids or [None] * len(batch)
        return batch.take([row for row, id_ in enumerate(ids) if self._hash(id_) < ratio * _HASHES])

    def _ratio(self, model_name: str) -> float:
        own = self.settings.models.get(model_name)
        return self.settings.sample_ratio if own is None else own.sample_ratio

    def _hash(self, id_: str | None) -> int:
        # A running number's hash, not every nth: a stream may have a rhythm of its own.
        data = f"#{next(self._numbers)}" if id_ is None else id_
        return int.from_bytes(blake2b(data.encode(), digest_size=8).digest())
