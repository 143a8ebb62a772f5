"""Files on any file system that fsspec knows; what goes wrong there is an OSError."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def answering() -> Iterator[None]:
    """Raise an OSError for whatever a file system raises.

    The libraries below fsspec have errors that derive from nothing but Exception. Only calls of a
    file system belong in here: of anything else it would hide a bug.
    """
    try:
        yield
    except Exception as error:
        # The system's errors and a missing package's explain themselves; of others, often only
        # the name and the cause say anything.
        if isinstance(error, (ValueError, ImportError)) or getattr(error, "errno", None):
            raise OSError(str(error)) from error
        chain = [error] if error.__cause__ is None else [error, error.__cause__]
        told = [f"{type(each).__name__}: {each}".removesuffix(": ") for each in chain]
        raise OSError(", by ".join(told)) from error


def open_file(filesystem: Any, path: str, mode: str) -> io.RawIOBase:
    """Open a file, all of whose failures are OSErrors."""
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
    """Leave out of URLs in a text what may be secret: users, passwords and queries."""
    return re.sub(r"(?<=\S)\?[^\s'\"<>)]+", "", re.sub(r"://[^/\s]*@", "://", text))
