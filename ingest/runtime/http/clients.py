"""Clients: connections of which a request was admitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ingest.runtime.errors import QueueFull


class Closable(Protocol):
    """A connection."""

    def close(self) -> None:
        """Hang up when everything was sent."""


class Clients:
    """Connections of which a request was admitted, up to a limit.

    Where clients need no credentials, anybody is admitted. Beyond the limit, the connection that
    has been idle for longest is closed, as after its keep-alive time.

    Parameters
    ----------
    limit : int
    closed : callable
        Is called with the reason when a connection is closed for another.
    """

    def __init__(self, limit: int, closed: Callable[[str], object]) -> None:
        self._limit = limit
        self._closed = closed
        self._count = 0
        # A dictionary, because it keeps the order and removes quickly.
        self._idle: dict[Closable, None] = {}

    def admit(self) -> None:
        """Count one more.

        Raises
        ------
        QueueFull
            If there are as many as allowed, each with a request under way.
        """
        if self._count >= self._limit:
            if not self._idle:
                raise QueueFull(f"{self._count} connections have requests under way")
            longest = next(iter(self._idle))
            del self._idle[longest]
            longest.close()
            self._closed("idle")
        self._count += 1

    def rest(self, connection: Closable) -> None:
        """Note that a connection has no request under way."""
        self._idle[connection] = None

    def resume(self, connection: Closable) -> None:
        """Note that a connection has a request again."""
        self._idle.pop(connection, None)

    def lose(self, connection: Closable) -> None:
        """Forget a connection that is lost."""
        self._idle.pop(connection, None)
        self._count -= 1
