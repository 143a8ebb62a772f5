"""The options that commands share."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import click
import pytest
from click.testing import CliRunner

from ingest.files.columns import Options
from ingest.files.command import reading
from ingest.files.table import Times


def test_options_are_given_to_the_command() -> None:
    given: list[object] = []

    @click.command()
    @reading
    def command(options: Options, skips: bool) -> None:
        given.extend([options, skips])

    arguments = "--vector-column v --id-column i --time-column t --text-column x --model-column m"
    arguments += " --drop a --drop b --time-unit ms --time-zone Europe/Berlin --on-error skip"
    done = CliRunner().invoke(command, arguments.split())
    assert done.exit_code == 0, done.output
    zone = ZoneInfo("Europe/Berlin")
    assert given == [Options("v", "i", "t", "x", "m", ("a", "b"), Times("ms", zone)), True]


@pytest.mark.parametrize("zone", ["Mars/Base", "../x"])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    command = click.command()(reading(lambda options, skips: None))
    done = CliRunner().invoke(command, ["--time-zone", zone])
    assert done.exit_code == 2
    assert "is not a known time zone; allowed are the names of the IANA" in done.output
