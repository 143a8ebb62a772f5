"""The server: listens on an address until a signal stops it."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import socket
import ssl
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from ingest.runtime import hangup
from ingest.runtime.errors import SettingsError
from ingest.runtime.http.listener import Listener
from ingest.runtime.http.protocol import Connection, Requests
from ingest.runtime.settings.reload import LiveSettings

_log = logging.getLogger(__name__)

_DRAIN_SECONDS = 15
"""Time to finish requests after a signal to stop."""

_SWITCH_SECONDS = 0.0005
"""Time after which a thread that computes yields to others; Python's default is 5 ms."""

_GC_THRESHOLD = 20_000
"""New objects before a garbage collection; Python's default is 700."""


def listen(host: str, port: int) -> socket.socket:
    """Bind the address of the service.

    Raises
    ------
    SettingsError
        If the address cannot be bound.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise _not_bound(host, port, error.strerror or str(error)) from error
    except UnicodeError as error:
        raise _not_bound(host, port, "this is not the name of a host") from error


def _not_bound(host: str, port: int, reason: str) -> SettingsError:
    return SettingsError(f"cannot listen on {host}:{port} (server.host, server.port): {reason}")


def exit_on_signals() -> None:
    """Raise SystemExit on SIGINT and SIGTERM, so that open resources are closed."""

    def leave(_signal: int, _frame: FrameType | None) -> None:
        sys.exit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)


def run(
    app: ASGIApp,
    listener: socket.socket,
    live: LiveSettings,
    registry: CollectorRegistry,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then finish the requests under way. SIGHUP reloads.

    uvicorn raises the signal again at the end, which :func:`exit_on_signals` handles.
    """
    host, port = listener.getsockname()[:2]
    scheme = "http" if tls is None else "https"
    shown = f"[{host}]" if ":" in host else host
    _log.info("listening", extra={"url": f"{scheme}://{shown}:{port}"})
    hangup.follow(lambda: _reload_aside(live))
    _allow_connections()
    _favour_the_loop()
    settings = live.settings.server
    Server(app, listener, registry, tls, settings.read_timeout, settings.write_timeout).run()


class Server(uvicorn.Server):
    """uvicorn's server, which gets its connections from a listener of ours.

    Parameters
    ----------
    app : ASGI application
    listener : socket.socket
        Where to accept connections.
    registry : CollectorRegistry
        Gets the metrics of connections.
    tls : ssl.SSLContext or None
        Encrypts them.
    read_timeout, write_timeout : float
        As for :class:`~ingest.runtime.http.protocol.Connection`.
    options
        As for ``uvicorn.Config``.
    """

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        registry: CollectorRegistry,
        tls: ssl.SSLContext | None,
        read_timeout: float,
        write_timeout: float,
        **options: Any,
    ) -> None:
        config = uvicorn.Config(
            app,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
            **options,
        )
        super().__init__(config)
        self._listener = Listener(listener, tls, read_timeout, registry)
        self._timeouts = (read_timeout, write_timeout)
        self._accepting: asyncio.Task[None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, and accept connections.

        Raises
        ------
        SystemExit
            If the application does not start. uvicorn has logged why.
        """
        await super().startup(sockets=[])
        # Later versions of uvicorn exit by themselves.
        if not self.started:
            sys.exit(1)
        self._accepting = asyncio.create_task(self._listener.accept(self._connect))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, and finish the requests under way."""
        self._accepting.cancel()
        # Before the socket is closed, which the loop watches until then.
        await asyncio.wait([self._accepting])
        self._listener.close()
        await super().shutdown()

    def _connect(self) -> Connection:
        requests = Requests(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return Connection(requests, self._listener.clients, *self._timeouts)


def _allow_connections() -> None:
    """Raise the limit on file descriptors, because each client takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _favour_the_loop() -> None:
    """Keep other threads and the garbage collector from delaying requests."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    # Objects that exist now stay. Collections that visit them take tens of milliseconds.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)


def _reload_aside(live: LiveSettings) -> None:
    """Reload in a thread, because reading files would block the event loop."""

    def reload() -> None:
        with suppress(SettingsError):  # has been logged and counted
            live.reload()

    threading.Thread(target=reload, name="reload").start()
