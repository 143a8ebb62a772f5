"""Storing vectors: many batches in one transaction, each whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import psycopg

from ingest.runtime.errors import (
    DimensionMismatch,
    IdempotencyConflict,
    MonitorError,
    TooManyModels,
)
from ingest.store import copy
from ingest.store.batch import Batch

_MODELS_LOCK = 0x456D624D  # "EmbM"
_LOCK = """
set local lock_timeout = '5s';
set local statement_timeout = '30s';
select model_name, dimension from model where model_name = any(%s) order by model_name for update
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a batch.

    Attributes
    ----------
    stored, duplicates : int
        Vectors stored now, and vectors whose id had been stored before.
    replayed : bool
        Whether the idempotency key came before; the counts are then the first answer's.
    """

    stored: int
    duplicates: int
    replayed: bool = False


@dataclass(slots=True)
class _Model:
    """A model's row, locked by this transaction, and what this transaction adds to it."""

    dimension: int
    admitted: list[tuple[Batch, Stored]] = field(default_factory=list)
    mismatched_dimension: int | None = None
    seen_ids: set[str] = field(default_factory=set)
    seen_keys: dict[str, tuple[bytes, Stored]] = field(default_factory=dict)

    def admit(self, batch: Batch) -> Stored | MonitorError:
        """Decide what of the batch is stored."""
        if batch.dimension != self.dimension:
            self.mismatched_dimension = batch.dimension
            return DimensionMismatch(
                f"model {batch.model_name} has vectors of dimension {self.dimension}; these have "
                f"{batch.dimension}. A changed encoder needs a model name of its own."
            )
        if batch.idempotency_key is not None and batch.idempotency_key in self.seen_keys:
            fingerprint, first = self.seen_keys[batch.idempotency_key]
            if fingerprint != batch.fingerprint:
                return IdempotencyConflict(
                    f"Idempotency-Key {batch.idempotency_key!r} came before with another body"
                )
            return Stored(first.stored, first.duplicates, replayed=True)
        fresh = self._fresh(batch)
        stored = Stored(len(fresh), len(batch) - len(fresh))
        self.admitted.append((fresh, stored))
        if batch.idempotency_key is not None:
            self.seen_keys[batch.idempotency_key] = (batch.fingerprint, stored)
        return stored

    def _fresh(self, batch: Batch) -> Batch:
        """Leave out vectors whose ids came before."""
        if batch.ids is None:
            return batch
        rows = []
        for row, id_ in enumerate(batch.ids):
            if id_ is None or id_ not in self.seen_ids:
                rows.append(row)
            if id_ is not None:
                self.seen_ids.add(id_)
        return batch if len(rows) == len(batch) else batch.take(rows)

    @property
    def fresh(self) -> list[Batch]:
        """What is stored now, without what is empty."""
        return [batch for batch, _ in self.admitted if len(batch)]


async def insert(
    connection: psycopg.AsyncConnection, batches: Sequence[Batch], max_models: int
) -> list[Stored | MonitorError]:
    """Store batches in one transaction, which is committed when this returns.

    A batch that cannot be stored for a reason of its own gets its error as outcome and keeps
    no other from being stored.

    Parameters
    ----------
    connection : psycopg.AsyncConnection
        In autocommit mode.
    batches : sequence of Batch
    max_models : int
        Models there may be; a batch that would add one more is refused.

    Returns
    -------
    list of Stored or MonitorError
        One outcome a batch.

    Raises
    ------
    psycopg.Error
        If PostgreSQL fails or refuses a value; then no batch is stored.
    """
    async with connection.transaction():
        models = await _lock(connection, batches, max_models)
        await _recall(connection, models, batches)
        outcomes = [
            models[b.model_name].admit(b) if b.model_name in models else _too_many(b, max_models)
            for b in batches
        ]
        await _note_mismatches(connection, models)
        await _store(connection, {name: m for name, m in models.items() if m.admitted})
    return outcomes


def _too_many(batch: Batch, max_models: int) -> TooManyModels:
    return TooManyModels(
        f"model {batch.model_name} would be one more than the {max_models} models allowed "
        "(ingest.max_models)"
    )


async def _lock(
    connection: psycopg.AsyncConnection, batches: Sequence[Batch], max_models: int
) -> dict[str, _Model]:
    names = sorted({batch.model_name for batch in batches})
    models = await _lock_known(connection, names)
    if len(models) < len(names):
        dimensions = {b.model_name: b.dimension for b in reversed(batches)}
        new = [name for name in names if name not in models]
        await _add(connection, {name: dimensions[name] for name in new}, max_models)
        models |= await _lock_known(connection, new)
    return models


async def _lock_known(connection: psycopg.AsyncConnection, names: list[str]) -> dict[str, _Model]:
    # In one order everywhere, or two writers could each hold what the other waits for. Bound
    # by the client, so that one message carries all statements.
    cursor = psycopg.AsyncClientCursor(connection)
    await cursor.execute(_LOCK, [names])
    while cursor.nextset():
        pass
    return {name: _Model(dimension) for name, dimension in await cursor.fetchall()}


async def _add(
    connection: psycopg.AsyncConnection, dimensions: dict[str, int], max_models: int
) -> None:
    await connection.execute("select pg_advisory_xact_lock(%s)", [_MODELS_LOCK])
    await connection.execute(
        "insert into model (model_name, dimension)"
        " select * from unnest(%s::text[], %s::integer[])"
        " limit greatest(0, %s - (select count(*) from model))"
        " on conflict do nothing",
        [list(dimensions), list(dimensions.values()), max_models],
    )


async def _recall(
    connection: psycopg.AsyncConnection, models: dict[str, _Model], batches: Sequence[Batch]
) -> None:
    """Fetch which of the batches' ids and idempotency keys came before."""
    ids = [(b.model_name, id_) for b in batches for id_ in b.ids or () if id_ is not None]
    keys = [(b.model_name, b.idempotency_key) for b in batches if b.idempotency_key is not None]
    if ids:
        cursor = await connection.execute(
            "select model_name, id from embedding_id"
            " where (model_name, id) in (select * from unnest(%s::text[], %s::text[]))",
            [[name for name, _ in ids], [id_ for _, id_ in ids]],
        )
        for name, id_ in await cursor.fetchall():
            models[name].seen_ids.add(id_)
    if keys:
        cursor = await connection.execute(
            "select model_name, key, fingerprint, stored, duplicates from idempotency_key"
            " where (model_name, key) in (select * from unnest(%s::text[], %s::text[]))",
            [[name for name, _ in keys], [key for _, key in keys]],
        )
        for name, key, fingerprint, stored, duplicates in await cursor.fetchall():
            models[name].seen_keys[key] = (fingerprint, Stored(stored, duplicates))


async def _note_mismatches(connection: psycopg.AsyncConnection, models: dict[str, _Model]) -> None:
    for name, model in models.items():
        if model.mismatched_dimension is not None:
            await connection.execute(
                "update model set mismatched_dimension = %s, mismatched_at = clock_timestamp()"
                " where model_name = %s",
                [model.mismatched_dimension, name],
            )


async def _store(connection: psycopg.AsyncConnection, models: dict[str, _Model]) -> None:
    if not models:
        return
    counts = {name: sum(map(len, model.fresh)) for name, model in models.items()}
    numbering = await _number(connection, counts)
    tuples: list[bytes] = []
    id_tuples: list[bytes] = []
    for name, model in models.items():
        seq, received_at = numbering[name]
        if counts[name]:
            tuples.append(copy.encode(model.fresh, seq, received_at))
        for batch in model.fresh:
            if batch.ids is not None:
                numbered = enumerate(batch.ids, seq)
                named = [(id_, number) for number, id_ in numbered if id_ is not None]
                id_tuples.append(copy.encode_ids(name, named, received_at))
            seq += len(batch)
    await _copy(connection, f"embedding ({copy.COLUMNS})", tuples)
    await _copy(connection, "embedding_id (model_name, id, seq, received_at)", id_tuples)
    await _remember_keys(connection, models)


async def _number(
    connection: psycopg.AsyncConnection, counts: dict[str, int]
) -> dict[str, tuple[int, datetime]]:
    # Time does not run backwards within a model, so that windows and partitions follow the
    # numbers; a clock that was an hour ahead by mistake is not followed for ever.
    cursor = await connection.execute(
        "update model set last_seq = last_seq + added.n, last_received_at = case"
        "  when added.n = 0 then last_received_at"
        "  when last_received_at < clock_timestamp() + interval '1 hour'"
        "  then greatest(last_received_at, clock_timestamp()) else clock_timestamp() end"
        " from unnest(%s::text[], %s::bigint[]) as added (name, n) where model_name = added.name"
        " returning model_name, last_seq - added.n + 1, last_received_at",
        [list(counts), list(counts.values())],
    )
    return {name: (seq, received_at) for name, seq, received_at in await cursor.fetchall()}


async def _copy(connection: psycopg.AsyncConnection, target: str, tuples: list[bytes]) -> None:
    if not any(tuples):
        return
    statement = f"copy {target} from stdin (format binary)"
    async with connection.cursor() as cursor, cursor.copy(statement.encode()) as stream:
        for part in (copy.HEADER, *tuples, copy.TRAILER):
            await stream.write(part)


async def _remember_keys(connection: psycopg.AsyncConnection, models: dict[str, _Model]) -> None:
    rows = [
        (name, batch.idempotency_key, batch.fingerprint, stored.stored, stored.duplicates)
        for name, model in models.items()
        for batch, stored in model.admitted
        if batch.idempotency_key is not None
    ]
    if rows:
        await connection.execute(
            "insert into idempotency_key"
            " (model_name, key, fingerprint, stored, duplicates, received_at)"
            " select *, clock_timestamp() from unnest(%s::text[], %s::text[], %s::bytea[],"
            " %s::integer[], %s::integer[])",
            [list(column) for column in zip(*rows, strict=True)],
        )
