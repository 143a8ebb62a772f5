"""A table of an application, and what may happen to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum, auto
from typing import Any, NamedTuple

import psycopg

from tests.postgresql import Application

Place = tuple[Any, ...]
"""Values that order a row: its time, if the table is followed by time, and its id."""
Vector = tuple[float, ...]

WRONG = 3
"""Vectors that begin with this number have another dimension than the others."""


class Removal(StrEnum):
    """How all rows of a table are removed."""

    TRUNCATE = auto()
    DELETE = auto()
    DROP = auto()


class End(StrEnum):
    """How a transaction ends."""

    COMMIT = auto()
    ROLLBACK = auto()


class Kind(NamedTuple):
    """How a table is followed.

    Attributes
    ----------
    id : str
        SQL that makes an id of the number ``n``.
    time : str or None
        Column that orders the rows.
    is_view : bool
        Whether the table is behind a view.
    """

    id: str = "n"
    time: str | None = None
    is_view: bool = False


class Row(NamedTuple):
    """A row that has a vector and whatever orders it.

    Attributes
    ----------
    place : Place
    key : str
        Id of its vector in the store.
    vector : Vector
    is_past : bool
        Whether its time has come.
    """

    place: Place
    key: str
    vector: Vector
    is_past: bool


class Table:
    """A table ``docs`` that an application fills, and a spare one to take its place.

    Attributes
    ----------
    name : str
        What is followed.
    """

    def __init__(self, application: Application, kind: Kind) -> None:
        self._application = application
        self._connection = application.connection
        self._kind = kind
        self._late: psycopg.Connection | None = None
        self._next = self._spare_next = 1
        self._lowest = 0
        self.name = "seen" if kind.is_view else "docs"
        self._emptied: Counter[int] = Counter()
        self._maintained: Counter[int] = Counter()
        self._execute("set timezone = 'UTC'; drop table if exists docs, spare, away cascade")
        self._create("docs")
        self._create("spare")
        if kind.is_view:
            self._execute("create view seen as select * from docs; grant select on seen to public")

    def _create(self, name: str) -> None:
        kind = "bigint" if self._kind.id == "n" else "uuid"
        self._execute(
            f"create table {name} (id {kind} primary key, embedding vector,"
            f" updated_at timestamptz default now()); grant select on {name} to public;"
            f"create index on {name} (updated_at)"
        )

    def rows(self) -> list[Row]:
        """Return the rows that have a vector, in order."""
        columns = "id::text, true, id"
        present = "embedding is not null"
        if self._kind.time is not None:
            columns = "id::text, updated_at <= now(), updated_at, id"
            present += " and updated_at is not null"
        found = self._connection.execute(
            f"select embedding::real[], {columns} from docs where {present}".encode()
        )
        return sorted(Row(tuple(place), key, tuple(v), past) for v, key, past, *place in found)

    def history(self) -> tuple[int, int, int]:
        """Return the number of the table, and how often it was truncated and written anew.

        Nothing tells them behind a view.
        """
        number = self._number
        known = (number, self._emptied[number], self._maintained[number])
        return (0, 0, 0) if self._kind.is_view else known

    def insert(self, count: int, value: int) -> None:
        self._insert(self._connection, self._take(count), value)

    def insert_before(self, value: int) -> None:
        """Insert a row before all others."""
        self._lowest -= 1
        time = f"timestamptz '2000-01-01' + interval '{self._lowest} hours'"
        self._insert(self._connection, [self._lowest], value, time)

    def insert_in_the_future(self, value: int) -> None:
        self._insert(self._connection, self._take(1), value, "'2099-01-01'")

    def begin(self, value: int) -> None:
        """Insert a row that is seen later."""
        if self._late is None:
            self._late = psycopg.connect(self._application.string, autocommit=True)
            self._late.execute("begin")
            self._insert(self._late, self._take(1), value)

    def end(self, how: End = End.COMMIT) -> None:
        """End the transaction that began. What locks the table does so first."""
        if self._late is not None:
            self._late.execute(how.encode())
            self._late.close()
            self._late = None

    def update(self, which: int, count: int, value: int, moves: bool) -> None:
        """Change vectors in place, and maybe their times."""
        time = "clock_timestamp()" if moves else "updated_at"
        self._execute(
            f"update docs set embedding = {_vector(value, '1')}, updated_at = {time}"
            " where id = any(%s)",
            self._ids(which, count),
        )

    def blank(self, which: int, column: str) -> None:
        """Take the vector or the time from a row."""
        self._execute(f"update docs set {column} = null where id = any(%s)", self._ids(which, 1))

    def delete(self, which: int, count: int) -> None:
        self._execute("delete from docs where id = any(%s)", self._ids(which, count))

    def empty(self, how: Removal, restarts: bool) -> None:
        """Remove all rows. Later ids may start from 1 again."""
        self.end()
        if how == Removal.DELETE:
            self._execute("delete from docs")
        elif how == Removal.TRUNCATE or self._kind.is_view:
            self._execute("truncate docs")
            self._emptied[self._number] += 1
        else:
            self._execute("drop table docs")
            self._create("docs")
        if restarts:
            self._next = 1

    @contextmanager
    def replacing(self) -> Iterator[None]:
        """Do what happens while entered at once."""
        self.end()
        with self._connection.transaction():
            yield

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Put the rows of before back at the end."""
        self.end()
        self._execute("create temporary table backup as select * from docs")
        yield
        self._execute("insert into docs select * from backup; drop table backup")

    def swap(self) -> None:
        """Give the name to the spare table."""
        self.end()
        if not self._kind.is_view:
            with self._connection.transaction():
                self._execute(
                    "alter table docs rename to away; alter table spare rename to docs;"
                    "alter table away rename to spare"
                )
            self._next, self._spare_next = self._spare_next, self._next

    def maintain(self) -> None:
        """Write the rows anew, as they are."""
        self.end()
        self._execute("vacuum full docs")
        self._maintained[self._number] += 1

    @contextmanager
    def unreadable(self) -> Iterator[None]:
        """Take the right to read the table away while entered."""
        self._execute(f"revoke select on {self.name} from public")
        yield
        self._execute(f"grant select on {self.name} to public")

    def cut(self, reader: str) -> None:
        """Terminate the connections of a role."""
        self._execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = %s",
            reader,
        )

    @property
    def _number(self) -> int:
        [(number,)] = self._connection.execute("select 'docs'::regclass::oid::bigint").fetchall()
        return int(number)

    def _take(self, count: int) -> list[int]:
        self._next += count
        return list(range(self._next - count, self._next))

    def _insert(
        self,
        connection: psycopg.Connection,
        numbers: list[int],
        value: int,
        time: str = "now()",
    ) -> None:
        connection.execute(
            f"insert into docs select {self._kind.id}, {_vector(value, 'place::integer')}, {time}"
            " from unnest(%s::bigint[]) with ordinality as new (n, place)".encode(),
            [numbers],
        )

    def _ids(self, which: int, count: int) -> list[Any]:
        """Return the ids of rows, counted from the newest."""
        found = self._connection.execute(
            f"select id from docs order by {self._kind.time or 'id'} desc nulls last, id"
            " offset %s limit %s".encode(),
            [which, count],
        )
        return [id_ for (id_,) in found]

    def _execute(self, statement: str, *parameters: object) -> None:
        self._connection.execute(statement.encode(), parameters or None)


def _vector(value: int, place: str) -> str:
    rest = "" if value == WRONG else ", 1"
    return f"array[{value}, {place}{rest}]::vector"
