"""Open compressed files as what they hold."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from typing import IO, Any

_READ = 2**20


class _Shared(io.RawIOBase):
    """A file that stays open when pyarrow closes it, which it does with each of its streams."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)


class _Stream(io.RawIOBase):
    """A stream of pyarrow, which cannot go back; this one begins again to do so."""

    def __init__(self, file: IO[bytes], codec: str) -> None:
        self._file = file
        self._codec = codec
        self._restart()

    def _restart(self) -> None:
        import pyarrow as pa

        self._file.seek(0)
        self._stream = pa.CompressedInputStream(_Shared(self._file), self._codec)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            while len(data := self._stream.read(_READ)):
                self._at += len(data)
        target = offset + (0 if whence == io.SEEK_SET else self._at)
        if target < self._at:
            self._restart()
        while self._at < target:
            data = self._stream.read(min(_READ, target - self._at))
            if not data:
                break
            self._at += len(data)
        return self._at


def _arrow(codec: str) -> Callable[[IO[bytes]], IO[bytes]]:
    return lambda file: io.BufferedReader(_Stream(file, codec), _READ)


_CODECS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda file: io.BufferedReader(gzip.GzipFile(fileobj=file)),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": _arrow("zstd"),
    b"\x04\x22\x4d\x18": _arrow("lz4"),
}
"""How to open a file, by the bytes that it begins with."""

SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zstd", ".lz4")
"""Suffixes of compressed files. What a file begins with decides, not its name."""


def opened(file: IO[bytes]) -> IO[bytes]:
    """Return a file's content, decompressed if it is compressed; it can be read and sought."""
    start = file.read(max(map(len, _CODECS)))
    file.seek(0)
    for magic, decompress in _CODECS.items():
        if start.startswith(magic):
            return decompress(file)
    return file
