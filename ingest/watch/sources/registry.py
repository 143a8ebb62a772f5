"""The registry of sources: which kinds can be watched, and how each is found."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from ingest.runtime.errors import SettingsError
from ingest.runtime.extras import needs
from ingest.watch.sources.source import Location, Source

_log = logging.getLogger(__name__)

Finder = Callable[[str, Location], Source]
"""Finds a table, given the address of its server; raises what :func:`find` raises."""


class Kind(NamedTuple):
    """A kind of source.

    Attributes
    ----------
    module : str
        Has a function ``find``, a :data:`Finder`. It is imported when it is needed, because it may
        need a library that is not installed.
    extra : str
        The extra of this package that has the library; empty if none is needed.
    """

    module: str
    extra: str = ""

    @property
    def finder(self) -> Finder:
        """The function that finds a source of this kind.

        Raises
        ------
        SettingsError
            If a library is not installed.
        """
        try:
            found: Finder = import_module(f"ingest.watch.sources.{self.module}").find
        except ModuleNotFoundError as error:
            raise SettingsError(f"--source {needs(error, self.extra)}") from error
        return found


DEFAULT_KIND = "postgres"
SOURCES: dict[str, Kind] = {
    "postgres": Kind("postgres_catalogue"),
    "qdrant": Kind("qdrant", "qdrant"),
    "qdrant+https": Kind("qdrant", "qdrant"),
    "kafka": Kind("kafka", "kafka"),
}
"""Kinds by the scheme of their addresses."""


def find(address: str, location: Location) -> Source:
    """Find a source, and log what would make it cheaper to watch.

    Parameters
    ----------
    address : str
        ``KIND://...`` for a kind of ``SOURCES``. Anything else is a PostgreSQL connection string.
        It comes from a command line, so it must not contain a password.
    location : Location

    Raises
    ------
    SettingsError
        If the source cannot be watched; lists every reason.
    SourceUnavailable
        If the server cannot be reached.
    """
    source = SOURCES[kind_of(address)].finder(address, location)
    for line in source.advice:
        _log.warning(line, extra={"table": str(source)})
    return source


def kind_of(address: str) -> str:
    """Return the kind of source that an address names."""
    scheme, separator, _ = address.partition("://")
    return scheme if separator and scheme in SOURCES else DEFAULT_KIND
