"""Storing vectors: many batches in one transaction, each of them completely or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import repeat
from typing import Any, LiteralString

import numpy as np
import psycopg
from numpy.typing import NDArray

from ingest.runtime.errors import (
    DimensionMismatch,
    IdempotencyConflict,
    MonitorError,
)
from ingest.store import copy
from ingest.store.batch import Batch
from ingest.store.connection import IDLE_LIMIT, AsyncConnection
from ingest.store.registration import register, removed, too_many
from ingest.store.revisions import compare

_PORTION_VECTORS = 256
"""Vectors that are laid out together for COPY, or compared together."""

_LIMITS = f"""
set local lock_timeout = '5s';
set local statement_timeout = '30s';
{IDLE_LIMIT};
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
select model_name, id, seq, received_at from embedding_id
where (model_name, id) in (select * from unnest(%s::text[], %s::text[]));
"""
_KEYS = """
select model_name, key, fingerprint, stored, duplicates, coalesce(revisions, 0)
from idempotency_key
where (model_name, key) in (select * from unnest(%s::text[], %s::text[]));
"""
# A stored vector of a wrong dimension, which something else must have written, blocks no writer.
# The limit makes the planner look up each vector by the primary key. A join might read all vectors
# between the bounds, which are there so that it skips partitions.
_VECTORS = """
copy (
  select known.seq, known.received_at, found.embedding
  from unnest(%s::bigint[], %s::timestamptz[]) as known (seq, received_at)
  cross join lateral (
    select embedding from embedding
    where model_name = %s and received_at between %s and %s
    and received_at = known.received_at and seq = known.seq
    and vector_dims(embedding) = %s limit 1
  ) as found
) to stdout (format binary)
"""
_NOTE_MISMATCH = """
update model set mismatched_dimension = %s, mismatched_at = clock_timestamp()
where model_name = %s;
"""
_REMEMBER_KEYS = """
insert into idempotency_key
  (model_name, key, fingerprint, stored, duplicates, revisions, received_at)
select *, clock_timestamp()
from unnest(%s::text[], %s::text[], %s::bytea[], %s::integer[], %s::integer[], %s::integer[]);
"""
# Retention may have deleted the id meanwhile, so this is no update.
_REVISE_IDS = """
insert into embedding_id (model_name, id, seq, received_at)
select %s, id, seq, %s from unnest(%s::text[], %s::bigint[]) as revised (id, seq)
on conflict (model_name, id)
do update set seq = excluded.seq, received_at = excluded.received_at;
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
    stored : int
        Vectors stored now.
    duplicates : int
        Vectors not stored, because the newest vector of their id is the same or, without
        ``revise``, because their id was stored before.
    revisions : int
        How many of the stored vectors revise one that was stored under their id before.
    replayed : bool
        Whether the idempotency key was used before. The counts are then those of the first answer.
    """

    stored: int
    duplicates: int
    revisions: int = 0
    replayed: bool = False


_Place = tuple[NDArray[np.float32], int]
"""A vector: an array of vectors, and a row of it."""


@dataclass(slots=True)
class _Model:
    """The row of a model, locked by this transaction, and what the transaction adds."""

    dimension: int
    last_seq: int
    received_at: datetime
    fresh: list[Batch] = field(default_factory=list)
    keyed: list[tuple[Batch, Stored]] = field(default_factory=list)
    mismatched_dimension: int | None = None
    stored_ids: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    """Number and time of the newest vector of each id that was stored before the transaction."""
    newest: dict[str | None, _Place | None] = field(default_factory=dict)
    """Newest vector of each id; None if it was not read, has expired or has a wrong dimension."""
    seen_keys: dict[str, tuple[bytes, Stored]] = field(default_factory=dict)

    def admit(self, batch: Batch, revise: bool) -> Stored | MonitorError:
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
            return replace(first, replayed=True)
        fresh, revisions = batch, 0
        if batch.ids is not None:
            fresh, revisions = self._fresh(batch, batch.ids, revise)
        stored = Stored(len(fresh), len(batch) - len(fresh), revisions)
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
            counts = stored.stored, stored.duplicates, stored.revisions
            yield name, batch.idempotency_key, batch.fingerprint, *counts

    def numbered_ids(self) -> dict[Any, int]:
        """Return the number of the newest of the new vectors of each id."""
        numbers: dict[Any, int] = {}
        seq = self.last_seq + 1
        for batch in self.fresh:
            if batch.ids is not None:
                numbers.update(zip(batch.ids, range(seq, seq + len(batch)), strict=True))
            seq += len(batch)
        numbers.pop(None, None)
        return numbers

    def is_admissible(self, batch: Batch) -> bool:
        """Return whether the vectors of a batch are neither refused nor a replay."""
        return batch.dimension == self.dimension and batch.idempotency_key not in self.seen_keys

    def _fresh(self, batch: Batch, ids: Sequence[str | None], revise: bool) -> tuple[Batch, int]:
        """Leave out vectors whose ids are known, except revisions. Count those."""
        if len(set(ids)) == len(ids) and self.newest.keys().isdisjoint(ids):
            # Most batches: all ids are new. The loop below takes longer.
            self._note(batch, ids, range(len(ids)))
            return batch, 0
        rows: list[int] = []
        first: dict[str | None, int] = {}
        known: list[tuple[int, _Place | None]] = []
        for row, id_ in enumerate(ids):
            if id_ is None:
                rows.append(row)
            elif id_ not in first:
                first[id_] = row
                if id_ in self.newest:
                    known.append((row, self.newest[id_]))
                else:
                    rows.append(row)
        revised = _revised(batch, known) if revise and known else {}
        for row in {row for row, _ in known} - revised.keys():
            del first[ids[row]]
        self._note(batch, first.keys(), first.values())
        rows = sorted([*rows, *revised])
        fresh = batch if len(rows) == len(batch) else batch.take(rows)
        if revised:
            fresh = replace(fresh, revised_cosines=[revised.get(row) for row in rows])
        return fresh, len(revised)

    def _note(self, batch: Batch, ids: Iterable[str | None], rows: Iterable[int]) -> None:
        """Remember the vectors of these rows as the newest of their ids."""
        self.newest.update(zip(ids, zip(repeat(batch.vectors), rows), strict=True))


def _revised(batch: Batch, known: Sequence[tuple[int, _Place | None]]) -> dict[int, float | None]:
    """Return the rows that differ from the earlier vectors of their ids, and the cosines."""
    revised: dict[int, float | None] = {row: None for row, place in known if place is None}
    found = [(row, place) for row, place in known if place is not None]
    for at in range(0, len(found), _PORTION_VECTORS):
        portion = found[at : at + _PORTION_VECTORS]
        rows = [row for row, _ in portion]
        before = np.stack([vectors[row] for _, (vectors, row) in portion])
        same, cosines = compare(before, batch.vectors[rows])
        for row, is_same, cosine in zip(rows, same.tolist(), cosines.tolist(), strict=True):
            if not is_same:
                revised[row] = None if np.isnan(cosine) else cosine
    return revised


async def insert(
    connection: AsyncConnection,
    batches: Sequence[Batch],
    max_models: int,
    *,
    revise: bool = True,
) -> list[Stored | MonitorError]:
    """Store batches in one transaction, which is committed when this returns.

    A batch that is refused gets its error as outcome. The other batches are stored nevertheless.
    A vector is left out if the newest vector of its id is the same, or if its id occurs earlier in
    its batch.

    Parameters
    ----------
    connection : AsyncConnection
        In autocommit mode.
    batches : sequence of Batch
    max_models : int
        Maximum number of models. A batch that would add another one is refused.
    revise : bool
        Whether another vector of an id that was stored before is stored, as a revision. Otherwise
        it is left out too.

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
    # one COPY of vectors, one of ids if there are new ones, and one statement to commit. Only for
    # a model with known ids there is one more, to read their vectors.
    models, refused = await _lock(connection, batches, max_models)
    if revise:
        await _recall(connection, models, batches)

    def outcome(batch: Batch) -> Stored | MonitorError:
        name = batch.model_name
        if name in models:
            return models[name].admit(batch, revise)
        return too_many(name, max_models) if name in refused else removed(name)

    def admit() -> list[Stored | MonitorError]:
        return [outcome(batch) for batch in batches]

    known = sum(len(model.stored_ids) for model in models.values())
    outcomes = admit() if known <= _PORTION_VECTORS else await asyncio.to_thread(admit)
    await _commit(connection, models)
    return outcomes


async def _lock(
    connection: AsyncConnection, batches: Sequence[Batch], max_models: int
) -> tuple[dict[str, _Model], set[str]]:
    """Add new models, and lock all. Return them, and the names for which there is no room."""
    models, refused = await _lock_known(connection, batches), set[str]()
    if new := [batch for batch in batches if _is_new(models.get(batch.model_name), batch)]:
        # Add models while none is locked: two writers that each hold a model could deadlock.
        await connection.execute("rollback")
        dimensions = {batch.model_name: batch.dimension for batch in reversed(new)}
        refused = await register(connection, dimensions, max_models)
        models = await _lock_known(connection, batches)
    return models, refused


def _is_new(known: _Model | None, batch: Batch) -> bool:
    """Return whether the first vectors of a model are in this batch.

    A model without vectors may be left by a transaction that failed; its dimension does not count.
    """
    return known is None or (known.last_seq == 0 and known.dimension != batch.dimension)


async def _lock_known(connection: AsyncConnection, batches: Sequence[Batch]) -> dict[str, _Model]:
    """Begin, and lock the models that exist, and recall their known ids and idempotency keys."""
    # All writers lock models in the same order, so that they cannot deadlock.
    names = sorted({batch.model_name for batch in batches})
    ids = [(b.model_name, id_) for b in batches for id_ in b.ids or () if id_ is not None]
    keys = [(b.model_name, b.idempotency_key) for b in batches if b.idempotency_key is not None]
    cursor = psycopg.AsyncClientCursor(connection)
    # A percent sign begins a parameter, but it may also be in the name of a schema.
    begin = "begin isolation level read committed; " + connection.pin.replace("%", "%%")
    statements = f"{begin}; {_LIMITS}{_LOCK}" + (_IDS if ids else "") + (_KEYS if keys else "")
    await cursor.execute(statements, [names, *_columns(ids), *_columns(keys)])
    models = {name: _Model(*row) for name, *row in await _next_rows(cursor)}
    # Another writer may add a model between two of these statements.
    for name, id_, seq, received_at in await _next_rows(cursor) if ids else ():
        if name in models:
            models[name].stored_ids[id_] = seq, received_at
            models[name].newest[id_] = None
    for name, key, fingerprint, *counts in await _next_rows(cursor) if keys else ():
        if name in models:
            models[name].seen_keys[key] = (fingerprint, Stored(*counts))
    return models


async def _recall(
    connection: AsyncConnection, models: Mapping[str, _Model], batches: Sequence[Batch]
) -> None:
    """Read the newest vectors of known ids, to compare them with those of the batches."""
    cursor = psycopg.AsyncClientCursor(connection)
    for name, model in models.items():
        if not model.stored_ids:
            continue
        candidates = [b for b in batches if b.model_name == name and model.is_admissible(b)]
        known = {
            id_: model.stored_ids[id_]
            for batch in candidates
            for id_ in batch.ids or ()
            if id_ is not None and id_ in model.stored_ids
        }
        if not known:
            continue
        numbers, times = zip(*known.values(), strict=True)
        bounds = min(times), max(times)
        parameters = [_array(numbers), _array(times), name, *bounds, model.dimension]
        async with cursor.copy(_VECTORS, parameters) as stream:
            blocks = [block async for block in stream]
        found = await asyncio.to_thread(copy.decode, blocks, model.dimension)
        rows = {seq: row for row, seq in enumerate(found["seq"].tolist())}
        for id_, (seq, _) in known.items():
            if seq in rows:
                model.newest[id_] = found["embedding"], rows[seq]


def _array(values: Iterable[object]) -> str:
    """Write numbers or times as an array. psycopg takes ten times as long."""
    return f"{{{','.join(map(str, values))}}}"


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


async def _commit(connection: AsyncConnection, models: Mapping[str, _Model]) -> None:
    """Store the new vectors, ids and idempotency keys, and commit."""
    cursor = psycopg.AsyncClientCursor(connection)
    fresh = {name: model for name, model in models.items() if model.fresh}
    if fresh:
        await _copy(cursor, f"embedding ({copy.COLUMNS})", _tuples(fresh.values()))
    new_ids, revised_ids = _split_ids(fresh)
    if new_ids:
        target: LiteralString = "embedding_id (model_name, id, seq, received_at)"
        await _copy(cursor, target, new_ids)
    statements: LiteralString = ""
    parameters: list[object] = []
    for name, model in models.items():
        if model.mismatched_dimension is not None:
            statements += _NOTE_MISMATCH
            parameters += [model.mismatched_dimension, name]
    if keys := [row for name, model in models.items() for row in model.keys(name)]:
        statements += _REMEMBER_KEYS
        parameters += _columns(keys)
    for name, numbers in revised_ids.items():
        statements += _REVISE_IDS
        ids = list(numbers)
        parameters += [name, models[name].received_at, ids, _array(numbers.values())]
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


def _split_ids(models: Mapping[str, _Model]) -> tuple[list[bytes], dict[str, dict[str, int]]]:
    """Return the new ids as tuples of COPY, and the new numbers of known ids by model."""
    new: list[bytes] = []
    revised: dict[str, dict[str, int]] = {}
    for name, model in models.items():
        numbers = model.numbered_ids()
        if known := numbers.keys() & model.stored_ids.keys():
            revised[name] = {id_: numbers.pop(id_) for id_ in known}
        if numbers:
            new.append(copy.encode_ids(name, numbers.items(), model.received_at))
    return new, revised


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
