"""Convert Python objects to arrays, ids and JSON.

NumPy, pandas and PyTorch objects are accepted. pandas and PyTorch are not imported: their objects
are recognized by documented methods.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import re
from collections.abc import Mapping, Set
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from numbers import Real
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

ID_LENGTH = 255
_LONGEST_MESSAGE = 500
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NUMBER_KINDS = "fiu"
_TIMESTAMP = "timestamp"
_ZONE = "set its time zone, for example .replace(tzinfo=datetime.timezone.utc)"


def as_array(value: object) -> NDArray[np.float32] | str:
    """Convert numbers to a float32 array of any shape.

    Returns
    -------
    ndarray of float32, or str
        The array. If the value cannot be converted, the reason.
    """
    try:
        array = np.asarray(_on_host(value))
        if array.dtype.kind == "O":
            # pandas keeps nullable numbers, and columns of lists, as objects.
            array = np.asarray(array.tolist())
    except Exception as error:  # a library's own arrays raise errors of their own
        return f"is a {kind(value)} that cannot be made an array: {shown(error)}"
    if array.dtype.kind not in _NUMBER_KINDS:
        return f"has components of type {_component_kind(array)}; components must be numbers"
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(np.float32, copy=False)


def _on_host(value: Any) -> Any:
    """Copy a tensor to the memory that NumPy reads; other values are returned as they are."""
    if is_tensor(value):
        tensor = value.detach().cpu()
        try:
            return tensor.numpy()
        except TypeError:
            return tensor.float().numpy()  # NumPy has no bfloat16
    if isinstance(value, list | tuple) and value and is_tensor(value[0]):
        return [_on_host(item) for item in value]
    return value


def _component_kind(array: NDArray[Any]) -> str:
    if array.dtype.kind != "O":
        return str(array.dtype)
    return next(kind(item) for item in array.flat if type(item) not in (int, float))


def is_tensor(value: object) -> bool:
    """Return whether the value is a PyTorch tensor, on any device."""
    methods = ("detach", "cpu", "numpy", "tolist")
    return all(callable(getattr(value, method, None)) for method in methods)


def is_missing(value: object) -> bool:
    """Return whether the value stands for no value: None, NaN, and NaT and NA of pandas."""
    if value is None:
        return True
    if isinstance(value, float | np.floating):
        return math.isnan(value)
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    return type(value).__name__ in ("NAType", "NaTType")


def as_id(value: Any) -> str | None:
    """Convert an id to text, as files are read; None for a missing value.

    7.0 is "7": pandas makes it of 7 in a column with missing values.

    Raises
    ------
    TypeError, ValueError
        If the value cannot be an id.
    """
    if type(value) is not str:
        if is_tensor(value):
            array = _on_host(value)
            value = array.tolist() if array.ndim else array
        if isinstance(value, np.ndarray) and not value.ndim:
            value = value[()]
        if is_missing(value):
            return None
        if isinstance(value, Enum):
            return as_id(value.value)
        if isinstance(value, float | np.floating):
            value = _exact(value)
    if isinstance(value, bool | np.bool_):
        raise TypeError("is a truth value; an id is text, a number or a UUID")
    if isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"is {kind(value)}; decode it to text first, for example with .decode()")
    if isinstance(value, list | Mapping | Set) or getattr(value, "ndim", None):
        raise TypeError(f"is a {kind(value)}; an id is text, a number or a UUID")
    text = str(value)
    if not 1 <= len(text) <= ID_LENGTH or _CONTROL.search(text):
        raise ValueError(
            f"{text[:ID_LENGTH]!r} is not allowed; an id is 1 to {ID_LENGTH} characters, none of"
            " them a control character"
        )
    text.encode()
    return text


def _exact(number: float | np.floating[Any]) -> int | float:
    """Return a float as an integer if it is one.

    Raises
    ------
    ValueError
        If several integers may have become this float.
    """
    if abs(float(number)) >= 2.0 ** int(np.finfo(type(number)).nmant + 1):
        raise ValueError(
            f"is {number}, a {kind(number)} that cannot tell it from others; pass integers or text"
        )
    return int(number) if number.is_integer() else float(number)


def as_object(metadata: object, timestamp: object) -> bytes | None:
    """Convert metadata and a timestamp to one JSON object; None if both are missing.

    NaN and infinities become null. Bytes become base64. Sets become lists. Decimals and UUIDs
    become text, dates and times become ISO 8601, enumeration members become their values.

    Raises
    ------
    TypeError, ValueError
        If a value has no JSON form, or a timestamp is not a moment in time.
    """
    metadata = None if is_missing(metadata) else metadata
    seconds = as_timestamp(timestamp)
    if metadata is None and seconds is None:
        return None
    if not isinstance(metadata, Mapping | None):
        raise TypeError(f"it is a {kind(metadata)}; must be a mapping{_to_dict(metadata)}")
    item: dict[str, Any] = {}
    for key, value in (metadata or {}).items():
        name = _key(key)
        if name == _TIMESTAMP:
            _check_zone(value)
        try:
            item[name] = as_json(value)
        except TypeError as error:
            raise TypeError(f"the value of {name!r} {error}") from error
    if seconds is not None:
        item[_TIMESTAMP] = seconds
    text = json.dumps(item, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def as_timestamp(value: Any) -> float | str | None:
    """Convert a timestamp to seconds since the epoch or RFC 3339; None for a missing value.

    Raises
    ------
    TypeError, ValueError
        If the value is not a number or a datetime with a time zone.
    """
    if value is None:
        return None
    if is_tensor(value):
        value = value.tolist()
    _check_zone(value)
    if is_missing(value):
        return None
    if isinstance(value, datetime):
        return _iso(value)
    if not isinstance(value, Real | Decimal):
        raise TypeError(f"timestamp is {kind(value)}; must be a number or a datetime")
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError(f"timestamp is {seconds}; must be finite")
    return seconds


def _check_zone(value: object) -> None:
    if is_missing(value):
        return
    if isinstance(value, np.datetime64):
        raise TypeError("timestamp is a numpy.datetime64, which has no time zone; use a datetime")
    if isinstance(value, datetime) and value.utcoffset() is None:
        raise TypeError(f"timestamp is a {kind(value)} without a time zone; {_ZONE}")


def as_json(value: Any) -> Any:
    """Convert a value to one that the ``json`` module encodes.

    Raises
    ------
    TypeError
        If the value has no JSON form.
    """
    if type(value) in (str, bool, int):
        return value
    if is_missing(value):
        return None
    match value:
        case Enum():
            return as_json(value.value)
        case str() | int():
            return value
        case float() | np.floating():
            return float(value) if math.isfinite(value) else None
        case np.datetime64() | Decimal() | UUID():
            return str(value)
        case datetime():
            return _iso(value)
        case date() | time():
            return value.isoformat()
        case timedelta():
            return _duration(value.total_seconds())
        case np.timedelta64():
            return _duration(value / np.timedelta64(1, "s"))
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
        case Mapping():
            return {_key(key): as_json(item) for key, item in value.items()}
        case list() | tuple() | Set():
            return [as_json(item) for item in value]
        case np.ndarray() if value.dtype.kind in "mM" and value.ndim:
            return [as_json(item) for item in value]  # tolist would make them integers
        case np.ndarray() if value.dtype.kind in "mM":
            return as_json(value[()])
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if callable(getattr(value, "tolist", None)):  # of NumPy, pandas and PyTorch, on any device
        return as_json(value.tolist())
    raise TypeError(f"is of type {kind(value)}, which has no JSON form{_to_dict(value)}")


def _key(key: Any) -> str:
    if type(key) is str:
        return key
    if isinstance(key, Enum):
        return _key(key.value)
    if not isinstance(key, str | int | np.integer | UUID | date):
        raise TypeError(f"a key is a {kind(key)}; keys must be text")
    return str(key)


def _iso(value: datetime) -> str:
    # The base class's method: pandas' Timestamp would write nanoseconds.
    text = datetime.isoformat(value)
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text


def _duration(seconds: float) -> str:
    sign = "-" if seconds < 0 else ""
    return f"{sign}PT{abs(seconds):.6f}".rstrip("0").rstrip(".") + "S"


def _to_dict(value: object) -> str:
    return "; pass what its to_dict method returns" if hasattr(value, "to_dict") else ""


def kind(value: object) -> str:
    """Return the name of a value's type."""
    return type(value).__name__


def shown(error: Exception) -> str:
    """Return an error's message; its type if it has none or cannot tell it."""
    try:
        return str(error)[:_LONGEST_MESSAGE] or kind(error)
    except Exception:
        return kind(error)
