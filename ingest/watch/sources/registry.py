"""The registry of sources: which kinds of tables can be watched, and how each is found."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ingest.watch.sources import postgres_catalogue
from ingest.watch.sources.source import Location, Source

_log = logging.getLogger(__name__)

Finder = Callable[[str, Location], Source]
"""Finds a table, given the address of its server; raises what :func:`find` raises."""

DEFAULT_KIND = "postgres"
SOURCES: dict[str, Finder] = {"postgres": postgres_catalogue.find}
"""By kind: the function that finds a table of it."""


def find(address: str, location: Location) -> Source:
    """Find a table, and log what would make it cheaper to watch.

    Parameters
    ----------
    address : str
        ``KIND://...`` for a kind of ``SOURCES``. Anything else is a PostgreSQL connection string.
        It comes from a command line, so it must not contain a password.
    location : Location

    Raises
    ------
    SettingsError
        If the table cannot be watched; lists every reason.
    SourceUnavailable
        If the server cannot be reached.
    """
    source = SOURCES[kind_of(address)](address, location)
    for line in source.advice:
        _log.warning(line, extra={"table": str(source)})
    return source


def kind_of(address: str) -> str:
    """Return the kind of source that an address names."""
    scheme, separator, _ = address.partition("://")
    return scheme if separator and scheme in SOURCES else DEFAULT_KIND
