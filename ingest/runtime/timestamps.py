"""The rule for timestamps, wherever they come in: seconds since the epoch, or RFC 3339."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, tzinfo
from typing import Literal

Unit = Literal["s", "ms", "us", "ns"]

TICKS: dict[Unit, float] = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
"""Ticks of each unit per second."""
END = 1e11
"""Times are from 1970 to before this one. It is in the year 5138 if it counts seconds, and in 1973
if milliseconds: a number beyond is taken for another unit."""

ALLOWED = "allowed are seconds since the epoch, and RFC 3339 with an offset or Z"
"""What to write where no unit and no zone can be declared."""

_NAMES: dict[Unit, str] = {"ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_DAY = 86_400.0
_COUNT = re.compile(
    r"\s*-?(?:\d{9,20}(?P<part>\.\d{0,20})?"
    r"|\d(?P<power>(?:\.\d{1,20})?e\+?(?:0?[89]|[1-9]\d)))\s*",
    re.ASCII | re.IGNORECASE,
)
"""A number as text, as CSV and queries write it. Eight digits are a date without hyphens."""


def seconds(value: object, unit: Unit = "s", zone: tzinfo | None = None) -> float:
    """Convert a timestamp to seconds since the epoch.

    Parameters
    ----------
    value : int, float, str or datetime
        A number counts from the epoch. A text is a date and time as in RFC 3339; a space instead of
        the T, an offset of hours and the word UTC are allowed, too, and a number of nine or more
        digits.
    unit : str
        What a number counts.
    zone : tzinfo, optional
        Zone of a time that names none. Without it, such a time is refused.

    Raises
    ------
    ValueError
        If the value is not a timestamp; the message names it.
    """
    if isinstance(value, str) and (count := _COUNT.fullmatch(value)) is not None:
        value = float(value) if count["part"] or count["power"] else int(value)
    moment = _parsed(value) if isinstance(value, str) else value
    if isinstance(moment, datetime):
        found = _since_epoch(moment, zone)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{_shown(value)} is neither a number nor a text")
    else:
        found = _quotient(value, TICKS[unit])
    if not 0 <= found < END:
        other = likely_unit(value) if unit == "s" and isinstance(value, int | float) else None
        hint = f"; it looks like {_NAMES[other]}" if other is not None else ""
        raise ValueError(f"{_shown(value)} is out of range{hint}")
    return found


def too_late(seconds: float, now: float) -> str | None:
    """Return why a time is not one of a vector that exists: it is more than a day ahead of a clock.

    Parameters
    ----------
    seconds, now : float
        The time and that of the clock, in seconds since the epoch.
    """
    if seconds <= now + _DAY:
        return None
    ahead = (seconds - now) / _DAY
    clock = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return (
        f"is {ahead:,.1f} days ahead of this server's clock, {clock}, and at most 1 day is allowed;"
        " is the clock or the time zone wrong where the time was taken?"
    )


def _quotient(value: float, ticks: float) -> float:
    try:
        return value / ticks
    except OverflowError:  # a whole number beyond float64
        return math.inf


def _since_epoch(value: datetime, zone: tzinfo | None) -> float:
    if value.utcoffset() is None:
        if zone is None:
            raise ValueError(f"{str(value)!r} names no time zone; an offset or Z is needed")
        value = value.replace(tzinfo=zone)
    # Not timestamp(): it is a float, and this is exact to a microsecond for longer.
    since = value - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * 86_400 + since.seconds + since.microseconds / 1e6


def likely_unit(value: float) -> Unit | None:
    """Return the unit, other than seconds, in which a number is a time of our days; or None."""
    for unit in ("ms", "us", "ns"):
        if END <= _quotient(value, TICKS[unit]) * 1e3 < 1e3 * END:
            return unit
    return None


def _parsed(text: str) -> datetime:
    plain = text.strip()
    if plain.upper().endswith("UTC"):
        plain = plain[:-3].rstrip() + "+00:00"
    try:
        if "W" in plain:
            raise ValueError("weeks, which Python reads, are not of RFC 3339")
        return datetime.fromisoformat(plain)
    except ValueError:
        raise ValueError(f"{text!r:.60} is not a time as in RFC 3339") from None


def _shown(value: object) -> str:
    return "null" if value is None else f"{value!r:.40}"
