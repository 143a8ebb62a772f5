"""Request bodies: bytes of any accepted format in, a validated batch out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from ingest.formats import binary, json
from ingest.formats.checks import content_type, idempotency_key, size, unencoded
from ingest.runtime.errors import UnsupportedMediaType
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch

__all__ = ["parse"]


def parse(
    body: bytes,
    *,
    headers: Mapping[str, str],
    query: Mapping[str, str],
    limits: IngestSettings,
    now: float,
) -> Batch:
    """Read the body of ``POST /embeddings``.

    Parameters
    ----------
    body : bytes
    headers : mapping
        Lower-case names; read are ``content-type``, ``content-encoding``, ``transfer-encoding``,
        ``idempotency-key`` and, for binary bodies, ``x-model-name`` and ``x-dimension``.
    query : mapping
        For binary bodies, ``model_name`` and ``dimension``.
    limits : IngestSettings
    now : float
        Seconds since the epoch; timestamps may lie at most a day ahead.

    Raises
    ------
    PayloadError
        Naming everything that is wrong, where, and what is allowed.
    """
    size(body, limits)
    unencoded(headers)
    kind = content_type(headers)
    if kind == "application/json":
        batch = json.read(body, limits, now)
        shape = ""
    elif kind in ("application/octet-stream", "application/x-npy"):
        parameters = binary.Parameters.of(headers, query)
        batch = binary.read(body, kind, parameters, limits)
        shape = f"{kind} {parameters.model_name} {parameters.dimension}"
    else:
        raise UnsupportedMediaType(
            f"Content-Type {kind or '(none)'} is not read here; allowed are"
            " application/json, application/octet-stream and application/x-npy"
        )
    key = idempotency_key(headers)
    if key is None:
        return batch
    fingerprint = hashlib.sha256(shape.encode() + b"\0" + body).digest()
    return replace(batch, idempotency_key=key, fingerprint=fingerprint)
