"""Ids of stored vectors."""

from __future__ import annotations

import psycopg


async def choose(connection: psycopg.AsyncConnection, model_name: str, count: int) -> list[str]:
    """Choose ids of a model at random. Each id is equally likely.

    This reads all ids of the model, so call it rarely.

    Returns
    -------
    list of str
        Different ids in random order: ``count`` of them, or all if there are fewer.
    """
    async with connection.transaction():
        cursor = await connection.execute(
            "select id from embedding_id where model_name = %s order by random() limit %s",
            [model_name, count],
        )
        return [id_ for (id_,) in await cursor.fetchall()]
