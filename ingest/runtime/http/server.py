"""The server: an address, a process that answers there, and how signals end it."""

from __future__ import annotations

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

import uvicorn
from starlette.applications import Starlette

from ingest.runtime.errors import SettingsError
from ingest.runtime.http.protocol import limited, protocol
from ingest.runtime.settings.reload import LiveSettings

_log = logging.getLogger(__name__)

_DRAIN_SECONDS = 15
_TURN_SECONDS = 0.0005
_YOUNG_OBJECTS = 20_000


def listen(host: str, port: int) -> socket.socket:
    """Bind the address the service will answer on.

    Raises
    ------
    SettingsError
        If the address cannot be bound.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {host}:{port} (server.host, server.port): {error.strerror}"
        ) from error


def exit_on_signals() -> None:
    """Leave by SystemExit on SIGINT, SIGTERM and SIGHUP, so that whatever is open is closed.

    SIGHUP only while the service starts: see :func:`run`.
    """

    def leave(_signal: int, _frame: FrameType | None) -> None:
        sys.exit(0)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


def run(
    app: Starlette, listener: socket.socket, live: LiveSettings, tls: ssl.SSLContext | None = None
) -> None:
    """Serve until SIGINT or SIGTERM, then finish the requests under way; SIGHUP reloads.

    uvicorn raises the signal again when it is done: see :func:`exit_on_signals`.
    """
    config = uvicorn.Config(
        limited(app),
        http=protocol(live.settings.server.read_timeout),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    host, port = listener.getsockname()[:2]
    scheme = "http" if tls is None else "https"
    shown = f"[{host}]" if ":" in host else host
    _log.info("listening", extra={"url": f"{scheme}://{shown}:{port}"})
    signal.signal(signal.SIGHUP, lambda *_: _reload_aside(live))
    _allow_connections()
    _favour_the_loop()
    uvicorn.Server(config).run(sockets=[listener])


def _allow_connections() -> None:
    """Use as many file descriptors as may be had: a client takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _favour_the_loop() -> None:
    """Keep what else the interpreter does from making requests wait."""
    # A thread that computes gives way after this time; the default is ten times as long, at
    # every step of every request.
    sys.setswitchinterval(_TURN_SECONDS)
    # What is loaded by now stays: going through it again and again takes tens of milliseconds.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)


def _reload_aside(live: LiveSettings) -> None:
    """Reload in a thread: reading files would stop the event loop."""

    def reload() -> None:
        with suppress(SettingsError):  # which is logged and counted where it is raised
            live.reload()

    threading.Thread(target=reload, name="reload").start()
