"""Types of numbers in bytes: reading them, and telling bytes that are of another type than said."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ingest.files.magnitudes import FEWEST, USUAL, spread

FLOAT32 = "float32"
"""The type of bytes for which none is named."""

DTYPES: Mapping[str, str] = {
    FLOAT32: "<f4",
    "float16": "<f2",
    "bfloat16": "<u2",  # NumPy has no such type
    "float64": "<f8",
    "int8": "i1",
    "uint8": "u1",
}
"""NumPy's type of each type that a request may name. All are little-endian."""

SIZES: Mapping[str, int] = {name: np.dtype(code).itemsize for name, code in DTYPES.items()}
"""Bytes that a number takes."""

_BIG_ENDIAN: Mapping[str, str] = {
    "big-endian float32": ">f4",
    "big-endian float64": ">f8",
    "big-endian float16": ">f2",
}
_FLOATS = ("float16", "bfloat16", FLOAT32, "float64", *_BIG_ENDIAN)
_SAMPLE = 2_048
"""Bytes that are looked at."""
_ABSURD = 6.0
"""Spread of magnitudes above which bytes are of another type."""
_FEWEST_BYTES = 64
_NARROW = 64.0
"""Standard deviation of bytes that are numbers. It is 74 if all are equally likely."""
_FEW_ZEROS = 0.2
_GLANCE = 32
"""Numbers that are looked at first."""
_NEAR = 6
"""Powers of 4 within which the magnitudes of these numbers usually are."""
_EXPONENTS = bytes(byte & 127 for byte in range(256))
_ZEROS = b"\x00\x80"


def read(data: bytes, dtype: str) -> NDArray[np.float32]:
    """Read numbers, shape (n,). Those beyond float32 become infinite."""
    if dtype == FLOAT32:
        return np.frombuffer(data, DTYPES[dtype])
    if dtype == "bfloat16":
        return _of_bfloat16(data)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.frombuffer(data, DTYPES[dtype]).astype(np.float32, copy=False)


def doubt(data: bytes, dtype: str | None, advice: str | None = None) -> str | None:
    """Return why bytes seem to be of another type; None if they do not.

    Only the beginning is looked at. A type is suspected only if the magnitudes are absurd as the
    type that was named, and usual as the other one. float32 is not doubted if it was named.

    Parameters
    ----------
    data : bytes
    dtype : str or None
        The type that was named. None stands for float32.
    advice : str, optional
        What to do. By default, to name another type.
    """
    if dtype == FLOAT32 or (dtype is None and _is_usual(data)):
        return None
    sample, dtype = data[:_SAMPLE], dtype or FLOAT32
    if dtype not in _FLOATS or _spread(sample, dtype) <= _ABSURD:
        return None
    likely = next(
        (name for name in _FLOATS if name != dtype and _spread(sample, name) <= USUAL), None
    ) or _integer(sample)
    if likely is None:
        return None
    with np.errstate(invalid="ignore"):
        sizes = np.abs(read(sample[: len(sample) - len(sample) % SIZES[dtype]], dtype))
    finite = sizes[np.isfinite(sizes) & (sizes > 0)]
    shown = f"{finite.min():.0e} to {finite.max():.0e}" if len(finite) else "none of them finite"
    if advice is None:
        other = f"set dtype to {likely}" if likely in DTYPES else "send little-endian bytes"
        advice = f"{other}, or dtype to float32 if it is float32"
    return f"has magnitudes of {shown} as {dtype}; it looks like {likely}: {advice}"


def _is_usual(data: bytes) -> bool:
    """Return whether float32 is of usual magnitudes at a glance, which is fast."""
    # The last byte has the sign and most of the exponent.
    exponents = data[3 : 4 * _GLANCE : 4].translate(_EXPONENTS, _ZEROS)
    return not exponents or max(exponents) - min(exponents) <= _NEAR


def _of_bfloat16(data: bytes) -> NDArray[np.float32]:
    """Read the upper halves of float32."""
    return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")


def _spread(data: bytes, name: str) -> float:
    """Return how much the magnitudes differ, in powers of 2. It is infinite for what is absurd."""
    code = DTYPES.get(name) or _BIG_ENDIAN[name]
    if len(data) % np.dtype(code).itemsize:
        return np.inf
    numbers = _of_bfloat16(data) if name == "bfloat16" else np.frombuffer(data, code)
    found = spread(numbers, FEWEST if numbers.itemsize > 2 else 2 * FEWEST)
    # A constant, say, is no sign of anything, and no better reading of anything.
    return 0.5 * (USUAL + _ABSURD) if np.isnan(found) else found


def _integer(data: bytes) -> str | None:
    """Return the type of integers that bytes look like: wherever one stands, it is as likely."""
    if len(data) < _FEWEST_BYTES:
        return None
    for name in ("int8", "uint8"):
        whole = data[: len(data) - len(data) % 8]
        columns = np.frombuffer(whole, DTYPES[name]).reshape(-1, 8).astype(np.float64)
        spreads = columns.std(axis=0)
        is_full = (columns == 0).mean(axis=0).max() < _FEW_ZEROS
        if is_full and spreads.max() < _NARROW and spreads.min() > spreads.max() / 3:
            return name
    return None
