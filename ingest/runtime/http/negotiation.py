"""Content negotiation: what a client accepts, and how much it prefers it (RFC 9110, section 12)."""

from __future__ import annotations

import re
from typing import NamedTuple

_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")


class Preference(NamedTuple):
    """One element of an ``Accept`` or ``Accept-Encoding`` header.

    Attributes
    ----------
    value : str
        A media range or a coding, in lower case.
    parameters : str
        Parameters other than the quality, as they were sent; empty or with a leading ``;``.
    quality : float
        0 to 1, where 0 means not acceptable.
    """

    value: str
    parameters: str
    quality: float


def preferences(header: str) -> list[Preference]:
    """Read a header, best first. Of equal quality, wildcards come last.

    An invalid quality counts as 1.
    """
    found = [_preference(element) for element in header.split(",") if element.strip()]
    return sorted(found, key=lambda preference: (-preference.quality, "*" in preference.value))


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether gzip is acceptable and at least as good as no compression."""
    qualities = {value: quality for value, _, quality in preferences(accept_encoding)}
    others = qualities.get("*", 0.0)
    gzip = qualities.get("gzip", others)
    return gzip > 0 and gzip >= qualities.get("identity", 0.0)


def media_types(accept: str, offered: tuple[str, ...]) -> list[str]:
    """Return which of the offered media types are acceptable, with their parameters, best first.

    Parameters
    ----------
    accept : str
        The header. Wildcards stand for all types that they match and that are not refused.
    offered : tuple of str
        Media types in the order in which the server prefers them.
    """
    wanted = preferences(accept)
    refused = {value for value, _, quality in wanted if quality == 0}
    return [
        type_ + parameters
        for value, parameters, quality in wanted
        if quality > 0
        for type_ in offered
        if type_ not in refused and value in (type_, f"{type_.partition('/')[0]}/*", "*/*")
    ]


def _preference(element: str) -> Preference:
    value, *parameters = (part.strip() for part in element.split(";"))
    quality = 1.0
    others = ""
    for parameter in parameters:
        name, _, given = parameter.partition("=")
        if name.strip().lower() != "q":
            others += f";{parameter}"
        elif _QUALITY.fullmatch(given.strip()):
            quality = float(given)
    return Preference(value.lower(), others, quality)
