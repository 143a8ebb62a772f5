"""Codec: write dataclasses of arrays as bytes and read them back, without pickle.

After a line with the version come a checksum, a table of the arrays (the name of each is the path
of its field), and their data. An array that is read is a view of these bytes: a detector is 10 MB,
and a service reads many at its start.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

_MAGIC = b"embedding-drift detector\n"
_CHECKSUM = struct.Struct("<I")
"""CRC-32 of all that follows it."""
_LENGTH = struct.Struct("<I")
"""Bytes of the table that follows it."""
_DAMAGED = "detector is damaged or truncated"
_ALIGNMENT = 16
"""Data begin at multiples of this, counted from the first byte; Python aligns bytes as much. numpy
copies what is not aligned, each time that it is used."""


class Outdated(ValueError):
    """The detector was written in an earlier version, and can be fitted again."""


def pack(value: Any, version: int) -> bytes:
    """Write a dataclass whose fields are arrays, numbers, or dataclasses of the same kind."""
    arrays = dict(_flatten(value, ""))
    if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise ValueError(f"object arrays cannot be written: {', '.join(objects)}")
    entries = [
        (name, array.dtype.str, array.shape, not array.flags.c_contiguous)
        for name, array in arrays.items()
    ]
    line, table = _MAGIC + b"%d\n" % version, json.dumps(entries).encode()
    parts = [_LENGTH.pack(len(table)), table]
    length = len(line) + _CHECKSUM.size + _LENGTH.size + len(table)
    for (*_, is_fortran), array in zip(entries, arrays.values(), strict=True):
        padding = bytes(-length % _ALIGNMENT)
        parts += padding, array.tobytes("F" if is_fortran else "C")
        length += len(padding) + array.nbytes
    body = b"".join(parts)
    return b"".join([line, _CHECKSUM.pack(zlib.crc32(body)), body])


def unpack(kind: type[T], data: bytes, version: int) -> T:
    """Read what `pack` wrote in this version.

    Raises
    ------
    Outdated
        If it was written in an earlier version.
    ValueError
        If the data is not a detector, has a later version, or is damaged.
    """
    if not data.startswith(_MAGIC):
        raise ValueError("not a detector")
    written = data[len(_MAGIC) : data.find(b"\n", len(_MAGIC))]
    if written != b"%d" % version:
        message = f"detector of version {written[:9]!r}, this program reads {version}"
        is_earlier = written in [b"%d" % earlier for earlier in range(1, version)]
        raise Outdated(message) if is_earlier else ValueError(message)
    try:
        return _build(kind, _arrays(data, len(_MAGIC) + len(written) + 1), "")
    except (struct.error, KeyError, TypeError, ValueError) as error:
        raise ValueError(_DAMAGED) from error


def _arrays(data: bytes, at: int) -> Mapping[str, NDArray[Any]]:
    """Return views of the arrays; their checksum is ``at`` bytes from the beginning."""
    content = memoryview(data)
    (checksum,) = _CHECKSUM.unpack_from(content, at)
    at += _CHECKSUM.size
    if zlib.crc32(content[at:]) != checksum:
        raise ValueError(_DAMAGED)
    (length,) = _LENGTH.unpack_from(content, at)
    at += _LENGTH.size
    entries = json.loads(data[at : at + length])
    at += length
    arrays = {}
    for name, dtype, shape, is_fortran in entries:
        at += -at % _ALIGNMENT
        found = np.frombuffer(content, dtype, math.prod(shape), at)
        arrays[name] = found.reshape(shape, order="F" if is_fortran else "C")
        at += found.nbytes
    return arrays


def _flatten(value: Any, prefix: str) -> Iterator[tuple[str, NDArray[Any]]]:
    for field in fields(value):
        part = getattr(value, field.name)
        if is_dataclass(part):
            yield from _flatten(part, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, np.asarray(part)


def _build(kind: type[T], arrays: Mapping[str, NDArray[Any]], prefix: str) -> T:
    hints = _hints(kind)  # type: ignore[arg-type]
    parts: dict[str, Any] = {}
    for field in fields(kind):  # type: ignore[arg-type]
        hint, name = hints[field.name], prefix + field.name
        if is_dataclass(hint):
            parts[field.name] = _build(hint, arrays, f"{name}.")  # type: ignore[arg-type]
        else:
            parts[field.name] = hint(arrays[name]) if hint in (int, float) else arrays[name]
    return kind(**parts)


@lru_cache
def _hints(kind: type[Any]) -> Mapping[str, Any]:
    return get_type_hints(kind)
