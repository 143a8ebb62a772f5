"""Storing vectors: many batches in one transaction, each of them completely or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, LiteralString

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
"""Advisory lock of transactions that add models."""

_PORTION_VECTORS = 256
"""Vectors that are laid out together for COPY."""

_BEGIN = """
begin;
set local lock_timeout = '5s';
set local statement_timeout = '30s';
"""
# received_at never decreases within a model, so that windows and partitions follow seq. A time more
# than an hour ahead is ignored, because the clock was wrong then.
_LOCK = """
select model_name, dimension, last_seq, case
  when last_received_at < clock_timestamp() + interval '1 hour'
  then greatest(last_received_at, clock_timestamp()) else clock_timestamp() end
from model where model_name = any(%s) order by model_name for update;
"""
_IDS = """
select model_name, id from embedding_id
where (model_name, id) in (select * from unnest(%s::text[], %s::text[]));
"""
_KEYS = """
select model_name, key, fingerprint, stored, duplicates from idempotency_key
where (model_name, key) in (select * from unnest(%s::text[], %s::text[]));
"""
_NOTE_MISMATCH = """
update model set mismatched_dimension = %s, mismatched_at = clock_timestamp()
where model_name = %s;
"""
_REMEMBER_KEYS = """
insert into idempotency_key (model_name, key, fingerprint, stored, duplicates, received_at)
select *, clock_timestamp()
from unnest(%s::text[], %s::text[], %s::bytea[], %s::integer[], %s::integer[]);
"""
_ADVANCE = """
update model set last_seq = new.last_seq, last_received_at = new.received_at
from unnest(%s::text[], %s::bigint[], %s::timestamptz[]) as new (name, last_seq, received_at)
where model_name = new.name;
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """Outcome of a batch.

    Attributes
    ----------
    stored, duplicates : int
        Vectors stored now, and vectors whose id was stored before.
    replayed : bool
        Whether the idempotency key was used before. The counts are then those of the first answer.
    """

    stored: int
    duplicates: int
    replayed: bool = False


@dataclass(slots=True)
class _Model:
    """The row of a model, locked by this transaction, and what the transaction adds."""

    dimension: int
    last_seq: int
    received_at: datetime
    fresh: list[Batch] = field(default_factory=list)
    keyed: list[tuple[Batch, Stored]] = field(default_factory=list)
    mismatched_dimension: int | None = None
    seen_ids: set[str] = field(default_factory=set)
    seen_keys: dict[str, tuple[bytes, Stored]] = field(default_factory=dict)

    def admit(self, batch: Batch) -> Stored | MonitorError:
        """Decide which vectors of a batch are stored."""
        if batch.dimension != self.dimension:
            self.mismatched_dimension = batch.dimension
            return DimensionMismatch(
                f"model {batch.model_name} has vectors of dimension {self.dimension}; these have "
                f"{batch.dimension}. A changed encoder needs its own model name."
            )
        if batch.idempotency_key is not None and batch.idempotency_key in self.seen_keys:
            fingerprint, first = self.seen_keys[batch.idempotency_key]
            if fingerprint != batch.fingerprint:
                return IdempotencyConflict(
                    f"Idempotency-Key {batch.idempotency_key!r} was used before with another body"
                )
            return Stored(first.stored, first.duplicates, replayed=True)
        fresh = batch if batch.ids is None else self._fresh(batch, batch.ids)
        stored = Stored(len(fresh), len(batch) - len(fresh))
        if stored.stored:
            self.fresh.append(fresh)
        if batch.idempotency_key is not None:
            self.keyed.append((batch, stored))
            self.seen_keys[batch.idempotency_key] = (batch.fingerprint, stored)
        return stored

    @property
    def count(self) -> int:
        """Number of new vectors."""
        return sum(map(len, self.fresh))

    def keys(self, name: str) -> Iterator[tuple[object, ...]]:
        """Return the rows to add to ``idempotency_key``."""
        for batch, stored in self.keyed:
            yield name, batch.idempotency_key, batch.fingerprint, stored.stored, stored.duplicates

    def _fresh(self, batch: Batch, ids: Sequence[str | None]) -> Batch:
        """Leave out vectors whose ids are known."""
        rows = []
        for row, id_ in enumerate(ids):
            if id_ is None or id_ not in self.seen_ids:
                rows.append(row)
            if id_ is not None:
                self.seen_ids.add(id_)
        return batch if len(rows) == len(batch) else batch.take(rows)


async def insert(
    connection: psycopg.AsyncConnection, batches: Sequence[Batch], max_models: int
) -> list[Stored | MonitorError]:
    """Store batches in one transaction, which is committed when this returns.

    A batch that is refused gets its error as outcome. The other batches are stored nevertheless.

    Parameters
    ----------
    connection : psycopg.AsyncConnection
        In autocommit mode.
    batches : sequence of Batch
    max_models : int
        Maximum number of models. A batch that would add another one is refused.

    Returns
    -------
    list of Stored or MonitorError
        One outcome for each batch.

    Raises
    ------
    psycopg.Error
        If PostgreSQL fails or refuses a value. No batch is stored then, and the caller must roll
        the transaction back.
    """
    # Few round trips, because no other group is stored meanwhile: one statement to lock and recall,
    # one COPY of vectors, one of ids if there are any, and one statement to commit.
    models = await _lock(connection, batches, max_models)
    outcomes = [
        models[b.model_name].admit(b) if b.model_name in models else _too_many(b, max_models)
        for b in batches
    ]
    await _commit(connection, models)
    return outcomes


def _too_many(batch: Batch, max_models: int) -> TooManyModels:
    return TooManyModels(
        f"model {batch.model_name} is new, and {max_models} models are allowed (ingest.max_models)"
    )


async def _lock(
    connection: psycopg.AsyncConnection, batches: Sequence[Batch], max_models: int
) -> dict[str, _Model]:
    models = await _lock_known(connection, _BEGIN, batches)
    if new := [batch for batch in batches if batch.model_name not in models]:
        dimensions = {batch.model_name: batch.dimension for batch in reversed(new)}
        await _add(connection, dimensions, max_models)
        models |= await _lock_known(connection, "", new)
    return models


async def _lock_known(
    connection: psycopg.AsyncConnection, start: LiteralString, batches: Sequence[Batch]
) -> dict[str, _Model]:
    """Lock the models that exist, and recall their known ids and idempotency keys."""
    # All writers lock models in the same order, so that they cannot deadlock.
    names = sorted({batch.model_name for batch in batches})
    ids = [(b.model_name, id_) for b in batches for id_ in b.ids or () if id_ is not None]
    keys = [(b.model_name, b.idempotency_key) for b in batches if b.idempotency_key is not None]
    cursor = psycopg.AsyncClientCursor(connection)
    statements = start + _LOCK + (_IDS if ids else "") + (_KEYS if keys else "")
    await cursor.execute(statements, [names, *_columns(ids), *_columns(keys)])
    models = {name: _Model(*row) for name, *row in await _next_rows(cursor)}
    # Another writer may add a model between two of these statements.
    for name, id_ in await _next_rows(cursor) if ids else ():
        if name in models:
            models[name].seen_ids.add(id_)
    for name, key, fingerprint, stored, duplicates in await _next_rows(cursor) if keys else ():
        if name in models:
            models[name].seen_keys[key] = (fingerprint, Stored(stored, duplicates))
    return models


def _columns(rows: Sequence[Sequence[object]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


async def _next_rows(cursor: psycopg.AsyncCursor) -> list[tuple[Any, ...]]:
    """Fetch the rows of the next statement that returns rows."""
    while cursor.description is None:
        is_there = cursor.nextset()
        assert is_there
    rows = await cursor.fetchall()
    cursor.nextset()
    return rows


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


async def _commit(connection: psycopg.AsyncConnection, models: Mapping[str, _Model]) -> None:
    """Store the new vectors, ids and idempotency keys, and commit."""
    cursor = psycopg.AsyncClientCursor(connection)
    fresh = {name: model for name, model in models.items() if model.fresh}
    if fresh:
        await _copy(cursor, f"embedding ({copy.COLUMNS})", _tuples(fresh.values()))
    if any(batch.ids is not None for model in fresh.values() for batch in model.fresh):
        target: LiteralString = "embedding_id (model_name, id, seq, received_at)"
        await _copy(cursor, target, _id_tuples(fresh))
    statements: LiteralString = ""
    parameters: list[object] = []
    for name, model in models.items():
        if model.mismatched_dimension is not None:
            statements += _NOTE_MISMATCH
            parameters += [model.mismatched_dimension, name]
    if keys := [row for name, model in models.items() for row in model.keys(name)]:
        statements += _REMEMBER_KEYS
        parameters += _columns(keys)
    if fresh:
        statements += _ADVANCE
        advanced = [(name, m.last_seq + m.count, m.received_at) for name, m in fresh.items()]
        parameters += _columns(advanced)
    await cursor.execute(statements + "commit", parameters)


async def _copy(
    cursor: psycopg.AsyncCursor, target: LiteralString, tuples: Iterable[bytes | memoryview]
) -> None:
    async with cursor.copy(f"copy {target} from stdin (format binary)") as stream:
        await stream.write(copy.HEADER)
        for block in tuples:
            await stream.write(block)


def _id_tuples(models: Mapping[str, _Model]) -> Iterator[bytes]:
    for name, model in models.items():
        seq = model.last_seq
        for batch in model.fresh:
            numbered = enumerate(batch.ids or (), seq + 1)
            named = [(id_, number) for number, id_ in numbered if id_ is not None]
            yield copy.encode_ids(name, named, model.received_at)
            seq += len(batch)


def _tuples(models: Iterable[_Model]) -> Iterator[bytes | memoryview]:
    """Return portions of numbered vectors in the format of COPY."""
    for model in models:
        seq = model.last_seq
        for portion in _portions(model.fresh):
            yield copy.encode(portion, seq + 1, model.received_at)
            seq += sum(map(len, portion))


def _portions(batches: Iterable[Batch]) -> Iterator[list[Batch]]:
    """Cut and join batches, so that PostgreSQL stores one portion while the next is laid out."""
    portion: list[Batch] = []
    size = 0
    for part in (part for batch in batches for part in batch.parts(_PORTION_VECTORS)):
        portion.append(part)
        size += len(part)
        if size >= _PORTION_VECTORS:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
