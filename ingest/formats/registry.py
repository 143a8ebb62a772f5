"""The registry of body formats, and the function that reads a body by its content type.

A new format is one module with a ``FORMAT``, and one line in `FORMATS`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from ingest.formats import checks, columnar, json, npy, parquet, raw
from ingest.formats.format import Format
from ingest.formats.parameters import Parameters
from ingest.runtime.errors import UnsupportedMediaType
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch

FORMATS: Mapping[str, Format] = {
    format_.content_type: format_
    for format_ in (
        json.FORMAT,
        raw.FORMAT,
        npy.FORMAT,
        columnar.STREAM,
        parquet.FORMAT,
    )
}
"""Formats by content type."""


def find(headers: Mapping[str, str]) -> Format:
    """Return the format of a body.

    Parameters
    ----------
    headers : mapping
        By lower-case name.

    Raises
    ------
    UnsupportedMediaType
        If no format has the content type. Lists those that there are.
    """
    content_type = checks.content_type(headers)
    if content_type not in FORMATS:
        *others, last = FORMATS
        raise UnsupportedMediaType(
            f"Content-Type {content_type or '(none)'} is not supported; allowed are"
            f" {', '.join(others)} and {last}"
        )
    return FORMATS[content_type]


def parse(
    body: bytes,
    *,
    headers: Mapping[str, str],
    query: Mapping[str, str],
    limits: IngestSettings,
    now: float,
    default_model: str | None = None,
) -> Batch:
    """Read the body of ``POST /embeddings``.

    Parameters
    ----------
    body : bytes
        It is not compressed.
    headers : mapping
        By lower-case name. Read are ``content-type``, ``idempotency-key``, ``x-model-name``,
        ``x-dimension`` and ``x-dtype``.
    query : mapping
        Read are ``model_name``, ``dimension`` and ``dtype``.
    limits : IngestSettings
    now : float
        Seconds since the epoch. Timestamps may be at most a day later.
    default_model : str, optional
        The model's name if nothing else gives one.

    Raises
    ------
    PayloadError
        If the body cannot be used. Names everything that is wrong, where, and what is allowed.
    """
    checks.size(body, limits)
    format_ = find(headers)
    parameters = Parameters.of(headers, query, default_model)
    batch = format_.read(body, parameters, limits, now)
    key = checks.idempotency_key(headers)
    if key is None:
        return batch
    return replace(batch, idempotency_key=key, fingerprint=_fingerprint(body, format_, parameters))


def close() -> None:
    """End what reads bodies outside this process. A body that it reads is refused."""
    parquet.CHILD.close()


def _fingerprint(body: bytes, format_: Format, parameters: Parameters) -> bytes:
    """Hash a body and all that decides on how it is read."""
    given = (parameters.model_name, parameters.dimension, parameters.dtype)
    shape = f"{format_.content_type} {' '.join(map(str, given))}" if any(given) else ""
    return hashlib.sha256(shape.encode() + b"\0" + body).digest()
