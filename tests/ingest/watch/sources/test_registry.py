"""The registry chooses a source by the beginning of its address."""

from __future__ import annotations

import logging
import re
import sys
from types import ModuleType

import pytest

from ingest.runtime.errors import SettingsError
from ingest.watch.sources import registry
from ingest.watch.sources.postgres import PostgresSource
from ingest.watch.sources.postgres_catalogue import describe
from ingest.watch.sources.registry import Kind
from ingest.watch.sources.source import Location, Source
from tests.postgresql import Application


@pytest.mark.parametrize(
    "address", ["", "host=a dbname=b", "service=x", "postgresql://a/b", "postgres://a/b", "x://a"]
)
def test_a_connection_string_of_libpq_is_postgresql(address: str) -> None:
    assert registry.kind_of(address) == "postgres"


def test_the_finder_of_a_kind_gets_the_address_and_its_advice_is_logged(
    application: Application, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given: list[tuple[str, Location]] = []

    def find(address: str, location: Location) -> Source:
        given.append((address, location))
        table = describe(application.connection, location)
        return PostgresSource(application.reader, table, ["no index"])

    module = ModuleType("ingest.watch.sources.other")
    monkeypatch.setattr(module, "find", find, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(registry.SOURCES, "other", Kind("other"))
    location = Location("docs")
    with caplog.at_level(logging.WARNING):
        found = registry.find("other://host", location)
    assert given == [("other://host", location)]
    [record] = caplog.records
    assert (record.message, vars(record)["table"]) == ("no index", str(found))


@pytest.mark.parametrize(
    ("address", "module", "library", "extra"),
    [
        ("kafka://a", "kafka", "confluent_kafka", "kafka"),
        ("qdrant://a", "qdrant", "qdrant_client", "qdrant"),
        ("qdrant+https://a", "qdrant", "qdrant_client", "qdrant"),
    ],
)
def test_a_missing_library_is_one_line_that_names_the_command(
    monkeypatch: pytest.MonkeyPatch, address: str, module: str, library: str, extra: str
) -> None:
    monkeypatch.delitem(sys.modules, f"ingest.watch.sources.{module}", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    wanted = (
        rf"^--source needs {library}: {re.escape(sys.executable)} -m pip install"
        rf" 'embedding-drift-exporter\[{extra}\]'$"
    )
    with pytest.raises(SettingsError, match=wanted):
        registry.find(address, Location("docs"))
