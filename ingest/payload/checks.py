"""Checks that every format shares; each names what is wrong and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from ingest.runtime.errors import BodyTooLarge, PayloadError, Problem
from ingest.runtime.settings import IngestSettings

_LISTED = 100
"""Problems listed in an answer; the rest are counted."""
_NAME_LENGTH = 128
_ID_LENGTH = 255
_DAY = 86_400.0

_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._:@+-]*"
_NAME = re.compile(rf"{_SEGMENT}(/{_SEGMENT})*", re.ASCII)
_NAME_ALLOWED = (
    f"1 to {_NAME_LENGTH} letters, digits and . _ : @ + - in segments that begin with a letter or"
    " digit, joined by /"
)


def refuse(problems: Sequence[Problem]) -> PayloadError:
    """Make the error that lists these problems."""
    listed = problems[:_LISTED]
    rest = len(problems) - len(listed)
    first = f"{listed[0].pointer}: {listed[0].reason}"
    more = f"; {len(problems) - 1} more" if len(problems) > 1 else ""
    unlisted = f", of which {rest} are not listed" if rest else ""
    return PayloadError(f"{first}{more}{unlisted}", listed)


def model_name(name: str, pointer: str) -> str:
    """Check a model's name, which becomes a label value and part of URLs."""
    if not (len(name) <= _NAME_LENGTH and _NAME.fullmatch(name)):
        shown = name if len(name) <= _NAME_LENGTH else f"{name[:_NAME_LENGTH]}..."
        raise refuse([Problem(pointer, f"{shown!r} is not allowed; allowed are {_NAME_ALLOWED}")])
    return name


def idempotency_key(headers: Mapping[str, str]) -> str | None:
    """Read and check the ``Idempotency-Key`` header."""
    key = headers.get("idempotency-key")
    if key is not None and not re.fullmatch(r"[!-~]{1,255}", key):
        raise refuse([Problem("Idempotency-Key", "must be 1 to 255 visible ASCII characters")])
    return key


def count(vectors: int, limits: IngestSettings) -> None:
    """Check how many vectors a request carries."""
    if vectors == 0:
        raise PayloadError("the batch is empty; it needs at least one vector")
    if vectors > limits.max_batch_vectors:
        raise BodyTooLarge(
            f"the batch has {vectors} vectors; at most {limits.max_batch_vectors} are allowed"
            " (ingest.max_batch_vectors)"
        )


def dimension(value: int, limits: IngestSettings) -> str | None:
    """Say what is wrong with a dimension, if anything."""
    if value == 0:
        return "the vector is empty; it needs at least one component"
    if value > limits.max_dimension:
        return (
            f"dimension {value} exceeds the {limits.max_dimension} allowed (ingest.max_dimension)"
        )
    return None


def finite(vectors: NDArray[np.float32]) -> list[Problem]:
    """Name the first component of each vector that is not a finite float32."""
    # The sum of a finite array may overflow, but a non-finite one never has a finite sum: one
    # pass decides almost always.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(vectors.sum(dtype=np.float64)):
            return []
    bad = ~np.isfinite(vectors)
    return [
        Problem(
            f"/embeddings/{row}/{bad[row].argmax()}",
            "is NaN, infinite or too large for float32; components must be finite",
            index=int(row),
        )
        for row in np.flatnonzero(bad.any(axis=1))
    ]


def vector_id(value: str) -> str | None:
    """Say what is wrong with a client's id, if anything."""
    if not (1 <= len(value) <= _ID_LENGTH and value.isprintable()):
        shown = value[:_ID_LENGTH]
        return f"{shown!r} is not allowed; an id is 1 to {_ID_LENGTH} printable characters"
    return None


def timestamp(value: object, now: float) -> float | str:
    """Read a timestamp as seconds since the epoch, or say what is wrong with it."""
    allowed = "seconds since the epoch, or RFC 3339 with an offset, up to a day ahead"
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return f"{value!r} is not allowed; allowed are {allowed}"
        if moment.tzinfo is None:
            return f"{value!r} has no offset from UTC; allowed are {allowed}"
        value = moment.timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{value!r} is not allowed; allowed are {allowed}"
    if not 0 <= value <= now + _DAY:
        hint = "; it looks like milliseconds" if 0 <= value / 1_000 <= now + _DAY else ""
        return f"{value!r} is out of range{hint}; allowed are {allowed}"
    return float(value)
