"""Read a table of PostgreSQL whose vectors are of a type of pgvector."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import psycopg
from psycopg import sql

from ingest.runtime.errors import SourceUnavailable
from ingest.store.connection import ConnectionString
from ingest.store.pool import open_async
from ingest.store.positions import Position
from ingest.watch.sources.source import Row

TIMESTAMPS = ("timestamptz", "timestamp")
"""Types of a column of times, as the catalogue names them."""
NUMBERS = ("int4", "int8", "numeric", "float8")
"""Types of a column of times in seconds since the epoch, as the catalogue names them."""

_ANSWER_SECONDS = 60.0
_ROWS = 1_000
_ALIAS = "watched"
_VECTOR_HEADER_BYTES = 4
"""The dimension and a reserved word, which pgvector's ``vector_send`` writes first."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name : str
    declared : str
        The type as SQL writes it, such as ``numeric(20,3)``.
    kind, schema : str
        Name and schema of the type in the catalogue, such as ``numeric``.
    is_readable : bool
        Whether our role may read the column.
    """

    name: str
    declared: str
    kind: str
    schema: str
    is_readable: bool

    @property
    def quoted(self) -> sql.Identifier:
        """The quoted name, qualified by the table's alias.

        Unqualified, "order by" would mean a column of the result that has the same name.
        """
        return sql.Identifier(_ALIAS, self.name)


@dataclass(frozen=True)
class Table:
    """A table and the SQL that reads it.

    Attributes
    ----------
    database, schema, name : str
    vector, id : Column
    time : Column or None
        Time of a row's last change. Without it, the id orders the rows.
    """

    database: str
    schema: str
    name: str
    vector: Column
    id: Column
    time: Column | None

    def __str__(self) -> str:
        order = ", ".join(column.name for column in self.order)
        return f"{self.database}.{self.schema}.{self.name}.{self.vector.name} by {order}"

    @cached_property
    def order(self) -> tuple[Column, ...]:
        """The columns that order the rows."""
        return (self.id,) if self.time is None else (self.time, self.id)

    def newest(self) -> sql.Composed:
        """Write a query for the position of the newest row; its parameter is how many to skip."""
        past: sql.Composable = sql.SQL("true")
        if self.time is not None:
            now = "now()" if self.time.kind in TIMESTAMPS else "extract(epoch from now())"
            past = sql.SQL("{} <= {}::{}").format(
                self.time.quoted, sql.SQL(now), sql.SQL(self.time.declared)
            )
        return sql.SQL(
            "select {texts} from {table} where {present} and {past}"
            " order by {descending} offset %s limit 1"
        ).format(
            texts=_joined("{}::text", self.order),
            table=self.quoted,
            present=self._present,
            past=past,
            descending=_joined("{} desc", self.order),
        )

    def rows(self, after: Position) -> sql.Composed:
        """Write a query for the rows after a position.

        Its parameters are the texts of the position, and a list of keys to leave out.
        """
        return sql.SQL(
            "select {key}, {seconds}, {vector} from {table}"
            " where {present} and {after} and not exists (select from unnest(%s::text[])"
            " as known (key) where known.key = {key}) order by {order}"
        ).format(
            key=self._key,
            seconds=self._seconds,
            vector=self._vector,
            table=self.quoted,
            present=self._present,
            after=self._after(after),
            order=_joined("{}", self.order),
        )

    @property
    def quoted(self) -> sql.Composed:
        """The quoted name of the table with the alias that :attr:`Column.quoted` uses."""
        name = sql.Identifier(self.schema, self.name)
        return sql.SQL("{} as {}").format(name, sql.Identifier(_ALIAS))

    @property
    def _present(self) -> sql.Composed:
        columns = (self.vector, *self.order)
        return sql.SQL(" and ").join(sql.SQL("{} is not null").format(c.quoted) for c in columns)

    @property
    def _key(self) -> sql.Composed:
        # The time is part of it: a row that gets a new vector counts again.
        return sql.SQL(" || '@' || ").join(
            sql.SQL("{}::text").format(column.quoted) for column in reversed(self.order)
        )

    @property
    def _seconds(self) -> sql.Composable:
        if self.time is None:
            return sql.SQL("null::float8")
        epoch = "extract(epoch from {})" if self.time.kind in TIMESTAMPS else "{}"
        return sql.SQL(f"({epoch})::float8").format(self.time.quoted)

    @property
    def _vector(self) -> sql.Composed:
        # Qualified: pgvector's schema may not be on the search path.
        vector = sql.Identifier(self.vector.schema, "vector")
        return sql.SQL("{}::{}").format(self.vector.quoted, vector)

    def _after(self, position: Position) -> sql.Composable:
        if not position:
            return sql.SQL("true")
        values = sql.SQL(", ").join(
            sql.SQL("%s::{}").format(sql.SQL(column.declared)) for column in self.order
        )
        return sql.SQL("({}) > ({})").format(_joined("{}", self.order), values)


def _joined(template: str, columns: Sequence[Column]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(template).format(column.quoted) for column in columns)


class PostgresSource:
    """A table of PostgreSQL, and the connection that reads it.

    Parameters
    ----------
    connection_string : ConnectionString
        To the server that has the table. A right to write is not needed.
    table : Table
    advice : sequence of str

    Raises
    ------
    SettingsError
        If the connection string cannot be read.
    """

    def __init__(
        self, connection_string: ConnectionString, table: Table, advice: Sequence[str] = ()
    ) -> None:
        self._pool = open_async(connection_string, 1)
        self._table = table
        self.name = table.name
        self.advice = advice

    def __str__(self) -> str:
        return str(self._table)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Hold a connection while entered; it is made again when it is lost."""
        async with self._pool:
            yield

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[TableSnapshot]:
        """Read the table in one transaction that cannot write.

        Raises
        ------
        SourceUnavailable
            If the server cannot be reached, refuses or takes too long.
        """
        try:
            async with self._pool.connection() as connection, connection.transaction():
                await connection.execute(
                    "set transaction isolation level repeatable read, read only"
                )
                # Positions and keys are texts that must not depend on the role's settings.
                await connection.execute("set local timezone = 'UTC'; set local datestyle = 'ISO'")
                yield TableSnapshot(connection, self._table)
        except psycopg.Error as error:
            lines = str(error).strip().splitlines()
            raise SourceUnavailable(lines[0] if lines else type(error).__name__) from error
        except TimeoutError as error:
            raise SourceUnavailable(f"no answer within {_ANSWER_SECONDS:.0f} s") from error


@dataclass(frozen=True, slots=True)
class TableSnapshot:
    """A table as one transaction sees it; see :class:`ingest.watch.sources.source.Snapshot`."""

    connection: psycopg.AsyncConnection
    table: Table

    async def newest(self, skip: int = 0) -> Position:
        """Return the position of the newest row, not counting the ``skip`` newest ones."""
        async with asyncio.timeout(_ANSWER_SECONDS):
            cursor = await self.connection.execute(self.table.newest(), [skip])
            return await cursor.fetchone() or ()

    async def rows(self, after: Position, known: Sequence[str]) -> AsyncGenerator[list[Row], None]:
        """Read the rows after a position in order, without those whose keys are known."""
        async with self.connection.cursor("watch", binary=True) as cursor:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await cursor.execute(self.table.rows(after), [*after, list(known)])
            while block := await self._block(cursor):
                yield block

    @staticmethod
    async def _block(cursor: psycopg.AsyncServerCursor) -> list[Row]:
        async with asyncio.timeout(_ANSWER_SECONDS):
            found = await cursor.fetchmany(_ROWS)
        return [
            Row(key, seconds, np.frombuffer(data, ">f4", offset=_VECTOR_HEADER_BYTES).astype("f4"))
            for key, seconds, data in found
        ]
