"""Run the service: open the store, and serve halves of it on one port."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import psycopg
from prometheus_client import CollectorRegistry

from ingest.preparation import Preparation
from ingest.runtime.auth.security import Protection
from ingest.runtime.http import application, exposition, server
from ingest.runtime.http.application import Half
from ingest.runtime.settings.reload import LiveSettings
from ingest.runtime.settings.settings import Settings
from ingest.store import embedded, rights
from ingest.store.connection import ConnectionString, connect, unavailable
from ingest.store.migrate import migrate

HalvesFactory = Callable[[ConnectionString, CollectorRegistry], Sequence[Half]]


@contextmanager
def opened(settings: Settings, command: str) -> Iterator[psycopg.Connection]:
    """Connect to a store that exists, for a command that does one thing.

    Parameters
    ----------
    settings : Settings
    command : str
        Its name, one of :data:`ingest.store.rights.NEEDED`.

    Raises
    ------
    SettingsError
        If the role lacks rights that the command needs.
    StoreUnavailable
        If PostgreSQL is away, or there is no store.
    """
    with (
        embedded.connection_string(settings.database, creates=False) as store,
        unavailable(),
        connect(store) as connection,
    ):
        rights.check(connection, command)
        yield connection


def serve(
    live: LiveSettings,
    command: str,
    default_port: int,
    make_halves: HalvesFactory,
    *,
    migrates: bool = True,
) -> None:
    """Serve halves until a signal ends the process.

    Parameters
    ----------
    live : LiveSettings
    command : str
        Its name, one of :data:`ingest.store.rights.NEEDED`.
    default_port : int
        Port to listen on when ``server.port`` is not set.
    make_halves : callable
        Makes the halves, given the store's connection string and the registry of metrics.
    migrates : bool
        Whether to bring the store's schema up to date first.

    Raises
    ------
    SettingsError
        If the address cannot be bound, a file that protects the service cannot be used, or the role
        lacks rights.
    StoreUnavailable
        If the embedded server cannot be started. For another one, the service waits.
    """
    settings = live.settings
    server.exit_on_signals()
    protection = Protection.of(live)
    port = default_port if settings.server.port is None else settings.server.port
    listener = server.listen(settings.server.host, port)
    with embedded.connection_string(settings.database, creates=migrates) as store:
        migration = (rights.owner(settings.database, store), migrate)
        checking = (store, partial(rights.check, command=command))
        preparation = Preparation(*[migration] * migrates, checking)
        preparation.attempt()
        registry = exposition.process_registry()
        halves = [preparation, *make_halves(store, registry)]
        app = application.application(registry, live, *halves, protection=protection)
        server.run(app, listener, live, registry, protection.tls)
