"""Unknown fields of JSON bodies: what was probably meant, and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

from ingest.runtime.errors import Problem

_USUAL = {
    "model": "model_name",
    "modelid": "model_name",
    "name": "model_name",
    "vector": "embedding",
    "values": "embedding",
    "emb": "embedding",
    "dense": "embedding",
    "features": "embedding",
    "vectors": "embeddings",
    "uuid": "id",
    "key": "id",
    "keys": "ids",
    "payload": "metadata",
    "meta": "metadata",
    "metadatas": "metadata",
    "properties": "metadata",
    "timestamp": "metadata.timestamp",
    "time": "metadata.timestamp",
    "createdat": "metadata.timestamp",
    "text": "metadata.text",
    "document": "metadata.text",
    "input": "metadata.text",
}
"""What other programs call our fields, in lower case and without signs between the words."""
_SHOWN = 60


def unknown(names: Sequence[str], allowed: Collection[str]) -> list[Problem]:
    """Return a problem for each name that is not allowed, with the one that was probably meant."""
    listed = ", ".join(f'"{name}"' for name in allowed)
    problems = []
    for name in names:
        if name in allowed:
            continue
        meant = _meant(name, allowed)
        question = f': did you mean "{meant}"?' if meant else ";"
        reason = f'unknown field "{name[:_SHOWN]}"{question} allowed are {listed}'
        problems.append(Problem("", reason))
    return problems


def _meant(name: str, allowed: Collection[str]) -> str | None:
    plain = "".join(filter(str.isalnum, name[:_SHOWN].lower()))
    usual = _USUAL.get(plain)
    if usual is not None and usual.partition(".")[0] in allowed:
        return usual
    by_letters = {"".join(filter(str.isalnum, each)): each for each in allowed}
    close = difflib.get_close_matches(plain, by_letters, 1)
    return by_letters[close[0]] if close else None
