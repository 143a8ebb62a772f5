"""What was watched under the name of a model."""

from __future__ import annotations

import psycopg


async def others(connection: psycopg.AsyncConnection, model_name: str, source: str) -> list[str]:
    """Return the other sources that were watched for a model."""
    cursor = await connection.execute(
        "select source from watch where model_name = %(model_name)s and source <> %(source)s"
        " union select source from watch_sample"
        " where model_name = %(model_name)s and source <> %(source)s order by source",
        {"model_name": model_name, "source": source},
    )
    return [other for (other,) in await cursor.fetchall()]
