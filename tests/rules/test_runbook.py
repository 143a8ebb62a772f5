"""The steps of the runbook can be followed with the product's own commands."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import numpy as np
import psycopg
import pytest
from click.testing import CliRunner

from exporter.cli import main
from exporter.monitor import baseline
from ingest.runtime import errors
from ingest.store import canaries, explanations
from ingest.store.batch import Batch
from ingest.store.canaries import CanarySet
from ingest.store.connection import AsyncConnection
from ingest.store.selection import Selection
from ingest.store.vectors import insert
from tests.exporter.explain.space import KNOWN, Vectors, drawing
from tests.exporter.explained import SUMMARY, explained

ALARM = datetime(2026, 1, 1, 12, tzinfo=UTC)
VALUES = {
    "MODEL": "m",
    "WINDOW": "slow",
    "TIME": "2026-01-01T12:01:00Z",
    "N": "400",
    "VERSION": "1",
}
STEPS = {
    "embedding-drift explain MODEL --window WINDOW": (0, "m: at least "),
    "embedding-drift explain MODEL --at TIME": (0, SUMMARY),
    "embedding-drift baseline list MODEL": (0, "1\tby hand, in use"),
    "embedding-drift baseline pin MODEL --last N --dry-run": (0, "by baseline 1, their score is"),
    "embedding-drift baseline pin MODEL --last N": (1, "--force"),
    "embedding-drift baseline pin MODEL --last N --force": (0, "m: baseline 2 pinned"),
    "embedding-drift baseline use MODEL VERSION": (0, "m: baseline 1 is in use"),
    "embedding-drift model resolve MODEL": (0, ""),
    "embedding-drift canary accept MODEL": (0, ""),
    "embedding-drift canary remove MODEL": (0, ""),
    "embedding-drift check config FILE": (0, ""),
    "embedding-drift check config FILE --database": (0, "standby"),
    "embedding-drift rules render": (0, "drift.rules.yaml"),
    "embedding-drift model remove MODEL": (0, "m: removed"),
}
"""Each command of the runbook, in an order in which they can be run, and how it ends."""
ELSEWHERE = {"embedding-drift watch"}
"""A command that runs until it is stopped: tests/test_watch.py."""


def test_the_steps_are_all_that_the_runbook_has() -> None:
    text = (files("rules") / "runbook.md").read_text()
    found = {" ".join(c.split()) for c in re.findall(r"`(embedding-drift [^`]+)`", text)}
    assert found == set(STEPS) | ELSEWHERE


ELSEWHERE_RAISED = {
    "AnswerLate",
    "ClusterFailed",
    "FitFailed",
    "FitStopped",
    "MonitorError",
    "NotChecked",
    "NotFound",
    "NotReloaded",
    "SettingsError",
    "SourceUnavailable",
    "Unauthorized",
}
"""Errors that are no reason why the body of a request with vectors is refused."""


def test_every_reason_why_vectors_are_rejected_is_explained() -> None:
    text = (files("rules") / "runbook.md").read_text()
    section = text.split("## EmbeddingDriftVectorsRejected\n")[1].split("\n## ")[0]
    explained = set(re.findall(r"`([A-Z]\w+)`", section))
    known = {name for name, found in vars(errors).items() if _is_error(found)}
    assert explained == known - ELSEWHERE_RAISED


def _is_error(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, errors.MonitorError)


@pytest.fixture
def incident(store: str, connection: psycopg.Connection) -> None:
    """A model that drifts and has canaries, and an alarm of the past."""

    async def send(vectors: Vectors) -> None:
        async with await AsyncConnection.connect(store, autocommit=True) as own:
            await insert(own, [Batch("m", vectors)], 10)

    async def send_canaries() -> None:
        given = CanarySet("m", "set", ["canary:set:0"], np.ones((1, 64), np.float32))
        async with await AsyncConnection.connect(store, autocommit=True) as own:
            await canaries.insert(own, given, 10)

    asyncio.run(send(drawing(0)(KNOWN, 1_500)))
    baseline.pin(connection, "m", Selection(first=1_500))
    draw, is_new = drawing(1), np.random.default_rng(0).random(500) < 0.4
    asyncio.run(send(np.where(is_new[:, None], draw([20], 500), draw(KNOWN, 500))))
    asyncio.run(send_canaries())
    explanations.keep(connection, explained(ALARM.timestamp()), 900)


@pytest.mark.usefixtures("incident")
def test_every_step_can_be_followed(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "config.yaml"
    file.write_text("monitoring: {check_interval: 60}\n")
    values = VALUES | {"FILE": str(file)}
    environment = {"EMBEDDING_DRIFT_DATABASE_CONNECTION_STRING": store}
    for step, (code, told) in STEPS.items():
        command = [values.get(word, word) for word in step.split()[1:]]
        done = CliRunner().invoke(main, command, env=environment, input="y\n")
        assert (step, done.exit_code) == (step, code), done.output
        assert told in done.output, step
