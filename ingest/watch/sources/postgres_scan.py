"""Read a fixed part of a table of PostgreSQL whose rows have no order."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager

from psycopg import sql

from ingest.store.connection import ConnectionString
from ingest.watch.scanner import Scanner
from ingest.watch.sources import postgres
from ingest.watch.sources.postgres import ANSWER_SECONDS, BLOCK, Server, Table, within
from ingest.watch.sources.source import Row, Terms
from ingest.watch.target import Target

_SCAN_SECONDS = 600.0
"""Longest time to look through the whole table."""
# PostgreSQL distributes rows over partitions by this function, so its values do not change.
_HASH = "hashtextextended({key}, 0)"


class PostgresScan:
    """A table of PostgreSQL that is read in a sample; see :class:`ScannedTable` in `source.py`.

    Parameters
    ----------
    connection_string : ConnectionString
        To the server that has the table. A right to write is not needed.
    table : Table
    sample : int
        About how many rows to read.
    advice : sequence of str
    """

    def __init__(
        self,
        connection_string: ConnectionString,
        table: Table,
        sample: int,
        advice: Sequence[str] = (),
    ) -> None:
        self._server = Server(connection_string)
        self._table = table
        self.name = table.name
        self.sample = sample
        scan = "every poll looks through the whole table for the rows of the sample"
        self.advice = (scan, *advice)

    def __str__(self) -> str:
        return f"{self._table} in samples"

    def connected(self) -> AbstractAsyncContextManager[None]:
        """Hold a connection while entered; it is made again when it is lost."""
        return self._server.connected()

    def follower(self, target: Target, terms: Terms) -> Scanner:
        """Return what stores the rows in a target."""
        return Scanner(self, target)

    async def count(self) -> int:
        """Count the rows that have a vector."""
        query = sql.SQL("select count(*) from {table} where {present}").format(
            table=self._table.quoted, present=self._table.present
        )
        async with self._server.reading() as connection, within(_SCAN_SECONDS):
            cursor = await connection.execute(query, [])
            row = await cursor.fetchone()
            return 0 if row is None else int(row[0])

    async def rows(self, level: int) -> AsyncGenerator[list[Row]]:
        """Read the rows whose keys have a hash that is a multiple of ``2**level``."""
        query = sql.SQL(
            "select {row} from {table} where {present} and {hash} & %s = 0 order by {hash}"
        ).format(
            row=self._table.row,
            table=self._table.quoted,
            present=self._table.present,
            hash=sql.SQL(_HASH).format(key=self._table.key),
        )
        async with (
            self._server.reading() as connection,
            connection.cursor("watch", binary=True) as cursor,
        ):
            async with within(_SCAN_SECONDS):
                await cursor.execute(query, [(1 << level) - 1])
                block = await cursor.fetchmany(BLOCK)
            while block:
                yield postgres.read(block)
                async with within(ANSWER_SECONDS):
                    block = await cursor.fetchmany(BLOCK)
