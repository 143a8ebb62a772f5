"""The rule for timestamps, wherever they come in: seconds since the epoch, or RFC 3339."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Literal

Unit = Literal["s", "ms", "us", "ns"]

TICKS: dict[Unit, float] = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
"""Ticks of each unit per second."""
EARLIEST, LATEST = -62_135_596_800.0, 253_402_300_799.0
"""Years 1 and 9999, in seconds since the epoch."""

_NAMES: dict[Unit, str] = {"ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_TOO_LARGE = 1e11
"""Year 5138 in seconds, and 1973 in milliseconds: a number beyond is taken for another unit."""


def seconds(value: object, unit: Unit = "s", zone: tzinfo | None = None) -> float:
    """Convert a timestamp to seconds since the epoch.

    Parameters
    ----------
    value : int, float, str or datetime
        A number counts from the epoch. A text is a date and time as in RFC 3339; a space instead of
        the T, an offset of hours and the word UTC are allowed, too.
    unit : str
        What a number counts.
    zone : tzinfo, optional
        Zone of a time that names none. Without it, such a time is refused.

    Raises
    ------
    ValueError
        If the value is not a timestamp; the message names it.
    """
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            if zone is None:
                raise ValueError(f"{str(value)!r} names no time zone; an offset or Z is needed")
            value = value.replace(tzinfo=zone)
        # Not timestamp(): it is a float, and this is exact to a microsecond for longer.
        since = value - datetime(1970, 1, 1, tzinfo=UTC)
        return since.days * 86_400 + since.seconds + since.microseconds / 1e6
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{_shown(value)} is neither a number nor a text")
    found = value / TICKS[unit]
    if not EARLIEST <= found <= LATEST or (unit == "s" and abs(found) >= _TOO_LARGE):
        other = likely_unit(value) if unit == "s" else None
        hint = f"; it looks like {_NAMES[other]}" if other is not None else ""
        raise ValueError(f"{_shown(value)} is out of range{hint}")
    return found


def likely_unit(value: float) -> Unit | None:
    """Return the unit, other than seconds, in which a number is a time of our days; or None."""
    for unit in ("ms", "us", "ns"):
        if _TOO_LARGE <= abs(value) / TICKS[unit] * 1e3 < 1e3 * _TOO_LARGE:
            return unit
    return None


def _parsed(text: str) -> datetime:
    plain = text.strip()
    if plain.upper().endswith("UTC"):
        plain = plain[:-3].rstrip() + "+00:00"
    try:
        return datetime.fromisoformat(plain)
    except ValueError:
        raise ValueError(f"{text!r:.60} is not a time as in RFC 3339") from None


def _shown(value: object) -> str:
    return "null" if value is None else f"{value!r:.40}"
