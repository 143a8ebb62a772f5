"""Registration of new models, up to the maximum number of models."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

from ingest.runtime.errors import StoreUnavailable, TooManyModels
from ingest.store.connection import IDLE_LIMIT, AsyncConnection
from ingest.store.dimension import check_dimension

_ADVISORY_LOCK = 0x456D624D  # "EmbM"
"""Of transactions that decide on the dimension of models."""

_LIMIT = "set local lock_timeout = '5s'"


async def register(
    connection: AsyncConnection, dimensions: Mapping[str, int], max_models: int
) -> set[str]:
    """Add models that do not exist, as far as the maximum allows. Return the names of the others.

    A model that exists but has neither vectors nor a baseline yet gets the new dimension.

    Parameters
    ----------
    connection : AsyncConnection
        In autocommit mode. It must hold no lock of a model: two writers could deadlock.
    dimensions : mapping of str to int
        Dimension of each model by its name.
    max_models : int
    """
    names, numbers = list(dimensions), list(dimensions.values())
    async with connection.transaction():
        await connection.execute(_LIMIT)
        await connection.execute(IDLE_LIMIT)
        await connection.execute("select pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
        await connection.execute(
            "insert into model (model_name, dimension)"
            " select * from unnest(%s::text[], %s::integer[]) as new (name, dimension)"
            " where not exists (select from model where model_name = name)"
            " limit greatest(0, %s - (select count(*) from model))",
            [names, numbers, max_models],
        )
        # The time tells exporters that this is another model.
        await connection.execute(
            "update model set dimension = new.dimension, created_at = clock_timestamp()"
            " from unnest(%s::text[], %s::integer[]) as new (name, dimension)"
            " where model_name = name and last_seq = 0 and model.dimension <> new.dimension"
            " and not exists (select from baseline_in_use as used where used.model_name = name)",
            [names, numbers],
        )
        cursor = await connection.execute(
            "select model_name from model where model_name = any(%s)", [names]
        )
        return {*names} - {name for (name,) in await cursor.fetchall()}


def keep_dimension(connection: psycopg.Connection, model_name: str, dimension: int) -> None:
    """Check the dimension of a model, and let nobody change it until the transaction ends.

    Senders of new models wait meanwhile, so the transaction must end soon.

    Raises
    ------
    DimensionMismatch
        If its vectors have another dimension.
    """
    connection.execute(IDLE_LIMIT)
    connection.execute("select pg_advisory_xact_lock(%s)", [_ADVISORY_LOCK])
    check_dimension(connection, model_name, dimension)


def too_many(model_name: str, max_models: int) -> TooManyModels:
    """Return the error for a model that could not be added."""
    return TooManyModels(
        f"model {model_name} is new, and {max_models} models are allowed (ingest.max_models)"
    )


def removed(model_name: str) -> StoreUnavailable:
    """Return the error for a model that was there a moment ago. Sent again, it is a new one."""
    return StoreUnavailable(f"model {model_name} is being removed")
