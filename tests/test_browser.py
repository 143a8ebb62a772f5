"""The pages in a real browser, Chromium: what it shows, loads and complains about."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import numpy as np
import psycopg
import pytest

from exporter.monitor import baseline
from ingest.runtime.thresholds import KEPT_SECONDS
from ingest.store import explanations
from ingest.store.batch import Batch
from ingest.store.connection import AsyncConnection
from ingest.store.selection import Selection
from ingest.store.vectors import insert
from tests.exporter.explained import drawn, explained, point
from tests.service import Service, get, serving, wait_for

HOSTILE = "<script>document.title='run'</script><img src=//example.org/x>"

DRIFTED_AT = float(int(time.time()) - 86_400)

pytestmark = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="needs Chromium: run make tools"
)


@pytest.fixture
def service(store: str, connection: psycopg.Connection, tmp_path: Path) -> Iterator[Service]:
    """A service with the model docs, its baseline, and a model whose name is markup."""
    rng = np.random.default_rng(0)

    async def fill(name: str, rows: int) -> None:
        vectors = rng.normal(size=(rows, 8)).astype(np.float32)
        async with await AsyncConnection.connect(store, autocommit=True) as own:
            await insert(own, [Batch(name, vectors)], 10)

    asyncio.run(fill("docs", 1_000))
    baseline.pin(connection, "docs", Selection(first=1_000))
    asyncio.run(fill("docs", 200))
    asyncio.run(fill(HOSTILE, 3))
    explanation = explained(DRIFTED_AT, "docs")
    explanations.keep(connection, explanation, KEPT_SECONDS)
    explanations.keep(connection, replace(explanation, slice="tenant=acme"), KEPT_SECONDS)
    told = point(7, "g1") | {"text": HOSTILE}
    explanations.keep_map(connection, explanation, drawn(told, point(8), rings=("g2",)))
    config = tmp_path / "config.yaml"
    config.write_text(
        f"database: {{connection_string: {json.dumps(store)}}}\nserver: {{port: 0}}\n"
        "monitoring: {poll_interval: 0.1}\n"
    )
    with serving(config) as service:
        listing = f"{service.url}/drift"
        wait_for(lambda: len(get(listing).json()["models"]) == 2, "both models")
        # Until the first poll, pages show what was stored.
        wait_for(lambda: get(f"{service.url}/-/ready").status_code == 200, "the first poll")
        yield service


class Shown(NamedTuple):
    """A page as the browser has it: its document, what the browser logged, and what it loaded."""

    document: str
    log: str
    requests: set[str]


def show(url: str, folder: Path) -> Shown:
    network = folder / "network.json"
    done = subprocess.run(
        [
            "chromium",
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            *("--no-first-run", f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr"),
            *(f"--log-net-log={network}", "--net-log-capture-mode=Everything", "--dump-dom", url),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    events = json.loads(network.read_text())["events"]
    requests = {event["params"]["url"] for event in events if "url" in event.get("params", {})}
    return Shown(done.stdout, done.stderr, requests)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "<h1>2 models</h1>"),
        ("/drift/docs", "embedding-drift baseline pin docs"),
        ("/drift/docs?range=30d&at=2026-01-01T00:00:00Z", "This is the state at 2026-01-01"),
        (
            f"/drift/docs?at={datetime.fromtimestamp(DRIFTED_AT + 1, UTC):%Y-%m-%dT%H:%M:%SZ}",
            'aria-label="Map of the fast window',
        ),
        (
            f"/drift/docs?slice=tenant%3Dacme"
            f"&at={datetime.fromtimestamp(DRIFTED_AT + 1, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "<h1>docs, tenant=acme</h1>",
        ),
        (f"/drift/{quote(HOSTILE)}", "&lt;script&gt;document.title"),
        ("/runbook", "EmbeddingDriftDetected"),
    ],
    # Processes that share the tests must agree on their names, so these have no time.
    ids=["fleet", "model", "past", "map", "slice", "hostile", "runbook"],
)
def test_a_page_shows_without_complaint_and_loads_nothing_from_elsewhere(
    service: Service, tmp_path: Path, path: str, expected: str
) -> None:
    shown = show(service.url + path, tmp_path)
    assert expected in shown.document
    assert "<title>run" not in shown.document
    assert "<img" not in shown.document
    assert "CONSOLE" not in shown.log
    assert "example.org" not in {urlsplit(url).hostname for url in shown.requests}
    ours = {url for url in shown.requests if url.startswith(service.url)}
    assert {url.partition("?")[0] for url in ours} >= {f"{service.url}/style.css"}
