"""The listener: accepts connections, and closes some when there are too many."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter

from ingest.runtime.family import Family
from ingest.runtime.http.clients import Clients
from ingest.runtime.http.protocol import Connection
from ingest.runtime.http.strangers import Strangers

CLOSED = Family(
    "embedding_drift_connections_closed_total",
    "counter",
    "Connections that were closed because there were too many: no request of it was admitted in"
    " time (not_admitted), it waited to be read (waiting), or had no request under way (idle).",
    ("reason",),
)
FAMILIES = (CLOSED,)

_REASONS = ("not_admitted", "waiting", "idle")

_log = logging.getLogger(__name__)

_STRANGERS = 256
_STRANGERS_BY_TLS = 32
"""Connections that are open before one of their requests is admitted. Those by TLS are fewer,
because asyncio and uvloop hold up to a megabyte for each."""

_WAITING = 1024
"""Connections that wait to be open. Nothing is read of them."""

_CLIENTS = 2048
_CLIENTS_BY_TLS = 512
"""Connections that are open after that. An idle one takes 5 KB, by TLS 50 KB."""

_PAUSE_SECONDS = 0.001
_RETRY_SECONDS = 1.0


def counter(registry: CollectorRegistry) -> Counter:
    """Register the counter of closed connections."""
    return Counter(CLOSED.name, CLOSED.help, CLOSED.labels, registry=registry)


class Listener:
    """Accepts connections, serves as many as there is room for, and lets others wait.

    Parameters
    ----------
    listener : socket.socket
    tls : ssl.SSLContext or None
        Encrypts the connections.
    handshake_timeout : float
        Seconds that a TLS handshake may take.
    registry : CollectorRegistry
        Gets the counter of closed connections.

    Attributes
    ----------
    clients : Clients
        Those that are admitted.
    """

    def __init__(
        self,
        listener: socket.socket,
        tls: ssl.SSLContext | None,
        handshake_timeout: float,
        registry: CollectorRegistry,
    ) -> None:
        self._listener = listener
        self._tls = tls
        self._handshake_timeout = None if tls is None else handshake_timeout
        closed = counter(registry)
        self._counts = {reason: closed.labels(reason) for reason in _REASONS}
        self.clients = Clients(_CLIENTS if tls is None else _CLIENTS_BY_TLS, self._closed)

    def close(self) -> None:
        """Let the kernel refuse connections."""
        self._listener.close()

    async def accept(self, connect: Callable[[], Connection]) -> None:
        """Accept connections until cancelled.

        Parameters
        ----------
        connect : callable
            Makes the protocol of a connection.
        """

        async def welcome(client: socket.socket) -> None:
            await self._welcome(client, connect())

        loop = asyncio.get_running_loop()
        limit = _STRANGERS if self._tls is None else _STRANGERS_BY_TLS
        strangers = Strangers(welcome, limit, _WAITING, self._closed)
        self._listener.setblocking(False)
        try:
            while True:
                try:
                    client, address = await loop.sock_accept(self._listener)
                except OSError as error:  # too many open files, say
                    _log.warning("no connection accepted", extra={"error": str(error)})
                    await asyncio.sleep(_RETRY_SECONDS)
                else:
                    strangers.add(client, address[0])
                if strangers.is_crowded:
                    # Requests have precedence over connections that are closed at once.
                    await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            strangers.close()

    async def _welcome(self, client: socket.socket, connection: Connection) -> None:
        """Open a connection, and wait until its client is admitted or lost."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                client,
                ssl=self._tls,
                ssl_handshake_timeout=self._handshake_timeout,
            )
            await connection.left.wait()
        except OSError:
            pass  # the client hung up, or is not one of TLS
        finally:
            if not connection.left.is_set():
                connection.abort()

    def _closed(self, reason: str) -> None:
        self._counts[reason].inc()
