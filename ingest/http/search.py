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
    """A search. ``target`` is a vector of shape (d,) or the id of a stored one."""

    model_name: str
    target: NDArray[np.float32] | str
    k: int
    scope: Scope


def parse(body: bytes, headers: Mapping[str, str], limits: IngestSettings) -> Query:
    """Read a search.

    Parameters
    ----------
    body : bytes
    headers : mapping
        By lower-case name. Read are ``content-type``, ``content-encoding`` and
        ``transfer-encoding``.
    limits : IngestSettings

    Raises
    ------
    PayloadError
        If the body cannot be used. Names what is wrong and what is allowed.
    """
    checks.unencoded(headers)
    content_type = checks.content_type(headers)
    if content_type != "application/json":
        raise UnsupportedMediaType(
            f"Content-Type {content_type or '(none)'} is not supported; allowed is application/json"
        )
    decoded = json.decode(body, _DECODER, limits)
    if (decoded.embedding is UNSET) == (decoded.id is None):
        raise PayloadError("the search needs either embedding or id")
    if decoded.embedding is not UNSET:
        target: NDArray[np.float32] | str = json.vector(decoded.embedding, limits)
        if not np.any(target):
            raise checks.refuse([Problem("/embedding", "is all zeros, which has no direction")])
    else:
        assert decoded.id is not None
        target = decoded.id
        if (reason := checks.vector_id(decoded.id)) is not None:
            raise checks.refuse([Problem("/id", reason)])
    name = checks.model_name(decoded.model_name, "/model_name")
    return Query(name, target, decoded.k, decoded.scope)
