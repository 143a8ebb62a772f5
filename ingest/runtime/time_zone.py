"""Time zones, by their names in the IANA database."""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

UTC = ZoneInfo("UTC")

ALLOWED = "allowed are the names of the IANA database, such as UTC or Europe/Berlin"


def find(name: str) -> ZoneInfo:
    """Return the time zone of a name.

    Raises
    ------
    ValueError
        If this machine knows no such time zone.
    """
    try:
        return ZoneInfo(name)
    # A folder of the database is an OSError.
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is not a known time zone; {ALLOWED}") from error
