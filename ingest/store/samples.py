"""Samples of watched tables without an order: which rows were read, and with what vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg

DIGEST_BYTES = 8
"""Length of the digests of a key and of a vector."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The part of a table that was read last.

    Attributes
    ----------
    level : int
        One of ``2**level`` rows belongs to the part.
    rows : mapping of bytes to bytes
        Digests of the vectors by digests of the keys.
    """

    level: int
    rows: Mapping[bytes, bytes] = field(default_factory=dict)


async def load(connection: psycopg.AsyncConnection, model_name: str, source: str) -> Sample | None:
    """Return the sample saved for a source, or None if it was never read."""
    cursor = await connection.execute(
        "select level, digests from watch_sample where model_name = %s and source = %s",
        [model_name, source],
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    level, digests = row
    parts = [digests[at : at + DIGEST_BYTES] for at in range(0, len(digests), DIGEST_BYTES)]
    return Sample(level, dict(zip(parts[::2], parts[1::2], strict=True)))


async def save(
    connection: psycopg.AsyncConnection, model_name: str, source: str, sample: Sample
) -> None:
    """Save the sample of a source."""
    digests = b"".join(digest for row in sample.rows.items() for digest in row)
    await connection.execute(
        "insert into watch_sample (model_name, source, level, digests) values (%s, %s, %s, %s)"
        " on conflict (model_name, source)"
        " do update set level = excluded.level, digests = excluded.digests",
        [model_name, source, sample.level, digests],
    )
