"""Canaries: vectors of the same texts, sent again and again, and how far they have moved.

They are in no window and in no baseline. The first set of a name is its reference; the distance of
each later one is computed when it is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import psycopg
from numpy.typing import NDArray

from ingest.runtime.errors import IdempotencyConflict, NotFound, PayloadError
from ingest.store.connection import IDLE_LIMIT, AsyncConnection
from ingest.store.dimension import mismatch, require_dimension
from ingest.store.registration import register, removed, too_many
from ingest.store.revisions import compare

_LIMIT = "set local lock_timeout = '5s'"

ID_PREFIX = "canary:"
"""How the ids of canaries begin. No stored vector has such an id."""
KEPT_SETS = 16
"""Newest sets of a model that are kept, beside the references."""
KEPT_NAMES = 4
"""Names of sets of a model that have a reference: those that came last."""
_AHEAD = timedelta(hours=1)
"""What is stored as of later than that from now was dated by a wrong clock."""
_TOGETHER_SECONDS = 600.0
"""Sets that come sooner after one another may be of replicas that start together, or of a trial."""
_LEAST_PAUSES = 2
"""Longer pauses that show how often sets come."""
_LEAST_SPAN_SECONDS = 1_800.0
"""All sets that are kept show it, too, if they span half an hour: one every two minutes."""
_FADING = 0.7
"""Share of a gap that is still known when all sets that are kept came together after it."""


@dataclass(frozen=True, slots=True)
class CanarySet:
    """The vectors of one set of texts, as a client sent them.

    Attributes
    ----------
    model_name : str
        A legal model name.
    name : str
        Name of the set. Two sets of the same name have the same texts.
    ids : list of str
        Id of each text, sorted.
    vectors : ndarray of float32, shape (n, d)
        Finite, in the order of the ids.
    idempotency_key : str or None
        The request's ``Idempotency-Key``.
    fingerprint : bytes
        SHA-256 of the request's content, if it has a key.
    """

    model_name: str
    name: str
    ids: list[str]
    vectors: NDArray[np.float32]
    idempotency_key: str | None = None
    fingerprint: bytes = b""

    @property
    def dimension(self) -> int:
        """Number of components of each vector."""
        return int(self.vectors.shape[1])


class Moved(NamedTuple):
    """How far a set is from its reference.

    Attributes
    ----------
    is_reference : bool
        Whether it is the reference itself. Then both distances are 0.
    median, max : float
        Of the distances of its vectors: 1 - cosine, from 0 to 2.
    replayed : bool
        Whether the idempotency key was used before. The rest is then that of the first answer.
    """

    is_reference: bool
    median: float
    max: float
    replayed: bool = False


class _Row(NamedTuple):
    """A set that is stored, without its vectors."""

    received_at: datetime
    name: str
    ids: list[str]
    dimension: int
    moved: Moved
    longest_gap: float | None
    idempotency_key: str | None
    fingerprint: bytes


async def insert(connection: AsyncConnection, given: CanarySet, max_models: int) -> Moved:
    """Store a set, and measure how far it is from its reference.

    Parameters
    ----------
    connection : AsyncConnection
        In autocommit mode.
    given : CanarySet
    max_models : int
        Maximum number of models. A set that would add another one is refused.

    Raises
    ------
    TooManyModels
        If the model is new, and there are ``max_models``.
    DimensionMismatch
        If the model has vectors of another dimension.
    PayloadError
        If the reference has other ids.
    IdempotencyConflict
        If the key was used before with another request.
    StoreUnavailable
        If the model is removed meanwhile.
    psycopg.Error
        If PostgreSQL fails.
    """
    name, new = given.model_name, {given.model_name: given.dimension}
    if await _is_new(connection, given) and await register(connection, new, max_models):
        raise too_many(name, max_models)
    async with connection.transaction():
        await connection.execute(_LIMIT)
        await connection.execute(IDLE_LIMIT)
        # The row of the model orders its writers, so that only one set is the first.
        cursor = await connection.execute(
            "select dimension, clock_timestamp() from model where model_name = %s for update",
            [given.model_name],
        )
        found = await cursor.fetchone()
        if found is None:
            raise removed(name)
        dimension, now = found
        if dimension != given.dimension:
            raise mismatch(given.model_name, dimension, given.dimension)
        rows = await _rows(connection, given.model_name)
        rows = await _without_future(connection, given.model_name, rows, now)
        if (replay := _replay(given, rows)) is not None:
            return replay
        reference = _reference(given, rows)
        moved = Moved(True, 0.0, 0.0)
        if reference is not None:
            moved = _moved(await _vectors(connection, given, reference), given.vectors)
        if rows:  # also if the clock was set back
            now = max(now, rows[0].received_at + timedelta(microseconds=1))
        await _store(connection, given, moved, now, rows)
    return moved


async def _is_new(connection: AsyncConnection, given: CanarySet) -> bool:
    """Return whether the model does not exist, or has another dimension but no vectors yet."""
    cursor = await connection.execute(
        "select last_seq = 0 and dimension <> %s from model where model_name = %s",
        [given.dimension, given.model_name],
    )
    return await cursor.fetchone() in (None, (True,))


async def _rows(connection: AsyncConnection, model_name: str) -> list[_Row]:
    """Read what is stored for a model, newest first."""
    cursor = await connection.execute(
        "select received_at, canary_set, ids, octet_length(embeddings) / 4 / cardinality(ids),"
        " is_reference, median_distance, max_distance, longest_gap_seconds, idempotency_key,"
        " fingerprint from canary where model_name = %s order by received_at desc",
        [model_name],
    )
    return [
        _Row(received_at, name, ids, dimension, Moved(*moved), gap, key, fingerprint)
        for received_at, name, ids, dimension, *moved, gap, key, fingerprint in (
            await cursor.fetchall()
        )
    ]


async def _without_future(
    connection: AsyncConnection, model_name: str, rows: list[_Row], now: datetime
) -> list[_Row]:
    """Date back what is stored as of more than an hour from now: the clock was wrong then.

    Otherwise all later sets would be dated even later, and none would be missed.
    """
    if not rows or rows[0].received_at <= now + _AHEAD:
        return rows
    dated = []
    for place, row in enumerate(rows, start=1):
        if row.received_at > now:
            before = now - timedelta(microseconds=place)
            await connection.execute(
                "update canary set received_at = %s where model_name = %s and received_at = %s",
                [before, model_name, row.received_at],
            )
            row = row._replace(received_at=before)
        dated.append(row)
    return dated


def _replay(given: CanarySet, rows: Sequence[_Row]) -> Moved | None:
    key = given.idempotency_key
    first = next((row for row in rows if key is not None and row.idempotency_key == key), None)
    if first is None:
        return None
    if first.fingerprint != given.fingerprint:
        raise IdempotencyConflict(f"Idempotency-Key {key!r} was used before with another body")
    return first.moved._replace(replayed=True)


def _reference(given: CanarySet, rows: Sequence[_Row]) -> _Row | None:
    """Find the reference of a set; None if this set is the first."""
    for row in rows:
        # The dimension may have changed as long as the model has no vectors.
        if row.moved.is_reference and (row.name, row.dimension) == (given.name, given.dimension):
            if row.ids != given.ids:
                raise PayloadError(_difference(given, row.ids))
            return row
    return None


def _difference(given: CanarySet, known: Sequence[str]) -> str:
    missing, added = sorted({*known} - {*given.ids}), sorted({*given.ids} - {*known})
    first = f"{missing[0]} is missing" if missing else f"{added[0]} is not one of them"
    return (
        f"the canaries {given.name} of model {given.model_name} are {len(known)} vectors, always of"
        f" the same ids; {first}. Other texts need another name of the set"
    )


async def _vectors(connection: AsyncConnection, given: CanarySet, row: _Row) -> NDArray[np.float32]:
    cursor = await connection.execute(
        "select embeddings from canary where model_name = %s and received_at = %s",
        [given.model_name, row.received_at],
        binary=True,
    )
    found = await cursor.fetchone()
    assert found is not None
    return np.frombuffer(found[0], "<f4").reshape(given.vectors.shape)


def _moved(reference: NDArray[np.float32], vectors: NDArray[np.float32]) -> Moved:
    moved = distances(reference, vectors)
    return Moved(False, float(np.median(moved)), float(moved.max()))


def distances(reference: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine distance between each row and the same row of the reference.

    Parameters
    ----------
    reference, vectors : ndarray of float32, shape (n, d)
        Finite.

    Returns
    -------
    ndarray of float64, shape (n,)
        1 - cosine, from 0 to 2. A row that is all zeros has the distance 0 from another such row,
        and 1 from any other.
    """
    same, cosine = compare(reference, vectors)
    return np.where(np.isnan(cosine), np.where(same, 0.0, 1.0), 1 - cosine)


async def _store(
    connection: AsyncConnection,
    given: CanarySet,
    moved: Moved,
    now: datetime,
    rows: Sequence[_Row],
) -> None:
    """Add a set, and delete what is not kept any longer."""
    await connection.execute(
        "insert into canary (model_name, received_at, canary_set, ids, embeddings, is_reference,"
        " median_distance, max_distance, longest_gap_seconds, idempotency_key, fingerprint)"
        " values (%s, %s, %s, %s, %b, %s, %s, %s, %s, %s, %s)",
        [
            given.model_name,
            now,
            given.name,
            given.ids,
            given.vectors.astype("<f4", copy=False).tobytes(),
            moved.is_reference,
            moved.median,
            moved.max,
            _longest_gap(now, rows),
            given.idempotency_key,
            given.fingerprint,
        ],
    )
    names = list(dict.fromkeys([given.name, *(row.name for row in rows)]))[:KEPT_NAMES]
    outdated = [
        row.received_at
        for position, row in enumerate(rows, start=1)
        if row.name not in names
        or (row.moved.is_reference and _replaces(given, moved, row))
        or (not row.moved.is_reference and position >= KEPT_SETS)
    ]
    if outdated:
        await connection.execute(
            "delete from canary where model_name = %s and received_at = any(%s)",
            [given.model_name, outdated],
        )


def _longest_gap(now: datetime, rows: Sequence[_Row]) -> float | None:
    """Return the longest time between two of the newest sets; None while it is not known.

    Sixteen replicas that send at once are all of the newest sets. Then the oldest of these tells
    the gap before them.
    """
    kept = rows[: KEPT_SETS - 1]
    times = [now, *(row.received_at for row in kept)]
    gaps = [(later - earlier).total_seconds() for later, earlier in pairwise(times)]
    pauses = [gap for gap in gaps if gap >= _TOGETHER_SECONDS]
    is_full = len(times) == KEPT_SETS
    spans = is_full and sum(gaps) >= _LEAST_SPAN_SECONDS
    if spans or len(pauses) >= _LEAST_PAUSES:
        return max(gaps)
    if is_full and (before := kept[-1].longest_gap) is not None:
        return _FADING * before
    return None


def _replaces(given: CanarySet, moved: Moved, reference: _Row) -> bool:
    """Whether a set is the new reference instead of one that had another dimension."""
    return moved.is_reference and reference.name == given.name


def accept(connection: psycopg.Connection, model_name: str) -> list[str]:
    """Make the newest set of each name the reference: the encoder was changed on purpose.

    Parameters
    ----------
    connection : psycopg.Connection
        In autocommit mode.
    model_name : str

    Returns
    -------
    list of str
        Names of the sets.

    Raises
    ------
    NotFound
        If there is no such model, or it has no canaries.
    """
    require_dimension(connection, model_name)
    with connection.transaction():
        connection.execute("select from model where model_name = %s for update", [model_name])
        connection.execute(
            "update canary set is_reference = false where model_name = %s", [model_name]
        )
        accepted = connection.execute(
            "update canary set is_reference = true, median_distance = 0, max_distance = 0"
            " where model_name = %s and (canary_set, received_at) in"
            " (select canary_set, max(received_at) from canary where model_name = %s"
            " group by canary_set) returning canary_set",
            [model_name, model_name],
        ).fetchall()
    if not accepted:
        raise NotFound(f"model {model_name!r} has no canaries")
    return sorted(name for (name,) in accepted)


def remove(connection: psycopg.Connection, model_name: str) -> None:
    """Forget the canaries of a model: no more will come, or the next ones are the reference.

    Raises
    ------
    NotFound
        If there is no such model, or it has no canaries.
    """
    require_dimension(connection, model_name)
    if not connection.execute("delete from canary where model_name = %s", [model_name]).rowcount:
        raise NotFound(f"model {model_name!r} has no canaries")
