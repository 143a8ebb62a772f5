"""Connect to PostgreSQL, and turn its connection errors into ``StoreUnavailable``.

The settings of a session may come from the role, the database, ``PGOPTIONS`` or the server. What is
right must not depend on them, so each of our connections replaces them: at its start, and again at
the beginning of each transaction. Behind a pooler in transaction mode, a transaction may run in
another session than the one before. So a statement outside a transaction gets one of its own, which
has the settings, too.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any, LiteralString, Self

import psycopg
from psycopg import IsolationLevel
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.types.datetime import TimestamptzBinaryLoader, TimestamptzLoader
from psycopg.types.json import JsonbBinaryLoader, JsonbLoader
from psycopg_pool import PoolTimeout

from ingest.runtime.errors import SettingsError, StoreLost, StoreRefused, StoreUnavailable

_log = logging.getLogger(__name__)

ConnectionString = str | Callable[[], str]
"""A connection string of libpq, or a function that returns it.

The function is called for each new connection, because the password may change.
"""


_SESSION: LiteralString = """
set datestyle = 'ISO';
set timezone = 'UTC';
set standard_conforming_strings = on;
select concat_ws('; ',
  'set local datestyle = ISO',
  'set local timezone = UTC',
  'set local standard_conforming_strings = on',
  'set local synchronous_commit = ' || case
    when current_setting('synchronous_commit') in ('off', 'local') then 'on'
    else current_setting('synchronous_commit') end,
  'set local search_path = ' || concat_ws(', ', (
    select relnamespace::regnamespace::text from pg_class
    where oid = to_regclass('baseline_embedding')), nullif(current_setting('search_path'), ''), (
    select extnamespace::regnamespace::text from pg_extension where extname = 'vector'
    and extnamespace::regnamespace::name <> all (current_schemas(true))
    and current_schema() is not null)),
  'set local statement_timeout = 0',
  'set local lock_timeout = 0',
  'set local tcp_keepalives_idle = 10',
  'set local tcp_keepalives_interval = 5',
  case when version() like '%linux%' then 'set local tcp_keepalives_count = 3' end,
  case when version() like '%linux%' then 'set local tcp_user_timeout = 25000' end,
  case when current_setting('transaction_timeout', true) is not null
    then 'set local transaction_timeout = 0' end);
"""
"""Pins the settings of a session that poolers keep for each of their clients, and writes the
statements that pin all settings of a transaction.

A commit is acknowledged when it is on disk, and on the standbys where the server waits for them.
The schema that has the store comes first, also when the search path gets another before it, such as
one with the role's name: new tables are made there. pgvector is found in whatever schema it is; but
where no schema of the path exists, nothing is made in that of pgvector. No time limit is inherited:
a migration or the read of a large window may take long. The server finds out within 30 seconds that
our machine is gone, and gives up the transaction with its locks.
"""

IDLE_LIMIT: LiteralString = "set local idle_in_transaction_session_timeout = '60s'"
"""Ends a transaction that others wait for if its process hangs, or is gone behind a pooler."""

_TURN_LIMIT = "30 s"
"""How long a turn is waited for. Within it, the server notices that the one before is gone."""

_TABLE_LIMIT = "1 s"
"""How long a change of a table waits for its users. Writers, who wait behind it, wait 5 s."""


class _Cursor(psycopg.Cursor[Any]):
    """A cursor whose statements all have the pinned settings."""

    def execute(self, *arguments: Any, **options: Any) -> Self:
        with _transaction(self.connection):
            return super().execute(*arguments, **options)

    def executemany(self, *arguments: Any, **options: Any) -> None:
        with _transaction(self.connection):
            super().executemany(*arguments, **options)

    @contextmanager
    def copy(self, *arguments: Any, **options: Any) -> Iterator[psycopg.Copy]:
        with _transaction(self.connection), super().copy(*arguments, **options) as stream:
            yield stream


class _AsyncCursor(psycopg.AsyncCursor[Any]):
    """A cursor whose statements all have the pinned settings."""

    async def execute(self, *arguments: Any, **options: Any) -> Self:
        async with _transaction(self.connection):
            return await super().execute(*arguments, **options)

    async def executemany(self, *arguments: Any, **options: Any) -> None:
        async with _transaction(self.connection):
            await super().executemany(*arguments, **options)

    @asynccontextmanager
    async def copy(self, *arguments: Any, **options: Any) -> AsyncIterator[psycopg.AsyncCopy]:
        async with _transaction(self.connection), super().copy(*arguments, **options) as stream:
            yield stream


def _transaction(connection: Any) -> Any:
    """Return a transaction of the connection; nothing if it is in one."""
    is_idle = connection.info.transaction_status == TransactionStatus.IDLE
    return connection.transaction() if is_idle else nullcontext()


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection for threads, with pinned settings.

    Attributes
    ----------
    pin : str
        Statements that pin the settings of a transaction.
    """

    pin: LiteralString

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Self:
        """Connect, and pin the settings of the session."""
        connection = super().connect(conninfo, **options)
        connection.isolation_level = IsolationLevel.READ_COMMITTED
        try:
            cursor = connection.execute(_SESSION)
            while cursor.description is None:
                cursor.nextset()
            [(connection.pin,)] = cursor.fetchall()
            connection.cursor_factory = _Cursor
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Iterator[psycopg.Transaction]:
        """Run the block in a transaction with pinned settings, or in a savepoint."""
        is_outermost = self.info.transaction_status == TransactionStatus.IDLE
        with super().transaction(savepoint_name, force_rollback) as transaction:
            if is_outermost:
                self.execute(self.pin)
            yield transaction


class AsyncConnection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """A connection for asyncio, with pinned settings.

    Attributes
    ----------
    pin : str
        Statements that pin the settings of a transaction.
    """

    pin: LiteralString

    @classmethod
    async def connect(cls, conninfo: str = "", **options: Any) -> Self:
        """Connect, and pin the settings of the session."""
        connection = await super().connect(conninfo, **options)
        await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
        try:
            cursor = await connection.execute(_SESSION)
            while cursor.description is None:
                cursor.nextset()
            [(connection.pin,)] = await cursor.fetchall()
            connection.cursor_factory = _AsyncCursor
        except BaseException:
            await connection.close()
            raise
        return connection

    @asynccontextmanager
    async def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncIterator[psycopg.AsyncTransaction]:
        """Run the block in a transaction with pinned settings, or in a savepoint."""
        is_outermost = self.info.transaction_status == TransactionStatus.IDLE
        async with super().transaction(savepoint_name, force_rollback) as transaction:
            if is_outermost:
                await self.execute(self.pin)
            yield transaction


def store_table(connection: psycopg.Connection) -> int | None:
    """Return the number of a table of the store; None if there is no store.

    Only the first schema has it: that of pgvector, at the end of the search path, may have another.
    """
    row = connection.execute(
        "select to_regclass(quote_ident(current_schema()) || '.baseline_embedding')::oid"
    ).fetchone()
    return None if row is None else row[0]


def take_turns(connection: psycopg.Connection, lock: int) -> None:
    """Keep other processes from taking an advisory lock until the transaction ends.

    Raises
    ------
    StoreUnavailable
        If another process has it for long.
    """
    connection.execute(IDLE_LIMIT)
    connection.execute("select set_config('lock_timeout', %s, true)", [_TURN_LIMIT])
    try:
        connection.execute("select pg_advisory_xact_lock(%s)", [lock])
    except psycopg.errors.LockNotAvailable as error:
        raise StoreUnavailable(
            "another process has been migrating the store, or making its partitions, for"
            f" {_TURN_LIMIT}"
        ) from error
    # What follows may wait for rows. Nobody queues behind that.
    connection.execute("set local lock_timeout = 0")


@contextmanager
def changing_tables(connection: psycopg.Connection) -> Iterator[None]:
    """Wait for other users of a table only for a moment, until the transaction ends.

    While a change of a table waits for a dump, everybody who comes later waits behind the change,
    also those that store vectors. Whoever gives up and tries again lets them pass.

    Raises
    ------
    StoreUnavailable
        If somebody uses a table for longer.
    """
    connection.execute("select set_config('lock_timeout', %s, true)", [_TABLE_LIMIT])
    try:
        yield
    except psycopg.errors.LockNotAvailable as error:
        raise StoreUnavailable(
            "a table of the store cannot be changed while somebody uses it, such as a dump or a"
            f" long query; given up after {_TABLE_LIMIT}, so that vectors are stored meanwhile"
        ) from error


class _UtcLoader(TimestamptzLoader):
    """Return times in UTC, whatever the time zone of the session.

    It is set there, but not every pooler keeps it.
    """

    def load(self, data: Buffer) -> datetime:
        return super().load(data).astimezone(UTC)


class _UtcBinaryLoader(TimestamptzBinaryLoader):
    """Return times in UTC, whatever the time zone of the session."""

    def load(self, data: Buffer) -> datetime:
        return super().load(data).astimezone(UTC)


class _ShallowLoader(JsonbLoader):
    """Return JSON, or None with a warning if it is nested too deep for Python.

    Earlier releases stored such metadata. They fail no search that finds their vector.
    """

    def load(self, data: Buffer) -> Any:
        try:
            return super().load(data)
        except RecursionError as error:
            _log.warning("stored JSON is too deep to be read", extra={"error": str(error)})
            return None


class _ShallowBinaryLoader(_ShallowLoader, JsonbBinaryLoader):
    """Return JSON, or None with a warning if it is nested too deep for Python."""


_ADAPTERS = AdaptersMap(psycopg.adapters)
_ADAPTERS.register_loader("timestamptz", _UtcLoader)
_ADAPTERS.register_loader("timestamptz", _UtcBinaryLoader)
_ADAPTERS.register_loader("jsonb", _ShallowLoader)
_ADAPTERS.register_loader("jsonb", _ShallowBinaryLoader)

NO_SCHEMA = "the store has no schema; run: embedding-drift migrate"

OPTIONS: dict[str, Any] = {
    "autocommit": True,
    # A prepared statement belongs to a session, and a pooler in transaction mode changes sessions.
    "prepare_threshold": None,
    "connect_timeout": 5,
    # Detects within 30 seconds that the other machine is unreachable. It does not detect a server
    # that hangs, because its kernel still answers: whatever waits for the server must time out.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    "application_name": "embedding-drift",
    # COPY is sent in this encoding, whatever PGCLIENTENCODING is.
    "client_encoding": "UTF8",
    "context": _ADAPTERS,
}
"""Arguments of every connection, whether it belongs to a pool or not."""


# A special character of a password that is not percent-encoded ends it. Its rest becomes another
# part, which the errors of libpq quote.
_PARTS = {
    "host": re.compile(r"[A-Za-z0-9._:%,-]*|[/@][^,]*(,[/@][^,]*)*"),
    "hostaddr": re.compile(r"[0-9A-Fa-f.:%,]*"),
    "port": re.compile(r"[0-9,]*"),
    "dbname": re.compile(r"[^@/:?#]*"),
}


def connect(connection_string: ConnectionString) -> Connection:
    """Open one connection, for a command that does one thing.

    Raises
    ------
    SettingsError
        If the connection string cannot be read.
    StoreUnavailable
        If the server cannot be reached; StoreRefused if it refuses the connection for good.
    """
    string = readable(connection_string)
    with unavailable():
        return Connection.connect(string, **OPTIONS)


def readable(connection_string: ConnectionString) -> str:
    """Return the current connection string, after checking its syntax.

    Raises
    ------
    SettingsError
        If it cannot be read.
    """
    string = connection_string() if callable(connection_string) else connection_string
    try:
        parts = conninfo_to_dict(string)
        if not all(_PARTS[name].fullmatch(str(parts.get(name) or "")) for name in _PARTS):
            raise psycopg.ProgrammingError
    except psycopg.ProgrammingError:
        # "from None", and not left to the pool: libpq's message quotes the string with the
        # password in it.
        raise SettingsError(
            "database.connection_string, database.admin_connection_string or"
            " database.replica_connection_string cannot be read; allowed are key=value pairs and"
            " postgresql://user:password@host/database, in which special characters are"
            " percent-encoded"
        ) from None
    return string


@contextmanager
def unavailable() -> Iterator[None]:
    """Raise StoreUnavailable if the server cannot be reached or does not accept work.

    It is StoreLost if other statements would fail, too, and StoreRefused if waiting does not help.
    Errors in data or in SQL are not changed.
    """
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
        raise _kind(error)(_summary(error)) from error
    except (
        psycopg.errors.ReadOnlySqlTransaction,
        psycopg.errors.IdleInTransactionSessionTimeout,
    ) as error:
        raise StoreLost(_summary(error)) from error
    except psycopg.errors.UndefinedTable as error:
        raise StoreUnavailable(NO_SCHEMA) from error


# libpq has no SQLSTATE for a connection that failed, only the text. A server that speaks another
# language is waited for.
_FAILURE = re.compile(r"connection to server (?:at|on socket) .* failed: (.*)")
_REFUSALS = re.compile(
    r"""FATAL:\ +(?: password\ authentication\ failed\ for\ user
        | no\ pg_hba\.conf\ entry\ for | pg_hba\.conf\ rejects\ connection
        | (?:role|database)\ ".*"\ does\ not\ exist | permission\ denied\ for\ database )
    | fe_sendauth:\ no\ password\ supplied
    | server\ does\ not\ support\ SSL
    | root\ certificate\ file\ .*\ does\ not\ exist
    | SSL\ error:\ certificate\ verify\ failed
    | server\ certificate\ for\ .*\ does\ not\ match\ host\ name""",
    re.VERBOSE,
)


def _kind(error: psycopg.Error) -> type[StoreUnavailable]:
    if _is_refused(error):
        return StoreRefused
    return StoreLost if _has_ended(error) else StoreUnavailable


def _has_ended(error: psycopg.Error) -> bool:
    """Whether an error ended the connection, or there was none.

    Many operational errors, such as 57014 (cancelled), 40001 (conflict with a replica), 53100 (no
    room for temporary files) and 58030 (a block cannot be read), end one statement only.
    """
    # libpq, psycopg and the pool have no SQLSTATE for what they notice themselves.
    if error.sqlstate is None or error.sqlstate.startswith(("08", "57P0")):
        return True
    return error.diag.severity_nonlocalized in ("FATAL", "PANIC")


def _is_refused(error: psycopg.Error) -> bool:
    """Whether each server that was tried refuses the connection for good."""
    failures = _FAILURE.findall(str(error))
    return bool(failures) and all(map(_REFUSALS.match, failures))


def _summary(error: psycopg.Error) -> str:
    # Only the first line: the others may quote the connection string.
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    if reason.startswith("failed to resolve host"):
        reason += "; on Kubernetes, check that the NetworkPolicy of this pod allows its DNS"
    return f"PostgreSQL is not available: {reason}"
