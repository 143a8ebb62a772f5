"""Preparation: brings the store up to date, as soon as PostgreSQL can be reached."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType

import psycopg
from starlette.routing import Route

from ingest.runtime.errors import MonitorError, StoreUnavailable
from ingest.runtime.http.application import Endpoints, Refusals
from ingest.runtime.http.openapi import Description
from ingest.runtime.settings.settings import Settings
from ingest.runtime.worker import Worker
from ingest.store.connection import ConnectionString, connect, unavailable
from ingest.store.sockets import Sockets

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 5.0
_LATER_SECONDS = 3600.0


class Preparation:
    """A part of the service that is ready when the store is prepared.

    Parameters
    ----------
    steps : sequence of (ConnectionString, callable)
        What is done with a connection of its own. Each step may be repeated.
    """

    routes: Sequence[Route] = ()
    endpoints: Endpoints = MappingProxyType({})
    refusals: Refusals = MappingProxyType({})

    def __init__(
        self, *steps: tuple[ConnectionString, Callable[[psycopg.Connection], object]]
    ) -> None:
        self._steps = steps
        self._sockets = Sockets()
        self._missing: str | None = "not prepared yet"
        self._worker = Worker("preparation", self._prepare, self._pause, failed=_log_failure)

    def attempt(self) -> None:
        """Prepare the store, or leave it to the service that is about to run if it is away.

        Raises
        ------
        SettingsError
            If the store can be reached, but not used with these settings.
        """
        try:
            self._prepare()
        except StoreUnavailable as error:
            _log.warning(
                "the store cannot be used yet; waiting for it", extra={"error": str(error)}
            )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Try again while entered, until the store is prepared."""
        if self._missing is None:
            yield
            return
        self._worker.start()
        try:
            yield
        finally:
            await asyncio.to_thread(self._worker.stop, self._sockets.cut)

    def reconfigure(self, settings: Settings) -> None:
        """Do nothing: a store is prepared once."""

    def described(self) -> Description:
        """Return an empty description: there are no endpoints."""
        return Description({})

    def not_ready(self) -> str | None:
        """Return why the store cannot be used yet; None when it can."""
        return None if self._missing is None else f"store: {self._missing}"

    def _prepare(self) -> None:
        if self._missing is None:
            return
        try:
            for connection_string, step in self._steps:
                with unavailable(), connect(connection_string) as connection:
                    self._sockets.add(connection)
                    step(connection)
        except MonitorError as error:
            self._missing = str(error)
            raise
        self._missing = None

    def _pause(self) -> float:
        return _RETRY_SECONDS if self._missing else _LATER_SECONDS


def _log_failure(error: Exception) -> None:
    _log.warning(
        "the store is not prepared; it will be tried again",
        exc_info=None if isinstance(error, MonitorError) else error,
        extra={"error": str(error)},
    )
