"""A script: several statements that go to PostgreSQL as one message, COPY among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import LiteralString

import psycopg
from psycopg import generators, pq
from psycopg.abc import PQGen
from psycopg.waiting import WAIT_RW, WAIT_W

from ingest.store import copy

Tuples = Iterable[bytes | memoryview]

_BLOCK = 128 * 1024
"""Bytes that libpq is given at once; with more it is slow."""


class Script:
    """Statements that are executed in their order, without waiting for one to send the next.

    psycopg sends several at once too, but not with COPY: this speaks to its libpq where a cursor
    would refuse.

    Parameters
    ----------
    connection : psycopg.AsyncConnection
    """

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection
        self._cursor = psycopg.AsyncClientCursor(connection)
        self._statements: list[str] = []
        self._copies: list[Tuples] = []

    def add(self, statement: LiteralString, parameters: Sequence[object] = ()) -> None:
        """Add a statement whose rows nobody asks for."""
        self._statements.append(self._cursor.mogrify(statement, parameters or None))

    def add_copy(self, target: LiteralString, tuples: Tuples) -> None:
        """Add a COPY of tuples, laid out as :mod:`ingest.store.copy` does."""
        self._statements.append(f"copy {target} from stdin (format binary)")
        self._copies.append(tuples)

    async def run(self) -> None:
        """Execute all.

        What the tuples themselves raise leaves the connection of no use.

        Raises
        ------
        psycopg.Error
            If PostgreSQL refuses one; those behind it are not executed.
        """
        async with self._connection.lock:
            await self._connection.wait(self._speak(self._connection.pgconn))

    def _speak(self, pgconn: pq.abc.PGconn) -> PQGen[None]:
        pgconn.send_query(";".join(self._statements).encode())
        _check((yield from generators.execute(pgconn)))
        for tuples in self._copies:
            yield from _send_copy(pgconn, tuples)
            _check((yield from generators.execute(pgconn)))


def _send_copy(pgconn: pq.abc.PGconn, tuples: Tuples) -> PQGen[None]:
    """Send what a COPY waits for, and that this was all."""
    yield from generators.copy_to(pgconn, copy.HEADER, flush=False)
    sent = 0
    for part in tuples:
        for block in _blocks(part):
            if sent:
                yield from _flush(pgconn)
            # Not flushed itself: the last one goes with the end, the first with the header. Each
            # message is one to wake up for.
            yield from generators.copy_to(pgconn, block, flush=False)
            sent += len(block)
    while pgconn.put_copy_end() == 0:
        yield WAIT_W


def _flush(pgconn: pq.abc.PGconn) -> PQGen[None]:
    """Do what ``generators.send`` does, which fails when it is cancelled while it waits."""
    while pgconn.flush() != 0:
        if (yield WAIT_RW):
            pgconn.consume_input()


def _blocks(part: bytes | memoryview) -> Iterator[memoryview]:
    whole = memoryview(part)
    for start in range(0, len(whole), _BLOCK):
        yield whole[start : start + _BLOCK]


def _check(results: Sequence[pq.abc.PGresult]) -> None:
    for result in results:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)
