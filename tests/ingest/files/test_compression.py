"""Open compressed files."""

from __future__ import annotations

import gzip
import io

import pyarrow as pa
import pytest

from ingest.files.compression import opened

DATA = bytes(range(256)) * 20_000


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_a_stream_can_go_back_and_to_its_end(codec: str) -> None:
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, codec) as stream:
        stream.write(DATA)
    file = opened(io.BytesIO(packed.getvalue().to_pybytes()))
    assert file.seek(0, io.SEEK_END) == len(DATA)
    file.seek(-300, io.SEEK_END)
    assert file.read() == DATA[-300:]
    file.seek(3)
    assert file.read() == DATA[3:]


def test_the_content_decides_and_not_the_name() -> None:
    assert opened(io.BytesIO(gzip.compress(DATA))).read() == DATA
    assert opened(io.BytesIO(DATA)).read() == DATA
