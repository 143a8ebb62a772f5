"""Shards: which of several exporters has a model."""

from __future__ import annotations

from typing import NamedTuple

import psycopg


class Shard(NamedTuple):
    """One of several exporters that divide the models among them: 0 <= ordinal < total."""

    ordinal: int
    total: int


WHOLE = Shard(0, 1)
"""The shard of an exporter that has all models."""


def shard_of(connection: psycopg.Connection, model_name: str, total: int) -> int | None:
    """Return which of ``total`` shards has a model, or None if there is no such model."""
    row = connection.execute(
        "select shard_of(model_name, %s) from model where model_name = %s", (total, model_name)
    ).fetchone()
    return None if row is None else int(row[0])
