"""LiveSettings settings: read anew on SIGHUP and ``POST /-/reload``, without a restart."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge

from ingest.runtime import logs
from ingest.runtime.errors import Problem, SettingsError
from ingest.runtime.family import Family
from ingest.runtime.settings.settings import Settings, keys

RELOAD_SUCCESSFUL = Family(
    "embedding_drift_config_last_reload_successful",
    "gauge",
    "Whether the configuration in force is the one that was read last (1), or that one could not "
    "be used (0).",
)
RELOAD_TIMESTAMP = Family(
    "embedding_drift_config_last_reload_success_timestamp_seconds",
    "gauge",
    "Time at which the configuration in force was read.",
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
"""Keys that take effect at the start only."""

_log = logging.getLogger(__name__)


class LiveSettings:
    """The settings in force, and who is told when they change.

    Parameters
    ----------
    read : callable
        Reads and validates the configuration.

    Attributes
    ----------
    settings : Settings
        Those in force.

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
        """Expose how the last reload went."""
        registry.register(self._successful)
        registry.register(self._timestamp)

    def subscribe(self, listener: Callable[[Settings], None]) -> None:
        """Have a listener told of new settings; it must not fail."""
        self._listeners.append(listener)

    def prepare(self, preparer: Callable[[Settings], Callable[[], None]]) -> None:
        """Have files read that the settings name.

        Parameters
        ----------
        preparer : callable
            Reads them and returns what puts them into force, which must not fail; raises
            SettingsError if they cannot be used.
        """
        self._preparers.append(preparer)

    def reload(self) -> None:
        """Take over what the configuration says now.

        Raises
        ------
        SettingsError
            If it or a file it names cannot be used, or if it changes what only a restart can;
            nothing is changed then.
        """
        with self._lock:
            try:
                settings = self._read()
                _check_fixed(self.settings, settings)
                prepared = [prepare(settings) for prepare in self._preparers]
            except SettingsError as error:
                self._successful.set(0)
                _log.error("configuration not reloaded", extra={"error": str(error)})
                raise
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
        Problem(was.dotted, "takes effect at the start only; restart the service")
        for was, now in zip(keys(old), keys(new), strict=True)
        if was.dotted.startswith(_FIXED) and was.default != now.default
    ]
    if changed:
        raise SettingsError("the configuration cannot be reloaded:", changed)
