"""Canaries: fixed texts that are embedded again and again, to notice that the encoder changed.

`canaries.json` beside this module has 16 ordinary texts, and 16 that show changes which touch few
texts: long, punctuated, of other scripts and directions, with emoji, code, or nearly empty.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from typing import Any

import numpy as np

from embedding_drift_client.errors import PayloadError, refusal
from embedding_drift_client.rows import Rows, read
from embedding_drift_client.values import kind

Encode = Callable[[list[str]], Any]
"""Returns the vectors of texts, as anything that ``add`` accepts."""
AsyncEncode = Callable[[list[str]], Awaitable[Any]]
"""The same for an event loop."""

MAX_TEXTS = 128
"""Texts of a set that the service accepts."""

TEXTS: tuple[str, ...] = tuple(
    json.loads((resources.files(__package__) / "canaries.json").read_text(encoding="utf-8"))
)
"""The shipped texts: 16 ordinary ones, then 16 awkward ones."""


def checked(texts: Sequence[str] | None) -> list[str]:
    """Return the texts to embed; the shipped ones for None.

    Raises
    ------
    PayloadError
        If they are not 1 to :data:`MAX_TEXTS` texts.
    """
    if texts is None:
        return list(TEXTS)
    if isinstance(texts, str):
        raise PayloadError("texts is one text; pass a list of texts")
    listed = list(texts)
    wrong = next((text for text in listed if not isinstance(text, str)), None)
    if wrong is not None:
        raise PayloadError(f"texts has an element of type {kind(wrong)}; pass a list of texts")
    if not 1 <= len(listed) <= MAX_TEXTS:
        raise PayloadError(f"texts has {len(listed)} elements; allowed are 1 to {MAX_TEXTS}")
    return listed


def rows(texts: Sequence[str], vectors: object) -> Rows:
    """Give each vector the reserved id of its text.

    Parameters
    ----------
    texts : sequence of n str
    vectors : array_like, shape (n, d)
        What ``encode`` returned for the texts.

    Raises
    ------
    PayloadError
        If these are not n finite vectors of one dimension.
    """
    given = read(vectors, None, None, None)
    if given.problems:
        raise refusal(given.problems)
    if given.count != len(texts) or len(given.rows) != 1:
        dimensions = " and ".join(str(part.vectors.shape[1]) for part in given.rows)
        raise PayloadError(
            f"encode returned {given.count} vectors of dimension {dimensions or 'none'} for"
            f" {len(texts)} texts; it must return one of the same dimension for each"
        )
    return Rows(np.ascontiguousarray(given.rows[0].vectors), ids(texts))


def ids(texts: Sequence[str]) -> list[str]:
    """Return the reserved id of each text: ``canary:SET:NUMBER``.

    SET is a digest of all texts, so that the vectors of other texts are never compared with these.
    """
    digest = hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()[:16]
    return [f"canary:{digest}:{number}" for number in range(len(texts))]
