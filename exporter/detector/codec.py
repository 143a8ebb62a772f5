"""Codec: write dataclasses of arrays as bytes and read them back, without pickle.

The body is numpy's npz format; the name of an array is the path of its field.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, TypeVar, get_type_hints

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

T = TypeVar("T")

_MAGIC = b"embedding-drift detector\n"


class Outdated(ValueError):
    """The detector was written in an earlier version, and can be fitted again."""


def pack(value: Any, version: int) -> bytes:
    """Write a dataclass whose fields are arrays, numbers, or dataclasses of the same kind."""
    arrays: dict[str, Any] = dict(_flatten(value, ""))
    # numpy before 2.1 would pickle them: its savez has no allow_pickle.
    if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise ValueError(f"Object arrays cannot be written: {', '.join(objects)}")
    file = io.BytesIO()
    np.savez(file, **arrays)
    return _MAGIC + b"%d\n" % version + file.getvalue()


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
    head = data[len(_MAGIC) : data.find(b"\n", len(_MAGIC))]
    if head != b"%d" % version:
        message = f"detector of version {head[:9]!r}, this program reads {version}"
        is_earlier = head in [b"%d" % earlier for earlier in range(1, version)]
        raise Outdated(message) if is_earlier else ValueError(message)
    try:
        # A zip archive may follow other bytes. To cut them off would copy 10 MB.
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            arrays = {
                name.removesuffix(".npy"): _array(archive.read(name)) for name in archive.namelist()
            }
        return _build(kind, arrays, "")
    except (zipfile.BadZipFile, KeyError, EOFError, OSError) as error:
        raise ValueError("detector is damaged or truncated") from error


def _array(content: bytes) -> NDArray[Any]:
    """Return a view of the data of a file in numpy's npy format. np.load would copy them."""
    file = io.BytesIO(content)
    if npy.read_magic(file) != (1, 0):
        raise ValueError("detector is damaged or truncated")
    shape, is_fortran, dtype = npy.read_array_header_1_0(file)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be read")
    data = np.frombuffer(content, dtype, math.prod(shape), file.tell())
    return data.reshape(shape, order="F" if is_fortran else "C")


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
