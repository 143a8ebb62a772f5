"""Sockets of connections, which can be shut down while a caller waits for the server."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from weakref import WeakKeyDictionary, finalize

import psycopg


class Sockets:
    """Duplicates of the sockets of connections.

    They are duplicates because a connection may close its own socket at any time and in any
    thread; its file descriptor may then belong to another file.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._duplicates: WeakKeyDictionary[
            psycopg.Connection | psycopg.AsyncConnection, socket.socket
        ] = WeakKeyDictionary()

    def add(self, connection: psycopg.Connection | psycopg.AsyncConnection) -> None:
        """Add a new connection."""
        duplicate = socket.socket(fileno=os.dup(connection.fileno()))
        finalize(connection, duplicate.close)
        with self._lock:
            self._close_stale()
            self._duplicates[connection] = duplicate

    def _close_stale(self) -> None:
        """Close the duplicates of closed connections, without waiting for garbage collection.

        While a duplicate is open, the server does not see that the connection was closed, and its
        session keeps its locks. It is enough to do this when a connection is added: each lost
        connection is replaced by a new one.
        """
        for connection, duplicate in list(self._duplicates.items()):
            if connection.closed:
                duplicate.close()

    def cut(self) -> None:
        """Shut all sockets down, so that callers which wait for the server fail at once."""
        with self._lock:
            # The name keeps the connection alive, and so its duplicate open.
            for _connection, duplicate in self._duplicates.items():
                with suppress(OSError):  # already shut down
                    duplicate.shutdown(socket.SHUT_RDWR)
