"""Compressed request bodies, within a limit of what comes out."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from ingest.formats import checks
from ingest.runtime.errors import BodyTooLarge, PayloadError, UnsupportedMediaType

_GZIP = 16 + zlib.MAX_WBITS
"""What zlib takes for data with a header and trailer of gzip."""


def is_compressed(headers: Mapping[str, str]) -> bool:
    """Return whether a body is compressed with gzip.

    Parameters
    ----------
    headers : mapping
        By lower-case name. Read are ``content-encoding`` and ``transfer-encoding``.

    Raises
    ------
    UnsupportedMediaType
        If the body is encoded in another way.
    """
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip"):
        raise UnsupportedMediaType(
            f"Content-Encoding {encoding:.40} is not supported; allowed are gzip and identity"
        )
    checks.unencoded({**headers, "content-encoding": ""})
    return encoding == "gzip"


def decompress(body: bytes, limit: int) -> bytes:
    """Decompress a body.

    Parameters
    ----------
    body : bytes
        One member of gzip.
    limit : int
        Bytes that may come out, at most.

    Raises
    ------
    BodyTooLarge
        As soon as more would come out.
    PayloadError
        If the body is not gzip, is not complete, or has more than one member.
    """
    # One member only, which is what clients send: a body of tiny members would take very long.
    member = zlib.decompressobj(_GZIP)
    try:
        found = member.decompress(body, limit + 1)
    except zlib.error as error:
        raise PayloadError(f"the body is not valid gzip: {error}") from error
    if len(found) > limit:
        raise BodyTooLarge(f"the body, decompressed, exceeds {limit} bytes (ingest.max_body_bytes)")
    if not member.eof:
        raise PayloadError("the body is truncated: its gzip data has no end")
    if member.unused_data:
        raise PayloadError(f"the body has {len(member.unused_data)} bytes beyond its gzip data")
    return found
