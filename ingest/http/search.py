"""Reading the body of ``POST /search``: what to find, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from ingest.formats import checks, json
from ingest.http.bodies import Scope, Search
from ingest.runtime.errors import PayloadError, Problem, UnsupportedMediaType
from ingest.runtime.settings.settings import IngestSettings

_DECODER = msgspec.json.Decoder(Search)


@dataclass(frozen=True, slots=True)
class Query:
    """A search.

    Attributes
    ----------
    model_name : str
    target : ndarray of float32, shape (d,), or str or int
        A vector, or the id or number of a stored one.
    k : int
    scope : str
    filter : bytes or None
        What the metadata must have, as one encoded JSON object.
    """

    model_name: str
    target: NDArray[np.float32] | str | int
    k: int
    scope: Scope
    filter: bytes | None = None


def parse(body: bytes, headers: Mapping[str, str], limits: IngestSettings) -> Query:
    """Read a search.

    Parameters
    ----------
    body : bytes
        It is not compressed.
    headers : mapping
        By lower-case name. Read is ``content-type``.
    limits : IngestSettings

    Raises
    ------
    PayloadError
        If the body cannot be used. Names what is wrong and what is allowed.
    """
    content_type = checks.content_type(headers)
    if content_type != "application/json":
        raise UnsupportedMediaType(
            f"Content-Type {content_type or '(none)'} is not supported; allowed is application/json"
        )
    decoded = json.decode(body, _DECODER, limits)
    name = checks.model_name(decoded.model_name, "/model_name")
    target = _target(decoded, limits)
    return Query(name, target, decoded.k, decoded.scope, _filter(decoded, limits))


def _target(decoded: Search, limits: IngestSettings) -> NDArray[np.float32] | str | int:
    given = [decoded.embedding is not UNSET, decoded.id is not None, decoded.seq is not None]
    if sum(given) != 1:
        raise PayloadError("the search needs one of embedding, id and seq")
    if decoded.embedding is not UNSET:
        vector = json.vector(decoded.embedding, limits)
        if not np.any(vector):
            raise checks.refuse([Problem("/embedding", "is all zeros, which has no direction")])
        return vector
    if decoded.id is not None:
        id_ = str(decoded.id)
        if (reason := checks.vector_id(id_)) is not None:
            raise checks.refuse([Problem("/id", reason)])
        return id_
    assert decoded.seq is not None
    return decoded.seq


def _filter(decoded: Search, limits: IngestSettings) -> bytes | None:
    if decoded.filter is None:
        return None
    reason = checks.TOO_DEEP if checks.is_too_deep(decoded.filter) else None
    encoded = b"" if reason else msgspec.json.encode(decoded.filter)
    if reason := reason or checks.metadata(encoded, limits):
        raise checks.refuse([Problem("/filter", reason)])
    return encoded
