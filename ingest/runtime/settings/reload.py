"""Reload of the settings, on SIGHUP and ``POST /-/reload``."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge

from ingest.runtime import logs
from ingest.runtime.errors import NotReloaded, Problem, SettingsError
from ingest.runtime.family import Family
from ingest.runtime.settings.settings import Settings, keys

RELOAD_SUCCESSFUL = Family(
    "embedding_drift_config_last_reload_successful",
    "gauge",
    "Whether the last reload of the configuration succeeded (1) or failed (0).",
)
RELOAD_TIMESTAMP = Family(
    "embedding_drift_config_last_reload_success_timestamp_seconds",
    "gauge",
    "Time of the last successful reload of the configuration.",
)
FAMILIES = (RELOAD_SUCCESSFUL, RELOAD_TIMESTAMP)

_FIXED = (
    "database.",
    "server.",
    "monitoring.windows.",
    "monitoring.baseline.",
    "monitoring.shard",
    "monitoring.total_shards",
)
"""Keys that take effect only at the start."""

_log = logging.getLogger(__name__)


class LiveSettings:
    """The current settings, and the objects that follow their changes.

    Parameters
    ----------
    read : callable
        Reads and validates the configuration.

    Attributes
    ----------
    settings : Settings
        The current settings.

    Raises
    ------
    SettingsError
        If the configuration cannot be used.
    """

    def __init__(self, read: Callable[[], Settings]) -> None:
        self._read = read
        self._preparers: list[Callable[[Settings], Callable[[], None]]] = []
        self._listeners: list[Callable[[Settings], None]] = []
        self._lock = threading.Lock()
        self._successful = Gauge(RELOAD_SUCCESSFUL.name, RELOAD_SUCCESSFUL.help, registry=None)
        self._timestamp = Gauge(RELOAD_TIMESTAMP.name, RELOAD_TIMESTAMP.help, registry=None)
        self.settings = read()
        self._succeeded()

    def register(self, registry: CollectorRegistry) -> None:
        """Register the metrics of reloads."""
        registry.register(self._successful)
        registry.register(self._timestamp)

    def subscribe(self, listener: Callable[[Settings], None]) -> None:
        """Call a function with the settings after each change. It must not fail."""
        self._listeners.append(listener)

    def prepare(self, preparer: Callable[[Settings], Callable[[], None]]) -> None:
        """Read files that the settings name at each reload.

        Parameters
        ----------
        preparer : callable
            Reads and checks the files, and raises SettingsError if they are invalid. Returns a
            function that applies them, which must not fail.
        """
        self._preparers.append(preparer)

    def reload(self) -> None:
        """Read the configuration again and apply it.

        Raises
        ------
        NotReloaded
            If it, or a file that it names, is invalid, or if it changes a key that needs a restart.
            Nothing changes then.
        """
        with self._lock:
            try:
                settings = self._read()
                _check_fixed(self.settings, settings)
                prepared = [prepare(settings) for prepare in self._preparers]
            except SettingsError as error:
                self._successful.set(0)
                _log.error("configuration not reloaded", extra={"error": str(error)})
                raise NotReloaded(error.detail, error.problems) from error
            self.settings = settings
            logs.configure(settings.log)
            for put_in_force in prepared:
                put_in_force()
            for listener in self._listeners:
                listener(settings)
            self._succeeded()
            _log.info("configuration reloaded")

    def _succeeded(self) -> None:
        self._successful.set(1)
        self._timestamp.set(time.time())


def _check_fixed(old: Settings, new: Settings) -> None:
    changed = [
        Problem(was.dotted, "takes effect only at the start; restart the service")
        for was, now in zip(keys(old), keys(new), strict=True)
        if was.dotted.startswith(_FIXED) and was.default != now.default
    ]
    if changed:
        raise SettingsError("the configuration cannot be reloaded:", changed)
