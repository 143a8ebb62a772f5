"""Read one vector from whatever a cell of a file holds: a list, an array, a text or bytes."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest.files import magnitudes

_LIST = msgspec.json.Decoder(list[float])
_WRAPPED = re.compile(
    r"(?:\w+\.)*\w+\(\s*(?P<list>[\[({].*[\])}])\s*(?:,[^\[\](){}]*)?\)|(?P<bare>[\[({].*[\])}])",
    re.DOTALL,
)
"""A list, perhaps in a call: ``array([1., 2.], dtype=float32)``, ``tensor([1, 2])``."""
_SCALAR = re.compile(r"(?:\w+\.)*(?:float|u?int)\d+\(([^()]*)\)")
"""A number as NumPy 2 writes it in a list: ``np.float32(0.5)``."""
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]+")
_SHORTEST_BASE64 = 16
_FEWEST = 16
"""Components from which base64 is told from words, whose letters are bytes as well."""


def read(value: Any) -> NDArray[np.float32] | str:
    """Read a vector, or return what is wrong with it.

    Returns
    -------
    ndarray of float32, shape (d,), or str
        Components may be NaN or infinite. The text goes on after the place, "has ...".
    """
    if value is None:
        return "has no vector"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bytes):
        return _bytes(value)
    if isinstance(value, Mapping):
        return _mapping(value)
    try:
        array = np.asarray(value)
    except ValueError:  # lists of several lengths within
        return "has a vector that is not a flat list of numbers"
    if array.ndim == 2 and len(array) == 1:
        array = array[0]  # as feature extraction pipelines give one text's vector
    if array.ndim != 1:
        return f"has a vector of shape {array.shape}; a flat list of numbers is needed"
    if not len(array):
        return "has an empty vector"
    # NumPy takes a boolean beside numbers for 0 or 1.
    if array.dtype.kind not in "fiu" or (isinstance(value, list) and bool in set(map(type, value))):
        wrong = next((at for at, item in enumerate(value) if not _is_number(item)), 0)
        what = "null" if value[wrong] is None else f"{value[wrong]!r:.40}"
        return f"has a vector whose component {wrong} is {what}; components must be numbers"
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(np.float32, copy=False)


def is_text_of_vector(text: str) -> bool:
    """Return whether a text is meant as a vector: a list of two or more numbers, or base64.

    Hashes and words may be valid base64, too. So it must have 16 components of usual magnitudes.
    """
    stripped = text.strip()
    if _BASE64.fullmatch(stripped):
        vector = _base64(stripped)
        return (
            _HEXADECIMAL.fullmatch(stripped) is None
            and not isinstance(vector, str)
            and len(vector) >= _FEWEST
            and magnitudes.spread(vector) <= magnitudes.USUAL
        )
    found = _text(text)
    if isinstance(found, str):
        return _WRAPPED.fullmatch(text.strip()) is not None and "..." in text
    return len(found) > 1 and stripped[0] not in "0123456789+-."


def bytes_of(vector: NDArray[np.float32]) -> bytes | None:
    """Return the bytes, of a cell or its base64, that a vector was read from; None if no bytes."""
    base: object = vector.base
    return base if isinstance(base, bytes) and len(base) == vector.nbytes else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _text(text: str) -> NDArray[np.float32] | str:
    if not text or text.isspace():
        return "has no vector"
    try:
        numbers = _LIST.decode(text)
    except msgspec.DecodeError:
        return _written(text)
    return read(numbers)


def _written(text: str) -> NDArray[np.float32] | str:
    """Read a list as NumPy, PyTorch, Python or PostgreSQL writes it, or base64 of float32."""
    stripped = text.strip()
    if "..." in stripped:
        return (
            "has a vector that the program which wrote it abbreviated by '...' (NumPy does so with"
            " long arrays): its components are lost. Write array.tolist() as JSON instead"
        )
    if len(stripped) >= _SHORTEST_BASE64 and _BASE64.fullmatch(stripped):
        return _base64(stripped)
    wrapped = _WRAPPED.fullmatch(stripped)
    inner = stripped if wrapped is None else (wrapped["list"] or wrapped["bare"])[1:-1]
    inner = _SCALAR.sub(r"\1", inner).strip()
    if inner[:1] == "[" and inner[-1:] == "]" and inner.count("[") == 1:
        inner = inner[1:-1]  # an array of one row
    if ";" in inner and "," in inner:
        inner = inner.replace(",", ".")  # decimal commas
    parts = re.split(r"\s*[,;]\s*|\s+", inner.strip().rstrip(",;")) if inner else []
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return (
            f"has {text!r:.40} where a vector is needed; allowed are lists of numbers as JSON,"
            " pgvector, NumPy or Python write them, and base64 of float32"
        )
    return read(numbers)


def _base64(text: str) -> NDArray[np.float32] | str:
    try:
        return _bytes(base64.b64decode(text, validate=True))
    except binascii.Error as error:
        return f"has a vector that is not valid base64: {error}"


def _bytes(data: bytes) -> NDArray[np.float32] | str:
    if not data:
        return "has an empty vector"
    if data[:1] == b"\x80" and data[-1:] == b".":
        return "has a pickled object, which is never loaded; write float32 bytes or a list"
    if data[:6] == b"\x93NUMPY":
        return "has the content of an npy file in a cell; write float32 bytes or a list"
    if len(data) % 4:
        return f"has {len(data)} bytes where a vector is needed; float32 takes a multiple of 4"
    return np.frombuffer(data, "<f4")


def _mapping(value: Mapping[str, Any]) -> NDArray[np.float32] | str:
    if {"indices", "values"} <= set(value):
        return "has a sparse vector; only dense vectors can be stored"
    lists = [item for item in value.values() if isinstance(item, list | np.ndarray)]
    if len(lists) == 1:
        return read(lists[0])  # such as {"float": [...]}
    return f"has an object with {', '.join(map(str, value))} where a vector is needed"
