"""Names of models, which become label values and parts of URLs."""

from __future__ import annotations

import re

MAX_LENGTH = 128
"""Characters of the longest name."""

_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._:@+-]*"
PATTERN = rf"{_SEGMENT}(/{_SEGMENT})*"
"""Regular expression for a whole name, in syntax that Python, ECMAScript and PostgreSQL share."""
_LEGAL = re.compile(PATTERN)
ALLOWED = (
    f"1 to {MAX_LENGTH} letters, digits and . _ : @ + - in segments that begin with a letter or"
    " digit, joined by /"
)


def is_legal(name: str) -> bool:
    """Return whether a model may have this name."""
    return len(name) <= MAX_LENGTH and _LEGAL.fullmatch(name) is not None
