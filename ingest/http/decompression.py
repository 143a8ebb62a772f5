"""Compressed request bodies, within a limit of what comes out."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from ingest.runtime.errors import BodyTooLarge, PayloadError, UnsupportedMediaType

_GZIP = 16 + zlib.MAX_WBITS
"""What zlib takes for data with a header and trailer of gzip."""
_WINDOW = {int(zstd.DecompressionParameter.window_log_max): 23}
"""8 MiB, the most that RFC 9659 allows in HTTP: a decompressor holds a window in memory."""


class _Member(Protocol):
    """Decompresses data of one member of gzip, or one frame of zstd."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


_MEMBERS: Mapping[str, Callable[[], _Member]] = {
    "gzip": lambda: zlib.decompressobj(_GZIP),
    "zstd": lambda: zstd.ZstdDecompressor(options=_WINDOW),
}

ENCODINGS = (*_MEMBERS, "identity")
"""What ``Content-Encoding`` may be."""


def encoding(headers: Mapping[str, str]) -> str | None:
    """Return how a body is compressed; None if it is not.

    Parameters
    ----------
    headers : mapping
        By lower-case name. Read are ``content-encoding`` and ``transfer-encoding``.

    Raises
    ------
    UnsupportedMediaType
        If the body is encoded in another way.
    """
    given = headers.get("content-encoding", "").strip().lower()
    if given not in ("", *ENCODINGS):
        *others, last = ENCODINGS
        raise UnsupportedMediaType(
            f"Content-Encoding {given:.40} is not supported; allowed are"
            f" {', '.join(others)} and {last}"
        )
    transfer = headers.get("transfer-encoding", "").strip().lower()
    if transfer not in ("", "chunked"):
        raise UnsupportedMediaType(
            f"Transfer-Encoding {transfer:.40} is not supported; allowed is chunked"
        )
    return given if given in _MEMBERS else None


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """Decompress a body.

    Parameters
    ----------
    body : bytes
        One member of gzip, or one frame of zstd.
    encoding : {"gzip", "zstd"}
    limit : int
        Bytes that may come out, at most.

    Raises
    ------
    BodyTooLarge
        As soon as more would come out.
    PayloadError
        If the body is damaged, is not complete, or has more than one member.
    """
    # One member only, which is what clients send: a body of tiny members would take very long.
    member = _MEMBERS[encoding]()
    try:
        found = member.decompress(body, limit + 1)
    except (zlib.error, zstd.ZstdError) as error:
        raise PayloadError(f"the body is not valid {encoding}: {error}") from error
    if len(found) > limit:
        raise BodyTooLarge(f"the body, decompressed, exceeds {limit} bytes (ingest.max_body_bytes)")
    if not member.eof:
        raise PayloadError(f"the body is truncated: its {encoding} data has no end")
    if member.unused_data:
        raise PayloadError(
            f"the body has {len(member.unused_data)} bytes beyond its {encoding} data"
        )
    return found
