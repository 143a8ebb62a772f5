"""Text of clients, made safe for a line: terminals obey control characters."""

from __future__ import annotations

import json


def printable(text: str) -> str:
    """Replace by spaces what controls a terminal, breaks a line or turns the direction of writing.

    Also what has no glyph, such as the joiners of some emoji.
    """
    return "".join(char if char.isprintable() else " " for char in text)


def printable_json(content: object) -> str:
    """Write JSON, indented, for people and programs: what is not printable is escaped."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    return "".join(
        # JSON has line breaks between values only.
        char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1]
        for char in text
    )
