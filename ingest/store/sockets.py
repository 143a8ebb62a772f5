"""The sockets of connections, to be cut off while somebody waits for the server."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from weakref import WeakKeyDictionary, finalize

import psycopg


class Sockets:
    """Duplicates of the sockets of connections.

    A connection may close its own at any time, in any thread, and the number then be that of
    somebody else's file.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._duplicates: WeakKeyDictionary[
            psycopg.Connection | psycopg.AsyncConnection, socket.socket
        ] = WeakKeyDictionary()

    def add(self, connection: psycopg.Connection | psycopg.AsyncConnection) -> None:
        """Have a connection, which is new, cut off with the others."""
        duplicate = socket.socket(fileno=os.dup(connection.fileno()))
        finalize(connection, duplicate.close)
        with self._lock:
            self._close_stale()
            self._duplicates[connection] = duplicate

    def _close_stale(self) -> None:
        """Let go of connections that were closed, which may be long before they are collected.

        While a duplicate is open, the server does not learn that the other end has gone, and its
        session keeps what it has locked. A connection that is lost is replaced by a new one.
        """
        for connection, duplicate in list(self._duplicates.items()):
            if connection.closed:
                duplicate.close()

    def cut(self) -> None:
        """Make whoever waits for the server fail at once: it may never answer."""
        with self._lock:
            # Named, the connection stays while its duplicate is used.
            for _connection, duplicate in self._duplicates.items():
                with suppress(OSError):  # it is cut off already
                    duplicate.shutdown(socket.SHUT_RDWR)
