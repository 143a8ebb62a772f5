"""Standbys of a real primary: whether a commit waits for them is told, and to whom."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ingest.store import standbys
from ingest.store.connection import connect
from ingest.store.standbys import Standbys
from tests.replication import cluster, synchronise
from tests.service import command


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (Standbys(0, 0, 0), None),
        (Standbys(1, 0, 0), None),
        (Standbys(1, 2, 0), None),
        (Standbys(0, 2, 0), "no commit waits for any of 2 standbys"),
        (Standbys(0, 2, 1), None),
    ],
)
def test_trouble_is_told_only_if_no_standby_may_be_synchronous(
    found: Standbys, told: str | None
) -> None:
    assert (found.trouble is None) if told is None else (told in str(found.trouble))


def check(folder: Path, string: str) -> tuple[int, str]:
    config = folder / "config.yaml"
    config.write_text(f"database: {{connection_string: '{string}'}}\n")
    checked = [*command(config, "check", "config", str(config), "--database")][:-2]
    done = subprocess.run(checked, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr if done.returncode else done.stdout


def test_standbys_count_by_what_a_commit_waits_for(folder: Path) -> None:
    with cluster(folder) as (primary, standby):
        with connect(primary.string) as connection:
            assert standbys.read(connection) == Standbys(0, 1, 0)
            code, told = check(folder, primary.string)
            assert "Error: database: no commit waits for any of 1 standbys" in told
            assert code == 1
            connection.execute("create role plain login")
        plain = primary.string.replace("user=postgres", "user=plain")
        with connect(plain) as connection:
            assert standbys.read(connection) == Standbys(0, 0, 1)
            code, told = check(folder, plain)
            assert "grant pg_monitor" in told
            assert code == 0, "what cannot be seen is no failure"
        synchronise(primary, "ANY 1 (*)")
        with connect(primary.string) as connection:
            assert standbys.read(connection) == Standbys(1, 0, 0)
            code, told = check(folder, primary.string)
            assert "database: 1 synchronous standbys" in told
            assert code == 0
            connection.execute("grant pg_monitor to plain")
        with connect(plain) as connection:
            assert standbys.read(connection) == Standbys(1, 0, 0)
        with connect(standby.string) as connection:
            assert standbys.read(connection) is None
            code, told = check(folder, standby.string)
            assert "Error: database: is a standby" in told
            assert code == 1
