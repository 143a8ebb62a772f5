"""Checks that all formats share. Their messages name what is wrong and what is allowed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ingest.runtime import model_name as model_names
from ingest.runtime import timestamps
from ingest.runtime.errors import (
    BodyTooLarge,
    NonFinite,
    PayloadError,
    Problem,
)
from ingest.runtime.settings.settings import IngestSettings
from ingest.store.batch import Batch
from ingest.store.canaries import ID_PREFIX

NOT_FINITE = "is NaN, infinite or too large for float32; components must be finite"

NESTING = 100
"""Levels of lists and objects in metadata. Python's own limit depends on who calls the parser."""
TOO_DEEP = f"is nested more than {NESTING} levels deep"

DIGITS = 400
"""Digits of a number in metadata, without an exponent: enough for each number of float64."""

LISTED = 100
"""Problems that an answer lists. The others are only counted."""
ID_LENGTH = 255
"""Characters of an id."""
_NUMBERS = (
    f"allowed are integers of at most {DIGITS} digits and, with a point or an exponent, numbers up"
    " to 1.79e308"
)
_AN_ID = f"an id is an integer or text of 1 to {ID_LENGTH} characters"
_INSTEAD_OF_TOO_LARGE = {
    "metadata": _NUMBERS,
    "filter": _NUMBERS,
    "id": _AN_ID,
    "ids": _AN_ID,
}
"""What is allowed where a number is too large, by the field of the body."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# A NUL in a string, which PostgreSQL cannot store. An even number of backslashes before it is text.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_NUMBER = re.compile(rb"(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?")
# What long numbers have once all characters of numbers look the same.
_ALIKE = bytes.maketrans(b"123456789+-.E", b"000000000000e")
_MANY, _EXPONENT = b"0" * (DIGITS + 1), b"0e00"


def refuse(problems: Sequence[Problem]) -> PayloadError:
    """Make an error that lists one or more problems."""
    listed = problems[:LISTED]
    rest = len(problems) - len(listed)
    first = ": ".join(filter(None, (listed[0].pointer, listed[0].reason)))
    more = f"; {len(problems) - 1} more" if len(problems) > 1 else ""
    unlisted = f", of which {rest} are not listed" if rest else ""
    # A separate error and count, because the cause is the model, not the client.
    kind = NonFinite if any(p.reason == NOT_FINITE for p in problems) else PayloadError
    return kind(f"{first}{more}{unlisted}", listed)


def model_name(name: str, pointer: str) -> str:
    """Check a model name, which becomes a label value, part of URLs and a word of log lines."""
    if not model_names.is_legal(name):
        limit = model_names.MAX_LENGTH
        shown = name if len(name) <= limit else f"{name[:limit]}..."
        allowed = model_names.ALLOWED
        raise refuse([Problem(pointer, f"{shown!r} is not allowed; allowed are {allowed}")])
    return name


def idempotency_key(headers: Mapping[str, str]) -> str | None:
    """Read and check the ``Idempotency-Key`` header."""
    key = headers.get("idempotency-key")
    if key is not None and not re.fullmatch(r"[!-~]{1,255}", key):
        raise refuse([Problem("Idempotency-Key", "must be 1 to 255 visible ASCII characters")])
    return key


def size(body: bytes, limits: IngestSettings) -> None:
    """Check the length of a body."""
    if len(body) > limits.max_body_bytes:
        raise BodyTooLarge(
            f"the body exceeds {limits.max_body_bytes} bytes (ingest.max_body_bytes)"
        )


def content_type(headers: Mapping[str, str]) -> str:
    """Return the media type of a body, in lower case and without parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def count(vectors: int, limits: IngestSettings) -> None:
    """Check the number of vectors of a request."""
    if vectors == 0:
        raise PayloadError("the batch is empty; it needs at least one vector")
    if vectors > limits.max_batch_vectors:
        raise BodyTooLarge(
            f"the batch has {vectors} vectors; at most {limits.max_batch_vectors} are allowed"
            " (ingest.max_batch_vectors)"
        )


def dimension(value: int, limits: IngestSettings) -> str | None:
    """Return what is wrong with a dimension; None if nothing is."""
    if value == 0:
        return "the vector is empty; it needs at least one component"
    if value > limits.max_dimension:
        return (
            f"dimension {value} exceeds the {limits.max_dimension} allowed (ingest.max_dimension)"
        )
    return None


def finite(vectors: NDArray[np.float32], first: int = 0) -> list[Problem]:
    """Return a problem for each vector that is not finite, at its first such component.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
    first : int
        Index of ``vectors[0]`` within the batch.
    """
    finite = np.isfinite(vectors)
    if finite.all():
        return []
    return [
        Problem(
            f"/embeddings/{first + row}/{finite[row].argmin()}",
            NOT_FINITE,
            index=first + int(row),
        )
        for row in np.flatnonzero(~finite.all(axis=1))
    ]


def require_finite(vectors: NDArray[np.float32]) -> None:
    """Check that all components are finite float32.

    Raises
    ------
    NonFinite
        Listing the vectors that are not.
    """
    if problems := finite(vectors):
        raise refuse(problems)


def vector_id(value: str) -> str | None:
    """Return what is wrong with the id of a vector; None if nothing is."""
    if not 1 <= len(value) <= ID_LENGTH or _CONTROL.search(value):
        shown = value[:ID_LENGTH]
        return (
            f"{shown!r} is not allowed; an id is 1 to {ID_LENGTH} characters, none of them a"
            " control character"
        )
    return None


def ids(values: Sequence[str | None]) -> Iterator[Problem]:
    """Yield what is wrong with the ids of a batch."""
    seen: set[str] = set()
    for index, id_ in enumerate(values):
        if id_ is None:
            continue
        reason = vector_id(id_)
        if reason is None and id_ in seen:
            reason = f"{id_!r} comes twice in this batch"
        if reason is not None:
            yield Problem(f"/ids/{index}", reason, index)
        seen.add(id_)


def metadata(encoded: bytes, limits: IngestSettings) -> str | None:
    """Return what is wrong with the metadata of a vector, as encoded JSON; None if nothing is."""
    if (reason := metadata_size(len(encoded), limits)) is not None:
        return reason
    # A single byte is found far faster than several.
    if b"\\" in encoded and b"\\u0000" in encoded and _NUL.search(encoded):
        return "holds the character U+0000, which PostgreSQL cannot store"
    more, long = _written_out(encoded)
    if long is not None:
        return (
            f"has the number {long:.40}; written without an exponent, a number may have at most"
            f" {DIGITS} digits"
        )
    if (reason := metadata_size(len(encoded) + more, limits)) is not None:
        return f"{reason}, where numbers count without an exponent: 1e308 has 309 digits"
    return None


def without_nul(encoded: bytes) -> bytes:
    """Replace U+0000 by U+FFFD in encoded JSON, where to refuse the metadata would cost more."""
    return _NUL.sub(rb"\1\\ufffd", encoded) if b"\\u0000" in encoded else encoded


def _written_out(encoded: bytes) -> tuple[int, str | None]:
    """Return how many more bytes its numbers take without exponents, and one that is too long.

    PostgreSQL stores and returns them so.
    """
    if b"\\" in encoded:
        encoded = encoded.replace(rb"\\", b"").replace(rb"\"", b"")
    # Without escaped quotes, every second part is outside of strings.
    plain = b'"'.join(encoded.split(b'"')[::2])
    alike = plain.translate(_ALIKE)
    more = 0
    if _EXPONENT not in alike and _MANY not in alike:
        return more, None
    for number in _NUMBER.finditer(plain):
        whole, fraction, exponent = (part or b"" for part in number.groups())
        shift = float(exponent or 0)  # int() refuses thousands of digits
        digits = max(len(whole) + shift, 1) + max(len(fraction) - shift, 0)
        if digits > DIGITS:
            return more, number[0].decode()
        more += max(int(digits) - len(number[0]), 0)
    return more, None


def metadata_size(size: int, limits: IngestSettings) -> str | None:
    """Return what is wrong with metadata of so many bytes; None if nothing is."""
    if size <= limits.max_metadata_bytes:
        return None
    return (
        f"takes {size} bytes; at most {limits.max_metadata_bytes} are allowed"
        " (ingest.max_metadata_bytes)"
    )


def timestamp(value: object, now: float) -> float | str | None:
    """Read a timestamp as seconds since the epoch, or return what is wrong with it.

    None, which stands for the time of arrival, stays None.
    """
    if value is None:
        return None
    if isinstance(value, bool | list | dict):
        return f"is {kind(value)}; {timestamps.ALLOWED}"
    try:
        seconds = timestamps.seconds(value)
    except ValueError as error:
        return f"{error}; {timestamps.ALLOWED}"
    if (late := timestamps.too_late(seconds, now)) is not None:
        return f"{value!r:.40} {late}"
    return seconds


def is_too_deep(value: object) -> bool:
    """Return whether a decoded value has more levels of lists and objects than allowed."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(NESTING):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
    return bool(level)


def nesting(encoded: bytes) -> str | None:
    """Return what is wrong with the levels of encoded JSON; None if nothing is."""
    if encoded.count(b"[") + encoded.count(b"{") <= NESTING:
        return None
    try:
        return TOO_DEEP if is_too_deep(json.loads(encoded)) else None
    except RecursionError:
        return TOO_DEEP


def misspelt(text: bytes) -> str | None:
    """Return what is wrong with the characters of JSON; None if nothing is."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return f"is not UTF-8: {error.reason} (byte {error.start})"
    try:
        # Python decodes half a surrogate pair, but cannot encode it.
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return r"holds half a surrogate pair (\ud800 to \udfff), which is not a character"
    except (ValueError, RecursionError):
        return None
    return None


def explained(reason: str, field: str) -> str:
    """Return what the parser of JSON says of a field, with what is allowed where it does not."""
    if not reason.endswith("out of range"):
        return reason
    allowed = _INSTEAD_OF_TOO_LARGE.get(field)
    return "has a number that is too large" + (f"; {allowed}" if allowed else "")


def kind(value: object) -> str:
    """Return what JSON calls the type of a decoded value."""
    return _KINDS[type(value)]


_KINDS = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


def refuse_reserved_ids(batch: Batch) -> None:
    """Check that no vector has an id of a canary.

    Raises
    ------
    PayloadError
        Listing the ids.
    """
    problems = [
        Problem(
            f"/ids/{index}",
            f"{id_!r:.80} begins with {ID_PREFIX}, which is reserved for POST /canaries",
            index,
        )
        for index, id_ in enumerate(batch.ids or ())
        if id_ is not None and id_.startswith(ID_PREFIX)
    ]
    if problems:
        raise refuse(problems)
