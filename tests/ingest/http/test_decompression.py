"""Compressed bodies: what is allowed, and the limit of what comes out."""

from __future__ import annotations

import gzip
import sys
import time
from collections.abc import Callable

import pytest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from ingest.http.decompression import decompress, encoding
from ingest.runtime.errors import BodyTooLarge, PayloadError, UnsupportedMediaType

COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress}

every_encoding = pytest.mark.parametrize("how", COMPRESS)


def test_a_compressed_body_is_told_from_a_plain_one() -> None:
    assert encoding({"content-encoding": "GZIP"}) == "gzip"
    assert encoding({"content-encoding": " zstd"}) == "zstd"
    assert encoding({"content-encoding": "identity", "transfer-encoding": "chunked"}) is None
    assert encoding({}) is None


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"content-encoding": "br"}, "gzip, zstd and identity"),
        ({"content-encoding": "gzip, gzip"}, "gzip, zstd and identity"),
        ({"transfer-encoding": "gzip"}, "chunked"),
    ],
)
def test_another_encoding_is_refused_by_name(headers: dict[str, str], allowed: str) -> None:
    with pytest.raises(UnsupportedMediaType, match=f"is not supported; allowed (are|is) {allowed}"):
        encoding(headers)


@every_encoding
def test_a_body_comes_out_as_it_was(how: str) -> None:
    assert decompress(COMPRESS[how](b"spans"), how, 5) == b"spans"
    assert decompress(COMPRESS[how](b""), how, 5) == b""


@every_encoding
def test_what_comes_out_is_limited_and_not_made_first(how: str) -> None:
    bomb = COMPRESS[how](bytes(500_000_000))
    seconds = []
    for _ in range(3):
        before = time.thread_time()
        with pytest.raises(BodyTooLarge, match="exceeds 1000 bytes"):
            decompress(bomb, how, 1_000)
        seconds.append(time.thread_time() - before)
    assert min(seconds) < 0.05


def test_a_window_of_zstd_is_limited() -> None:
    far = {int(zstd.CompressionParameter.window_log): 27}
    stream = zstd.ZstdCompressor(options=far)
    body = stream.compress(bytes(2_000)) + stream.flush()
    with pytest.raises(PayloadError, match=r"not valid zstd: .*too much memory"):
        decompress(body, "zstd", 2_000)


@every_encoding
def test_a_body_that_is_not_one_whole_member_is_refused(how: str) -> None:
    pack = COMPRESS[how]
    for body, reason in [
        (b"", "truncated"),
        (pack(b"spans" * 100)[:-1], "truncated"),
        (b"spans" * 10, f"not valid {how}"),
        (pack(b"a") + b"rest", "4 bytes beyond"),
        (pack(b"a") + pack(b"b"), f"{len(pack(b'b'))} bytes beyond"),
    ]:
        with pytest.raises(PayloadError, match=reason):
            decompress(body, how, 1_000)


def test_a_wrong_checksum_is_refused() -> None:
    with pytest.raises(PayloadError, match="not valid gzip"):
        decompress(gzip.compress(b"a")[:-8] + bytes(8), "gzip", 1_000)
