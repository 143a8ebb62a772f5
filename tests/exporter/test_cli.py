"""The command line: light commands do not import what only the exporter needs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from click.testing import CliRunner

from exporter.cli import main
from exporter.stats.arrays import Vectors
from ingest.store import baselines


def test_help_imports_no_numbers_no_server_and_no_store() -> None:
    program = (
        "import sys\nfrom exporter.cli import main\n"
        "main(['--help'], standalone_mode=False)\nprint(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Commands:" in done.stdout
    heavy = "asyncio dask httpx2 numpy prometheus_client psycopg pyarrow scipy starlette structlog"
    assert set(done.stderr.split()) & {*heavy.split(), "uvicorn"} == set()


def test_every_command_has_help() -> None:
    runner = CliRunner()
    assert {"serve", "exporter", "watch", "baseline", "backfill", "rules"} < set(main.commands)
    for name in main.commands:
        done = runner.invoke(main, [name, "--help"])
        assert done.exit_code == 0
        assert "Usage:" in done.output


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--first", "5", "--last", "5"],
        ["--first", "5", "--from", "2026-01-01"],
        ["--week", "--last", "5"],
    ],
    ids=" ".join,
)
def test_a_baseline_needs_exactly_one_way_to_choose_vectors(options: list[str]) -> None:
    done = CliRunner().invoke(main, ["baseline", "pin", "m", *options])
    assert done.exit_code == 2
    assert "choose" in done.output
    assert "--first; --last; --week; --from and --to" in done.output


def test_a_pinned_baseline_has_the_configured_time_zone(
    store: str,
    connection: psycopg.Connection,
    send: Callable[[Vectors], None],
    vectors: Vectors,
) -> None:
    send(vectors[:300])
    environment = {
        "EMBEDDING_DRIFT_DATABASE_CONNECTION_STRING": store,
        "EMBEDDING_DRIFT_MONITORING_TIME_ZONE": "Asia/Kolkata",
    }
    options = ["baseline", "pin", "m", "--last", "300"]
    done = CliRunner().invoke(main, options, env=environment)
    assert done.exit_code == 0, done.output
    assert baselines.load(connection, "m", 1).time_zone == "Asia/Kolkata"


@pytest.mark.parametrize(("days", "is_weekly"), [(20, True), (6, False)])
def test_the_last_week_is_pinned_if_its_vectors_span_it(
    store: str,
    connection: psycopg.Connection,
    send: Callable[[Vectors], None],
    vectors: Vectors,
    days: float,
    is_weekly: bool,
) -> None:
    send(vectors[:1_500])
    connection.execute("create table past partition of embedding default")
    connection.execute(
        "update embedding set received_at = clock_timestamp() - interval '1 minute'"
        " - make_interval(secs => %s * 86400.0 * (1500 - seq) / 1499)",
        [days],
    )
    environment = {
        "EMBEDDING_DRIFT_DATABASE_CONNECTION_STRING": store,
        "EMBEDDING_DRIFT_MONITORING_BASELINE_MATURE_VECTORS": "400",
    }
    options = ["baseline", "pin", "m", "--week"]
    done = CliRunner().invoke(main, options, env=environment)
    assert (done.exit_code == 0) == is_weekly, done.output
    if not is_weekly:
        assert "do not span them" in done.output
        done = CliRunner().invoke(main, [*options, "--force"], env=environment)
        assert done.exit_code == 0, done.output
    [pinned] = baselines.versions(connection, "m")
    assert 300 < pinned.vectors <= 400
    assert pinned.last_at - pinned.first_at == pytest.approx(
        timedelta(days=min(days, 7)), abs=timedelta(hours=8)
    )


def test_a_model_whose_name_an_earlier_release_allowed_is_still_looked_up(
    store: str,
    connection: psycopg.Connection,
    send: Callable[[Vectors], None],
    vectors: Vectors,
) -> None:
    send(vectors[:300])
    for table in ("model", "embedding"):
        connection.execute(f"update {table} set model_name = 'my model'".encode())
    environment = {"EMBEDDING_DRIFT_DATABASE_CONNECTION_STRING": store}
    for arguments, code, said in (
        (["model", "resolve"], 0, "my model: resolved"),
        (["canary", "accept"], 1, "model 'my model' has no canaries"),
        (["canary", "remove"], 1, "model 'my model' has no canaries"),
        (["baseline", "pin", "--first", "200"], 0, "my model: baseline 1 pinned"),
        (["baseline", "list"], 0, "1\tby hand, in use"),
        (["explain"], 0, "my model"),
        (["model", "remove", "--yes"], 0, "my model: removed"),
        (["model", "remove", "--yes"], 1, "there is no model 'my model'"),
    ):
        done = CliRunner().invoke(main, [*arguments, "my model"], env=environment)
        assert (done.exit_code, said in done.output) == (code, True), done.output
