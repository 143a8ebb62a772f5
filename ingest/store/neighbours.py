"""Find the stored vectors that are most similar to a vector, by cosine similarity.

Searches are exact. A baseline has at most 50,000 vectors. At 768 dimensions, an HNSW index would
save less than a tenth of a second of a search, and take a minute to build (``bench.search``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import Vector
from psycopg.rows import class_row

from ingest.runtime.errors import NotFound
from ingest.runtime.settings.settings import WindowSettings
from ingest.store.dimension import mismatch
from ingest.store.stored_vector import StoredVector

MOST_SEARCHED = 10_000
"""Vectors of a window that a search compares, at most: the newest ones."""

# A baseline's copies are kept when the vectors themselves have expired.
_STORED: dict[str, tuple[LiteralString, ...]] = {
    "id": (
        "select e.embedding::real[] from embedding_id i join embedding e"
        " using (model_name, received_at, seq) where i.model_name = %(model)s and i.id = %(which)s",
        "select embedding::real[] from baseline_embedding"
        " where model_name = %(model)s and id = %(which)s"
        " order by version desc limit 1",
    ),
    "seq": (
        # No index begins with the number, so all vectors of the model are looked through. Not for
        # a number that it has not reached.
        "select embedding::real[] from embedding where model_name = %(model)s and seq = %(which)s"
        " and %(which)s <= (select last_seq from model where model_name = %(model)s)",
        "select embedding::real[] from baseline_embedding"
        " where model_name = %(model)s and seq = %(which)s"
        " order by version desc limit 1",
    ),
}


@dataclass(frozen=True, slots=True)
class Match(StoredVector):
    """A stored vector that a search found.

    Attributes
    ----------
    similarity : float or None
        Cosine similarity, -1 to 1; None if a vector is all zeros.
    """

    similarity: float | None


async def stored_vector(
    connection: psycopg.AsyncConnection, model_name: str, which: str | int
) -> NDArray[np.float32]:
    """Return a stored vector, from recent vectors or from a baseline.

    Parameters
    ----------
    connection : psycopg.AsyncConnection
    model_name : str
    which : str or int
        Its client's id, or its number.

    Raises
    ------
    NotFound
        If the model has no such vector.
    """
    name = "id" if isinstance(which, str) else "seq"
    for statement in _STORED[name]:
        parameters = {"model": model_name, "which": which}
        cursor = await connection.execute(statement, parameters, binary=True)
        if (row := await cursor.fetchone()) is not None:
            return np.asarray(row[0], dtype=np.float32)
    raise NotFound(f"model {model_name} has no vector with {name} {which!r}")


async def check(connection: psycopg.AsyncConnection, model_name: str, dimension: int) -> None:
    """Check that a model exists and has vectors of this dimension.

    Raises
    ------
    NotFound
        If there is no such model.
    DimensionMismatch
        If its vectors have another dimension.
    """
    cursor = await connection.execute(
        "select dimension from model where model_name = %s", [model_name]
    )
    row = await cursor.fetchone()
    if row is None:
        raise NotFound(f"there is no model {model_name!r}")
    if dimension != row[0]:
        raise mismatch(model_name, row[0], dimension)


async def window(
    connection: psycopg.AsyncConnection,
    model_name: str,
    vector: NDArray[np.float32],
    k: int,
    settings: WindowSettings,
    metadata: bytes | None = None,
) -> list[Match]:
    """Return the k vectors of the last seconds of a window that are most similar, best first.

    They are those of the newest `MOST_SEARCHED`. With ``metadata``, an encoded JSON object, their
    metadata has all of it.
    """
    async with connection.transaction(), connection.cursor(row_factory=class_row(Match)) as cursor:
        await cursor.execute(
            "select seq, id, received_at, embedded_at, metadata,"
            " nullif(1 - (embedding <=> %(vector)s::vector), 'NaN') as similarity"
            " from (select * from embedding where model_name = %(model)s"
            "  and received_at > clock_timestamp() - make_interval(secs => %(seconds)s)"
            # Once the clock was set back, older vectors have later times.
            "  and seq > (select last_seq from model where model_name = %(model)s) - %(limit)s"
            # One of another dimension, which something else must have written, fails no search.
            "  and vector_dims(embedding) = %(dimension)s"
            "  order by received_at desc, seq desc limit %(limit)s) as recent"
            " where %(metadata)s::jsonb is null or metadata @> %(metadata)s::jsonb"
            " order by embedding <=> %(vector)s::vector, seq limit %(k)s",
            {
                "vector": Vector(vector).to_text(),
                "model": model_name,
                "seconds": settings.seconds,
                "limit": MOST_SEARCHED,
                "dimension": len(vector),
                "metadata": None if metadata is None else metadata.decode(),
                "k": k,
            },
        )
        return await cursor.fetchall()


async def baseline(
    connection: psycopg.AsyncConnection,
    model_name: str,
    vector: NDArray[np.float32],
    k: int,
    metadata: bytes | None = None,
) -> list[Match]:
    """Return the k vectors of the baseline in use that are most similar, best first.

    With ``metadata``, an encoded JSON object, their metadata has all of it.

    Raises
    ------
    NotFound
        If the model has no baseline yet.
    """
    cursor = await connection.execute(
        "select version from baseline_in_use where model_name = %s", [model_name]
    )
    row = await cursor.fetchone()
    if row is None:
        raise NotFound(f"model {model_name} has no baseline yet")
    async with connection.cursor(row_factory=class_row(Match)) as found:
        await found.execute(
            "select seq, id, received_at, embedded_at, metadata,"
            " nullif(1 - (embedding <=> %(vector)s::vector), 'NaN') as similarity"
            " from baseline_embedding where model_name = %(model)s and version = %(version)s"
            " and vector_dims(embedding) = %(dimension)s"
            " and (%(metadata)s::jsonb is null or metadata @> %(metadata)s::jsonb)"
            " order by embedding <=> %(vector)s::vector, seq limit %(k)s",
            {
                "vector": Vector(vector).to_text(),
                "model": model_name,
                "version": row[0],
                "dimension": len(vector),
                "metadata": None if metadata is None else metadata.decode(),
                "k": k,
            },
        )
        return await found.fetchall()
