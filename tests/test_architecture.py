"""Which way imports may point."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def imports(file: Path) -> Iterator[str]:
    """Give the full names of all modules a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offenders(folder: str, *forbidden: str, but: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in sorted((ROOT / folder).rglob("*.py"))
        if file.name not in but
        for name in imports(file)
        if name.startswith(forbidden)
    ]


def test_the_client_imports_nothing_of_the_server() -> None:
    ours = ("exporter", "ingest", "rules", "alertmanager", "demo", "bench", "tests", "msgspec")
    assert offenders("client", *ours) == []


def test_only_replay_imports_the_client() -> None:
    assert offenders("exporter", "embedding_drift_client") == []
    found = {line.split(" imports ")[0] for line in offenders("ingest", "embedding_drift_client")}
    assert found == {"ingest/files/replay.py"}


def test_ingest_never_imports_the_exporter() -> None:
    assert offenders("ingest", "exporter", "demo", "bench", "tests") == []


def test_the_exporter_imports_only_store_and_runtime_of_ingest() -> None:
    found = offenders("exporter", "ingest.", but=("cli.py",))
    allowed = ("ingest.store", "ingest.runtime")
    assert [line for line in found if not line.split(" imports ")[1].startswith(allowed)] == []


def test_the_store_knows_nothing_of_http() -> None:
    assert offenders("ingest/store", "starlette", "uvicorn", "httpx2") == []


@pytest.mark.parametrize("heavy", ["scipy", "statsmodels", "pandas"])
def test_the_light_half_stays_light(heavy: str) -> None:
    assert offenders("ingest", heavy) == []


def test_statistics_are_pure() -> None:
    assert offenders("exporter/stats", "ingest", "psycopg", "starlette", "prometheus") == []


def test_the_runtime_knows_neither_store_nor_endpoints() -> None:
    assert offenders("ingest/runtime", "ingest.store", "ingest.http.app", "psycopg") == []


def test_dashboards_know_only_the_metric_tables_and_the_settings() -> None:
    found = offenders("grafana", "exporter.", "ingest.", "demo", "bench", "tests")
    allowed = ("exporter.metrics.families", "ingest.pipeline.metrics", "ingest.runtime")
    assert [line for line in found if not line.split(" imports ")[1].startswith(allowed)] == []
