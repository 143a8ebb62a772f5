"""Open files on any file system of fsspec, and turn every error of theirs into OSError."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec

# A special character of a password that is not percent-encoded ends it. Its rest becomes another
# part of the URL, which the errors of libraries quote. Digits may be a port.
_UNENCODED = re.compile(r"://[^\s/?#@]*:(?!\d+/)[^\s/?#@]*[/?#]\S*@")


@contextmanager
def answering() -> Iterator[None]:
    """Raise OSError for every error of a file system.

    Libraries below fsspec raise errors that only derive from Exception. Use this around calls of a
    file system alone: around other code it would hide bugs.
    """
    try:
        yield
    except Exception as error:
        # Errors of the system and of a missing package have a clear message. Others may have only
        # a type and a cause.
        if isinstance(error, (ValueError, ImportError)) or getattr(error, "errno", None):
            raise OSError(str(error)) from error
        chain = [error] if error.__cause__ is None else [error, error.__cause__]
        parts = [f"{type(each).__name__}: {each}".removesuffix(": ") for each in chain]
        raise OSError(", by ".join(parts)) from error


def filesystem_of(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it.

    Raises
    ------
    OSError
        If there is none, or the URL has a password that is not percent-encoded.
    """
    with answering():
        if _UNENCODED.search(url):
            raise ValueError("/ ? and # in a user and password are written %2F %3F and %23")
        filesystem, path = fsspec.url_to_fs(url)
        return filesystem, path


def open_file(filesystem: Any, path: str, mode: str) -> io.RawIOBase:
    """Open a file. All errors of its methods are OSErrors."""
    with answering():
        return _File(filesystem.open(path, mode))


class _File(io.RawIOBase):
    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return bool(self._file.readable())

    def writable(self) -> bool:
        return bool(self._file.writable())

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def tell(self) -> int:
        with answering():
            return int(self._file.tell())

    def seek(self, offset: int, whence: int = 0) -> int:
        with answering():
            return int(self._file.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        with answering():
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        with answering():
            return bytes(self._file.read(size))

    def write(self, data: Any) -> int:
        with answering():
            return int(self._file.write(data))

    def close(self) -> None:
        if not self.closed:
            super().close()
            with answering():
                self._file.close()


def shown(text: str) -> str:
    """Remove from the URLs in a text what may be secret: users, passwords and queries."""
    text = re.sub(r"://[^/\s]*@", "://", _UNENCODED.sub("://", text))
    return re.sub(r"(?<=\S)\?[^\s'\"<>)]+", "", text)
