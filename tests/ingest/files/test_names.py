"""The names that columns have without an option are those that the help tells."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from ingest.cli import main
from ingest.files import names
from ingest.files.columns import Options, choose
from ingest.files.table import Kind

OPTIONAL = (names.ID, names.TIMESTAMP, names.TEXT, names.MODEL)


@pytest.mark.parametrize("name", [names.EMBEDDING, *OPTIONAL])
def test_the_help_of_replay_tells_each_name(name: str) -> None:
    told = CliRunner().invoke(main, ["replay", "--help"]).output
    assert f"Default: {name}" in " ".join(told.split())


def test_columns_of_these_names_are_found() -> None:
    kinds = {names.EMBEDDING: Kind.VECTORS} | dict.fromkeys(OPTIONAL, Kind.OTHER)
    found = choose(kinds, Options())
    assert (*found.vectors, found.id, found.time, found.text, found.model) == tuple(kinds)
