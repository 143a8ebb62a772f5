"""A table of vectors that others fill: what is read from it, and that it can be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import args_row
from psycopg_pool import AsyncConnectionPool

from ingest.runtime.errors import SourceUnavailable
from ingest.store.positions import Position

TIMESTAMPS = ("timestamptz", "timestamp")
NUMBERS = ("int4", "int8", "numeric", "float8")
"""Types of a time, as the catalogue names them; numbers count seconds since the epoch."""
LATEST_SECONDS = 1e11
"""No time in seconds since the epoch is as late; one in milliseconds is."""

_ANSWER_SECONDS = 60.0
_ROWS = 1_000
_ALIAS = "watched"


class Row(NamedTuple):
    """One row of the table.

    ``key`` names the row's present vector, ``seconds`` says when it was made (since the epoch)
    and ``vector`` is what pgvector's ``vector_send`` wrote.
    """

    key: str
    seconds: float | None
    vector: bytes


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, its type as SQL and as the catalogue names it, and who may read it."""

    name: str
    declared: str
    kind: str
    schema: str
    is_readable: bool

    @property
    def quoted(self) -> sql.Identifier:
        """The quoted name.

        Qualified: where a result has a column of the same name, "order by" would mean that one.
        """
        return sql.Identifier(_ALIAS, self.name)


@dataclass(frozen=True)
class Source:
    """A table of vectors that others fill.

    Attributes
    ----------
    database, schema, table : str
    vector, id : Column
    time : Column or None
        When the row changed last; without it the id orders the rows.
    """

    database: str
    schema: str
    table: str
    vector: Column
    id: Column
    time: Column | None

    def __str__(self) -> str:
        order = ", ".join(column.name for column in self.order)
        return f"{self.database}.{self.schema}.{self.table}.{self.vector.name} by {order}"

    @cached_property
    def order(self) -> tuple[Column, ...]:
        """The columns that order the rows."""
        return (self.id,) if self.time is None else (self.time, self.id)

    async def newest(self, connection: psycopg.AsyncConnection, skip: int = 0) -> Position:
        """Give the position of the newest row but ``skip``.

        A time in the future does not count: rows that are on time would lie behind it.
        """
        past: sql.Composable = sql.SQL("true")
        if self.time is not None:
            now = "now()" if self.time.kind in TIMESTAMPS else "extract(epoch from now())"
            past = sql.SQL("{} <= {}::{}").format(
                self.time.quoted, sql.SQL(now), sql.SQL(self.time.declared)
            )
        statement = sql.SQL(
            "select {texts} from {table} where {present} and {past}"
            " order by {descending} offset %s limit 1"
        ).format(
            texts=_joined("{}::text", self.order),
            table=self.quoted,
            present=self._present,
            past=past,
            descending=_joined("{} desc", self.order),
        )
        async with asyncio.timeout(_ANSWER_SECONDS):
            cursor = await connection.execute(statement, [skip])
            return await cursor.fetchone() or ()

    async def rows(
        self, connection: psycopg.AsyncConnection, after: Position, but: Sequence[str]
    ) -> AsyncGenerator[list[Row], None]:
        """Read the rows after a position, in order, without those whose keys are given."""
        statement = sql.SQL(
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
        async with connection.cursor("watch", binary=True, row_factory=args_row(Row)) as cursor:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await cursor.execute(statement, [*after, list(but)])
            while rows := await self._fetched(cursor):
                yield rows

    @staticmethod
    async def _fetched(cursor: psycopg.AsyncServerCursor[Row]) -> list[Row]:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await cursor.fetchmany(_ROWS)

    @property
    def quoted(self) -> sql.Composed:
        """The quoted name of the table, as its columns' names refer to it."""
        name = sql.Identifier(self.schema, self.table)
        return sql.SQL("{} as {}").format(name, sql.Identifier(_ALIAS))

    @property
    def _present(self) -> sql.Composed:
        columns = (self.vector, *self.order)
        return sql.SQL(" and ").join(sql.SQL("{} is not null").format(c.quoted) for c in columns)

    @property
    def _key(self) -> sql.Composed:
        # With the time, so that a row whose vector was made anew counts again.
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
        # pgvector's types need not be on the search path.
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


@asynccontextmanager
async def snapshot(pool: AsyncConnectionPool) -> AsyncIterator[psycopg.AsyncConnection]:
    """Read while entered, as of one moment, without a right to write.

    Raises
    ------
    SourceUnavailable
        If the server is away, or refuses or takes too long.
    """
    try:
        async with pool.connection() as connection, connection.transaction():
            await connection.execute("set transaction isolation level repeatable read, read only")
            # Positions and keys are texts, which must not depend on whose role reads.
            await connection.execute("set local timezone = 'UTC'; set local datestyle = 'ISO'")
            yield connection
    except psycopg.Error as error:
        lines = str(error).strip().splitlines()
        raise SourceUnavailable(lines[0] if lines else type(error).__name__) from error
    except TimeoutError as error:
        raise SourceUnavailable(f"no answer within {_ANSWER_SECONDS:.0f} s") from error
