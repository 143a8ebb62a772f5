"""Canaries in bodies: a batch whose ids name a set of texts, and those ids among other vectors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ingest.formats import checks
from ingest.runtime.errors import BodyTooLarge, PayloadError, Problem
from ingest.store.batch import Batch
from ingest.store.canaries import ID_PREFIX, CanarySet

MAX_CANARIES = 128
"""Vectors of one set."""
_PART = "[A-Za-z0-9._-]{1,64}"
_ID = re.compile(f"{ID_PREFIX}{_PART}:{_PART}")


def read(batch: Batch) -> CanarySet:
    """Make a set of canaries of a batch.

    Parameters
    ----------
    batch : Batch
        As :func:`ingest.formats.registry.parse` reads it.

    Raises
    ------
    PayloadError
        If the ids are not those of one set, or there is metadata.
    BodyTooLarge
        If there are more than :data:`MAX_CANARIES`.
    """
    if len(batch) > MAX_CANARIES:
        raise BodyTooLarge(f"the set has {len(batch)} canaries; at most {MAX_CANARIES} are allowed")
    ids = batch.ids
    if ids is None:
        raise PayloadError("canaries need ids; allowed are canary:SET:TEXT, in a JSON body")
    if problems := [*_wrong_ids(ids), *_metadata(batch)]:
        raise checks.refuse(problems)
    named = [id_ for id_ in ids if id_ is not None]
    name, *others = sorted({id_.split(":")[1] for id_ in named})
    if others:
        raise PayloadError(f"a request has canaries of one set; here are {name}, {others[0]}")
    order = sorted(range(len(named)), key=named.__getitem__)
    return CanarySet(
        batch.model_name,
        name,
        [named[row] for row in order],
        batch.vectors[order],
        batch.idempotency_key,
        batch.fingerprint,
    )


def _wrong_ids(ids: Sequence[str | None]) -> Iterator[Problem]:
    for index, id_ in enumerate(ids):
        if id_ is None or not _ID.fullmatch(id_):
            yield Problem(
                f"/ids/{index}",
                f"{id_!r:.80} is not the id of a canary; allowed are canary:SET:TEXT, where SET and"
                " TEXT are 1 to 64 letters, digits and . _ -",
                index,
            )


def _metadata(batch: Batch) -> Iterator[Problem]:
    for index, metadata in enumerate(batch.metadata or ()):
        if metadata is not None:
            yield Problem(f"/metadata/{index}", "is not kept; canaries have none", index)
