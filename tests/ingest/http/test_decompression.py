"""Compressed bodies: what is allowed, and the limit of what comes out."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest

from ingest.http.decompression import decompress, is_compressed
from ingest.runtime.errors import BodyTooLarge, PayloadError, UnsupportedMediaType


def test_gzip_is_told_from_a_plain_body() -> None:
    assert is_compressed({"content-encoding": "GZIP"})
    assert not is_compressed({"content-encoding": "identity", "transfer-encoding": "chunked"})
    assert not is_compressed({})


@pytest.mark.parametrize(
    "headers",
    [{"content-encoding": "br"}, {"content-encoding": "gzip, gzip"}, {"transfer-encoding": "gzip"}],
)
def test_another_encoding_is_refused_by_name(headers: dict[str, str]) -> None:
    with pytest.raises(UnsupportedMediaType, match="is not supported; allowed"):
        is_compressed(headers)


def test_a_body_comes_out_as_it_was() -> None:
    assert decompress(gzip.compress(b"spans"), 5) == b"spans"
    assert decompress(gzip.compress(b""), 5) == b""


def test_what_comes_out_is_limited_and_not_made_first() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    with pytest.raises(BodyTooLarge, match="exceeds 1000 bytes"):
        decompress(bomb, 1_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "truncated"),
        (gzip.compress(b"spans" * 100)[:-1], "truncated"),
        (b"spans", "not valid gzip"),
        (gzip.compress(b"a")[:-8] + bytes(8), "not valid gzip"),
        (gzip.compress(b"a") + b"rest", "4 bytes beyond"),
        (gzip.compress(b"a") + gzip.compress(b"b"), "21 bytes beyond"),
    ],
    ids=["nothing", "cut", "plain", "wrong checksum", "garbage behind", "two members"],
)
def test_a_body_that_is_no_whole_gzip_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(PayloadError, match=reason):
        decompress(body, 1_000)
