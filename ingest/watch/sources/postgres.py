"""Read a table of PostgreSQL whose rows are in order."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import LiteralString, NamedTuple

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import IsolationLevel, sql

from ingest.files import vectors
from ingest.runtime.errors import SourceUnavailable
from ingest.store.connection import ConnectionString
from ingest.store.pool import async_pool
from ingest.store.positions import Position
from ingest.watch.follower import TableFollower
from ingest.watch.sources.source import Identity, Row, Terms
from ingest.watch.target import Target

TIMESTAMPS = ("timestamptz", "timestamp")
"""Types of a column of times, as the catalogue names them."""
NUMBERS = ("int4", "int8", "numeric", "float8")
"""Types of a column of times in seconds since the epoch, as the catalogue names them."""

PGVECTOR = ("vector", "halfvec")
"""Types of vectors of pgvector, as the catalogue names them."""
ARRAYS = ("_float4", "_float8", "_numeric")
"""Types of vectors that are arrays, as the catalogue names them."""
JSON = ("json", "jsonb")
"""Types of objects, as the catalogue names them."""
TEXTS = ("text", "varchar", *JSON)
"""Types of vectors that are written as text, as the catalogue names them."""

ANSWER_SECONDS = 60.0
"""Longest time that the server may take to answer."""
BLOCK = 1_000
"""Rows that are read at once."""
_ALIAS = "watched"
_VECTOR_HEADER_BYTES = 4
"""The dimension and a reserved word, which pgvector's ``vector_send`` writes first."""
_BLANK: Mapping[str, LiteralString] = {
    **dict.fromkeys(ARRAYS, "cardinality({}) = 0"),
    **dict.fromkeys(
        TEXTS,
        r"""translate(lower({}::text), E' \t\r\n', '') in ('', 'null', '[]', '{{}}', '""')""",
    ),
}
"""By type of vectors: the condition that no vector is there, although the value is not null."""
_LONGEST_BLANK = 64
"""Bytes above which a value is not looked at."""
_INTEGER_BITS = {"int2": 16, "int4": 32, "int8": 64}
_FIELDS = 50
"""Most fields of one object: a function takes 100 arguments."""
_LONGEST_STORAGE = 64
"""Longest list of file numbers that is kept as it is; longer ones are kept as their digest."""

# The functions see the newest catalogue, unlike a query of pg_class in an older snapshot. Run this
# after the table was read: then it is locked against TRUNCATE, and these are the files that were
# read. A partitioned table has no file of its own.
_IDENTITY = """
with recursive tree (oid) as (
  select to_regclass(%(name)s)::oid
  union select inhrelid from pg_inherits join tree on inhparent = tree.oid
)
select to_regclass(%(name)s)::oid::text, array(
  select pg_relation_filenode(oid)::text from tree
  where pg_relation_filenode(oid) is not null order by pg_relation_filenode(oid))
"""


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
        return _identifier(_ALIAS, self.name)

    @property
    def type(self) -> sql.SQL:
        """The type, for a cast."""
        return sql.SQL(_doubled(self.declared))


class Field(NamedTuple):
    """One field of the metadata.

    Attributes
    ----------
    key : str
        Under which it is stored.
    name : str
        As the option names it: that of a column, or ``a.b`` for what an object ``a`` has at ``b``.
    column : Column
    path : tuple of str
        Keys that lead to the value in a column of JSON; empty for the column itself.
    """

    key: str
    name: str
    column: Column
    path: tuple[str, ...] = ()

    @property
    def value(self) -> sql.Composed:
        """Write the value."""
        if not self.path:
            return sql.SQL("{}").format(self.column.quoted)
        return sql.SQL("{} #> {}::text[]").format(
            self.column.quoted, sql.Literal([_doubled(key) for key in self.path])
        )


@dataclass(frozen=True)
class Table:
    """A table and the SQL that reads it.

    Run it with parameters, if only an empty list: its percent signs are doubled.

    Attributes
    ----------
    database, schema, name : str
    vector, id : Column
    time : Column or None
        Time of a row's last change. Without it, the id orders the rows.
    has_identity : bool
        Whether the relation has files of its own, unlike a view.
    metadata : tuple of Field
    has_unique_id : bool
        Whether no two rows have the same id, also at different times.
    """

    database: str
    schema: str
    name: str
    vector: Column
    id: Column
    time: Column | None
    has_identity: bool
    metadata: tuple[Field, ...] = ()
    has_unique_id: bool = False

    def __str__(self) -> str:
        order = ", ".join(column.name for column in self.order)
        return f"{self.database}.{self.schema}.{self.name}.{self.vector.name} by {order}"

    @cached_property
    def order(self) -> tuple[Column, ...]:
        """The columns that order the rows."""
        return (self.id,) if self.time is None else (self.time, self.id)

    def newest(self) -> sql.Composed:
        """Write a query for the position of the newest row; its parameter is how many to skip."""
        return sql.SQL(
            "select {texts} from {table} where {present} and {past}"
            " order by {descending} offset %s limit 1"
        ).format(
            texts=_joined("{}::text", self.order),
            table=self.quoted,
            present=self.present,
            past=self._past,
            descending=_joined("{} desc", self.order),
        )

    def rows(self, after: Position) -> sql.Composed:
        """Write a query for the rows after a position.

        Its parameters are the texts of the position, and a list of keys to leave out.
        """
        return sql.SQL(
            "select {row} from {table} where {present} and {after}"
            " and not exists (select from unnest(%s::text[]) as known (key)"
            " where known.key = {key}) order by {order}"
        ).format(
            row=self.row,
            key=self.key,
            table=self.quoted,
            present=self.present,
            after=self._after(after),
            order=_joined("{}", self.order),
        )

    def reaches(self) -> sql.Composed:
        """Write a query for whether a row is at a position or after it.

        Its parameters are the texts of the position. The columns' own order counts.
        """
        return sql.SQL(
            "select exists (select from {table} where {present} and {past}"
            " and ({order}) >= ({values}))"
        ).format(
            table=self.quoted,
            present=self.present,
            past=self._past,
            order=_joined("{}", self.order),
            values=self._values,
        )

    def at(self, count: int) -> sql.Composed:
        """Write a query for the rows at positions; its parameters are the texts of ``count``."""
        return sql.SQL(
            "select {row} from {table} where {present} and ({order}) in ({positions})"
        ).format(
            row=self.row,
            table=self.quoted,
            present=self.present,
            order=_joined("{}", self.order),
            positions=sql.SQL(", ").join([sql.SQL("({})").format(self._values)] * count),
        )

    def may_hold(self, position: Position) -> bool:
        """Return whether a row could be at a position.

        PostgreSQL refuses a text that is no id, and takes ``'7 '`` for ``'7'``.
        """
        bits = _INTEGER_BITS.get(self.id.kind)
        if self.time is not None or bits is None:
            return True
        [text] = position
        try:
            number = int(text)
        except ValueError:
            return False
        return str(number) == text and -(1 << bits - 1) <= number < 1 << bits - 1

    @property
    def quoted(self) -> sql.Composed:
        """The quoted name of the table with the alias that :attr:`Column.quoted` uses."""
        name = _identifier(self.schema, self.name)
        return sql.SQL("{} as {}").format(name, _identifier(_ALIAS))

    @property
    def present(self) -> sql.Composed:
        """Write the condition that a row has a vector and a place in the order."""
        columns = (self.vector, *self.order)
        conditions = [sql.SQL("{} is not null").format(column.quoted) for column in columns]
        if (blank := _BLANK.get(self.vector.kind)) is not None:
            # Most vectors are long. The length is known without reading them.
            condition = sql.SQL("(pg_column_size({0}) > {1} or not {2})")
            vector = self.vector.quoted
            conditions.append(
                condition.format(vector, _LONGEST_BLANK, sql.SQL(blank).format(vector))
            )
        return sql.SQL(" and ").join(conditions)

    @property
    def _past(self) -> sql.Composable:
        if self.time is None:
            return sql.SQL("true")
        now = "now()" if self.time.kind in TIMESTAMPS else "extract(epoch from now())"
        return sql.SQL("{} <= {}::{}").format(self.time.quoted, sql.SQL(now), self.time.type)

    @property
    def _values(self) -> sql.Composed:
        return sql.SQL(", ").join(sql.SQL("%s::{}").format(column.type) for column in self.order)

    @property
    def row(self) -> sql.Composed:
        """Write what :func:`read` reads: key, time, vector, metadata and id."""
        id_ = sql.SQL("{}" if self.has_unique_id else "null").format(self.id.quoted)
        return sql.SQL("{}, {}, {}, {}, {}::text").format(
            self.key, self._seconds, self._vector, self._metadata, id_
        )

    @property
    def key(self) -> sql.Composed:
        """Write the text that identifies a row."""
        # The time is part of it: a changed row is read again.
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
        if self.vector.kind in TEXTS:
            return sql.SQL("{}::text").format(self.vector.quoted)
        if self.vector.kind in ARRAYS:
            return sql.SQL("{}::float8[]").format(self.vector.quoted)
        # Qualified: pgvector's schema may not be on the search path.
        vector = _identifier(self.vector.schema, "vector")
        return sql.SQL("{}::{}").format(self.vector.quoted, vector)

    @property
    def _metadata(self) -> sql.Composable:
        if not self.metadata:
            return sql.SQL("null::text")
        objects = [
            _object(self.metadata[first : first + _FIELDS])
            for first in range(0, len(self.metadata), _FIELDS)
        ]
        joined = sql.SQL("left({}, -1) || ', ' || right({}, -1)")
        return reduce(joined.format, objects)

    def _after(self, position: Position) -> sql.Composable:
        if not position:
            return sql.SQL("true")
        return sql.SQL("({}) > ({})").format(_joined("{}", self.order), self._values)


def _object(fields: Sequence[Field]) -> sql.Composed:
    """Write the text of an object with these fields."""
    pairs = sql.SQL(", ").join(
        sql.SQL("{}, {}").format(sql.Literal(_doubled(field.key)), field.value) for field in fields
    )
    # Not jsonb, which refuses a text with an escaped NUL.
    return sql.SQL("json_build_object({})::text").format(pairs)


def _identifier(*names: str) -> sql.Identifier:
    return sql.Identifier(*map(_doubled, names))


def _doubled(text: str) -> str:
    """Double the percent signs, which psycopg takes for parameters where a query has any."""
    return text.replace("%", "%%")


def _joined(template: str, columns: Sequence[Column]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(template).format(column.quoted) for column in columns)


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Limit the time of what is entered.

    Raises
    ------
    SourceUnavailable
        If it takes longer.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise SourceUnavailable(f"no answer within {seconds:g} s") from error


class Server:
    """The connection to the server that has a table.

    Parameters
    ----------
    connection_string : ConnectionString
        A right to write is not needed.

    Raises
    ------
    SettingsError
        If the connection string cannot be read.
    """

    def __init__(self, connection_string: ConnectionString) -> None:
        self._pool = async_pool(connection_string, 1)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Hold a connection while entered; it is made again when it is lost."""
        async with self._pool:
            yield

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[psycopg.AsyncConnection]:
        """Read as of one moment, in one transaction that cannot write.

        Raises
        ------
        SourceUnavailable
            If the server cannot be reached or refuses.
        """
        try:
            async with self._pool.connection() as connection:
                await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
                await connection.set_read_only(True)
                async with connection.transaction():
                    yield connection
        except psycopg.Error as error:
            lines = str(error).strip().splitlines()
            raise SourceUnavailable(lines[0] if lines else type(error).__name__) from error


class PostgresSource:
    """A table of PostgreSQL whose rows are in order, and the connection that reads it.

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
        self._server = Server(connection_string)
        self._table = table
        self.name = table.name
        self.advice = advice
        self.finds_changes = table.time is not None
        self.has_identity = table.has_identity

    def __str__(self) -> str:
        return str(self._table)

    def connected(self) -> AbstractAsyncContextManager[None]:
        """Hold a connection while entered; it is made again when it is lost."""
        return self._server.connected()

    def follower(self, target: Target, terms: Terms) -> TableFollower:
        """Return what stores the rows in a target."""
        return TableFollower(self, target, terms)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[TableSnapshot]:
        """Read the table in one transaction that cannot write.

        Raises
        ------
        SourceUnavailable
            If the server cannot be reached, refuses or takes too long.
        """
        async with self._server.reading() as connection:
            yield TableSnapshot(connection, self._table)


@dataclass(frozen=True, slots=True)
class TableSnapshot:
    """A table as one transaction sees it; see :class:`ingest.watch.sources.source.Snapshot`."""

    connection: psycopg.AsyncConnection
    table: Table

    async def newest(self, skip: int = 0) -> Position:
        """Return the position of the newest row, not counting the ``skip`` newest ones."""
        async with within(ANSWER_SECONDS):
            cursor = await self.connection.execute(self.table.newest(), [skip])
            return await cursor.fetchone() or ()

    async def rows(self, after: Position, known: Sequence[str]) -> AsyncGenerator[list[Row], None]:
        """Read the rows after a position in order, without those whose keys are known."""
        async with self.connection.cursor("watch", binary=True) as cursor:
            async with within(ANSWER_SECONDS):
                await cursor.execute(self.table.rows(after), [*after, list(known)])
            while block := await self._block(cursor):
                yield block

    async def identity(self) -> Identity | None:
        """Return the number of the table, and those of the files that hold its rows."""
        if not self.table.has_identity:
            return None
        name = sql.Identifier(self.table.schema, self.table.name).as_string(None)
        async with within(ANSWER_SECONDS):
            cursor = await self.connection.execute(_IDENTITY, {"name": name})
            row = await cursor.fetchone()
        if row is None or row[0] is None:
            return None
        storage = ",".join(row[1])
        if len(storage) > _LONGEST_STORAGE:
            storage = hashlib.sha256(storage.encode()).hexdigest()
        return Identity(row[0], storage)

    async def reaches(self, position: Position) -> bool:
        """Return whether there is a row at a position or after it."""
        if not position:
            return True
        async with within(ANSWER_SECONDS):
            cursor = await self.connection.execute(self.table.reaches(), position)
            row = await cursor.fetchone()
        return row is not None and bool(row[0])

    async def at(self, positions: Sequence[Position]) -> list[Row]:
        """Read the rows at these positions."""
        wanted = [position for position in positions if self.table.may_hold(position)]
        if not wanted:
            return []
        async with (
            within(ANSWER_SECONDS),
            self.connection.cursor(binary=True) as cursor,
        ):
            values = [text for position in wanted for text in position]
            await cursor.execute(self.table.at(len(wanted)), values)
            return read(await cursor.fetchall())

    @staticmethod
    async def _block(cursor: psycopg.AsyncServerCursor) -> list[Row]:
        async with within(ANSWER_SECONDS):
            return read(await cursor.fetchmany(BLOCK))


def read(
    found: Iterable[tuple[str, float | None, object, str | None, str | None]],
) -> list[Row]:
    """Make rows of what :attr:`Table.row` selects, read in binary."""
    return [
        Row(key, seconds, _read(vector), None if metadata is None else metadata.encode(), id_)
        for key, seconds, vector, metadata, id_ in found
    ]


def _read(value: object) -> NDArray[np.float32] | str:
    if isinstance(value, bytes):
        return np.frombuffer(value, ">f4", offset=_VECTOR_HEADER_BYTES).astype("f4")
    return vectors.read(value)
