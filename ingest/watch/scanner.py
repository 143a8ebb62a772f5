"""Scan a table without an order: read a fixed part of its rows, and store what is new in it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from hashlib import blake2b
from typing import NamedTuple

from ingest.store import samples
from ingest.store.connection import unavailable
from ingest.store.samples import DIGEST_BYTES, Sample
from ingest.watch.rest import rest
from ingest.watch.sources.source import Row, ScannedTable
from ingest.watch.target import Target

_log = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 3600.0
_MOST = 4
"""Times the wanted number of rows that are read at most, before the part is made smaller."""


class _Read(NamedTuple):
    """A row that was read, and the digests of its key and its vector."""

    key: bytes
    vector: bytes
    row: Row


class Scanner:
    """Stores the vectors of a fixed part of a table's rows.

    A hash of its key decides whether a row belongs to the part. So the same rows are read each
    time, and rows that are added later belong to it with the same probability. Of these rows, those
    that are new or have another vector are stored. What was read is saved, so that an old row does
    not count as new after a restart, even if the store no longer keeps it.

    A part that has grown to twice the wanted size is halved. One that has shrunk to half of it, or
    whose wanted size was raised, grows: the rows that it gains are noted, but not stored, because
    they are not new.

    Parameters
    ----------
    source : ScannedTable
        It must be connected.
    target : Target
    """

    def __init__(self, source: ScannedTable, target: Target) -> None:
        self._source = source
        self._target = target
        self._sample: Sample | None = None
        self._repeats = False

    @property
    def noticed(self) -> Mapping[str, str]:
        """What is noticed of the table, for the log."""
        part = f"in a fixed part of about {self._source.sample} rows"
        return {
            "new_rows": part,
            "changed_rows": part if self._target.revises else "never",
            "emptied_or_remade": "by its new vectors",
            "deleted_rows": "never",
        }

    def pause(self, interval: float, took: float) -> float:
        """Return how long to wait after a poll."""
        return rest(interval, took, _LONGEST_PAUSE_SECONDS)

    async def poll(self) -> None:
        """Store the rows that are new or changed. After an error, the next poll reads them again.

        Raises
        ------
        SourceUnavailable
            If the table cannot be read now.
        StoreUnavailable
            If the store cannot be reached.
        MonitorError
            If a vector cannot be used, or the store refuses it.
        """
        before = self._sample
        if before is None:
            before = await self._load()
        if before is None:
            await self._target.begin(str(self._source))
            before = Sample(_level(await self._source.count(), self._source))
        level, found = before.level, await self._stored(before)
        while len(found) > _MOST * self._source.sample:
            # The table has grown at once. The rest of it is not read.
            level = max(level + 1, _level(await self._source.count(), self._source))
            found = await self._stored(Sample(level, {**before.rows, **found}))
        if len(found) > 2 * self._source.sample:
            level += 1
        elif level and 2 * len(found) <= self._source.sample:
            wanted = _level(await self._source.count(), self._source)
            if wanted < level:
                level, found = wanted, {**await self._noted(wanted), **found}
        await self._save(Sample(level, found))

    async def _stored(self, before: Sample) -> dict[bytes, bytes]:
        """Store what is new or changed in a part, and return its digests: of not much too many."""
        found: dict[bytes, bytes] = {}
        async with aclosing(self._rows(before.level)) as blocks:
            async for block in blocks:
                new = [each.row for each in block if before.rows.get(each.key) != each.vector]
                await self._target.store(new, str(self._source))
                found.update((each.key, each.vector) for each in block)
                if len(found) > _MOST * self._source.sample:
                    break
        return found

    async def _noted(self, level: int) -> dict[bytes, bytes]:
        """Return the digests of a part."""
        async with aclosing(self._rows(level)) as blocks:
            return {each.key: each.vector async for block in blocks for each in block}

    async def _rows(self, level: int) -> AsyncGenerator[list[_Read]]:
        """Read a part. Of rows with the same key, only the first is taken: one vector has an id."""
        keys: set[bytes] = set()
        async with aclosing(self._source.rows(level)) as blocks:
            async for block in blocks:
                taken = []
                for row in block:
                    key = _digest(row.key.encode())
                    if key in keys:
                        self._repeated(row)
                    else:
                        keys.add(key)
                        taken.append(_Read(key, _vector_digest(row), row))
                yield taken

    def _repeated(self, row: Row) -> None:
        if not self._repeats:
            self._repeats = True
            _log.warning(
                "several rows have one id; only the first of them is read",
                extra={"table": str(self._source), "id": f"{row.key:.80}"},
            )

    async def _load(self) -> Sample | None:
        with unavailable():
            async with self._target.pipeline.pool.connection() as store:
                return await samples.load(store, self._target.model_name, str(self._source))

    async def _save(self, sample: Sample) -> None:
        if sample != self._sample:
            with unavailable():
                async with self._target.pipeline.pool.connection() as store:
                    await samples.save(store, self._target.model_name, str(self._source), sample)
        self._sample = sample


def _level(count: int, source: ScannedTable) -> int:
    """Return the smallest level that has at most the wanted number of rows."""
    return (max(1, -(-count // source.sample)) - 1).bit_length()


def _vector_digest(row: Row) -> bytes:
    vector = row.vector
    return _digest(vector.encode() if isinstance(vector, str) else vector.tobytes())


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=DIGEST_BYTES).digest()
