"""Text of clients, printed."""

from __future__ import annotations

import json
import unicodedata

import pytest

from ingest.runtime.printable import printable, printable_json

HARMFUL = {
    "an escape sequence": "\x1b]0;title\x07",
    "one of a single character": "\x9b2J",
    "another line": "a\r\nb\x85c\u2028d",
    "deletion": "a\x7f",
    "another direction": "\u202etxt.exe",
    "half a character": "\ud800",
    "a tag": "\U000e0041",
}


@pytest.mark.parametrize("text", HARMFUL.values(), ids=HARMFUL)
def test_what_controls_a_terminal_is_replaced(text: str) -> None:
    shown = printable(f"before {text} after")
    assert shown.isprintable()
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert len(shown) == len(f"before {text} after")


@pytest.mark.parametrize("text", HARMFUL.values(), ids=HARMFUL)
def test_json_has_it_escaped_and_loses_nothing(text: str) -> None:
    shown = printable_json({text: [text]})
    assert all(line.isprintable() for line in shown.split("\n"))
    assert json.loads(shown) == {text: [text]}


def test_letters_of_any_alphabet_are_kept() -> None:
    text = "naïve 模型 модель 😀 " + unicodedata.lookup("ARABIC LETTER ALEF")
    assert printable(text) == text
    assert text in printable_json([text])
