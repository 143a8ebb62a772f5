"""The listener: accepts connections while there is room for them."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from ingest.runtime.http.protocol import Connection
from ingest.runtime.http.strangers import Strangers

_log = logging.getLogger(__name__)

_STRANGERS = 256
_STRANGERS_BY_TLS = 32
"""Connections that are open before one of their requests is admitted. Those by TLS are fewer,
because asyncio and uvloop hold up to a megabyte for each."""

_RETRY_SECONDS = 1.0


class Listener:
    """Accepts connections while there is room for strangers; the others wait in the kernel.

    Parameters
    ----------
    listener : socket.socket
    tls : ssl.SSLContext or None
        Encrypts the connections.
    handshake_timeout : float
        Seconds that a TLS handshake may take.
    """

    def __init__(
        self, listener: socket.socket, tls: ssl.SSLContext | None, handshake_timeout: float
    ) -> None:
        self._listener = listener
        self._tls = tls
        self._handshake_timeout = None if tls is None else handshake_timeout

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
        loop = asyncio.get_running_loop()
        strangers = Strangers(_STRANGERS if self._tls is None else _STRANGERS_BY_TLS)
        self._listener.setblocking(False)
        while True:
            await strangers.room()
            try:
                client, _ = await loop.sock_accept(self._listener)
            except OSError as error:  # too many open files, say
                _log.warning("no connection accepted", extra={"error": str(error)})
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                strangers.add(self._welcome(client, connect()))

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
