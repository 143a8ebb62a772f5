"""Query parameters: read strictly, with errors that name the parameter and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from ingest.runtime import timestamps
from ingest.runtime.errors import PayloadError, Problem

T = TypeVar("T", bound=str)


def flag(query: Mapping[str, str], name: str) -> bool:
    """Read a parameter that is true or false. Absent is false; without a value it is true.

    Raises
    ------
    PayloadError
        If it has another value.
    """
    return choice(query, name, ("true", "false", ""), "false") != "false"


def choice(query: Mapping[str, str], name: str, allowed: Sequence[T], default: T) -> T:
    """Read a parameter that has one of some values.

    Raises
    ------
    PayloadError
        If it has another value.
    """
    value = query.get(name, default)
    for known in allowed:
        if value == known:
            return known
    *most, last = filter(None, allowed)
    raise _refused(name, value, f"{', '.join(most)} and {last}")


def whole(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    """Read a parameter that is a whole number from 1 to ``most``.

    Raises
    ------
    PayloadError
        If it is not.
    """
    value = query.get(name, str(default))
    # Long numbers are refused as text, because converting them to int takes very long.
    if not (value.isascii() and value.isdecimal() and len(value) < 10 and 1 <= int(value) <= most):
        raise _refused(name, value, f"whole numbers from 1 to {most}")
    return int(value)


def moment(query: Mapping[str, str], name: str) -> float | None:
    """Read a parameter that is a time, in seconds since the epoch; or None.

    It may be a number of seconds since the epoch, or a time as in RFC 3339.

    Raises
    ------
    PayloadError
        If it is not.
    """
    value = query.get(name)
    try:
        return None if value is None else timestamps.seconds(value)
    except ValueError as error:
        reason = f"{error}; {timestamps.ALLOWED}"
        raise PayloadError(f"{name}: {reason}", [Problem(name, reason)]) from error


def _refused(name: str, value: str, allowed: str) -> PayloadError:
    reason = f"is {value!r:.40}; allowed are {allowed}"
    return PayloadError(f"{name} {reason}", [Problem(name, reason)])
