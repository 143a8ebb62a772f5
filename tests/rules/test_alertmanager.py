from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.rules import render
from ingest.runtime.configuration import load


@pytest.mark.parametrize("webhook", [None, "https://hooks.slack.com/services/T024/B024/secret"])
def test_amtool_accepts_the_configuration(
    webhook: str | None, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    render(load(flags={"alerting.slack_webhook": webhook}), tmp_path)
    check = [tool("amtool"), "check-config", str(tmp_path / "alertmanager.yml")]
    answer = subprocess.run(check, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("receiver", "labels"),
    [
        ("critical", ["alertname=EmbeddingDriftLarge", "severity=critical", "model_name=a"]),
        ("critical", ["alertname=EmbeddingDriftExporterDown", "severity=critical"]),
        ("warning", ["alertname=EmbeddingDriftDetected", "severity=warning", "model_name=a"]),
        ("warning", ["alertname=EmbeddingDriftWindowStale", "severity=warning", "model_name=a"]),
        ("warning", ["alertname=OfSomebodyElse"]),
    ],
)
def test_alerts_go_to_the_receiver_of_their_severity(
    receiver: str, labels: list[str], rendered: Path, tool: Callable[[str], str]
) -> None:
    file = f"--config.file={rendered / 'alertmanager.yml'}"
    test = [tool("amtool"), "config", "routes", "test", file, f"--verify.receivers={receiver}"]
    answer = subprocess.run([*test, *labels], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
