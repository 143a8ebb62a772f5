"""Shards: which of several exporters has a model."""

from __future__ import annotations

from typing import NamedTuple


class Shard(NamedTuple):
    """One of several exporters that divide the models among them: 0 <= ordinal < total."""

    ordinal: int
    total: int


WHOLE = Shard(0, 1)
"""The shard of an exporter that has all models."""
