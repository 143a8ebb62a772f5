"""Kinds of causes."""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal[
    "none",
    "new content",
    "other mix",
    "foreign",
    "model",
    "scale",
    "precision",
    "stuck",
    "unknown",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
