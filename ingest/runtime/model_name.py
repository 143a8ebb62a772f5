"""Names of models, which become label values, parts of URLs, and words of log lines."""

from __future__ import annotations

import re

MAX_LENGTH = 128
"""Characters of the longest name."""

PATTERN = r"(?!(.*/)?\.\.?(/|$))[^\x00-\x20\x22\x27\\<>`\x7f-\xa0\ufffd]+"
"""Regular expression for a whole name, in syntax that Python and ECMAScript share.

Quotes and the backslash end a label in a query, angle brackets are markup in Slack, and browsers
drop the parts . and .. of a URL. U+FFFD stands for a character that somebody could not read.
"""
_LEGAL = re.compile(PATTERN)
ALLOWED = (
    f"1 to {MAX_LENGTH} printable characters of any alphabet, other than spaces, quotes, \\ ` < and"
    " >, without the parts . and .. between slashes"
)


def is_legal(name: str) -> bool:
    """Return whether a model may have this name."""
    return len(name) <= MAX_LENGTH and name.isprintable() and _LEGAL.fullmatch(name) is not None
