from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo import stack
from ingest.runtime.settings.configuration import load
from rules.render import render
from tests.rules.inhibition import add_rule, inhibited

# As kube-prometheus installs it.
EXISTING = """
global: {resolve_timeout: 5m}
inhibit_rules:
  - equal: [namespace, alertname]
    source_matchers: [severity = critical]
    target_matchers: [severity =~ warning|info]
  - equal: [namespace, alertname]
    source_matchers: [severity = warning]
    target_matchers: [severity = info]
  - equal: [namespace]
    source_matchers: [alertname = InfoInhibitor]
    target_matchers: [severity = info]
receivers:
  - name: Default
  - name: Watchdog
  - name: Critical
  - name: "null"
route:
  group_by: [namespace]
  group_interval: 5m
  group_wait: 30s
  receiver: Default
  repeat_interval: 12h
  routes:
    - {matchers: [alertname = Watchdog], receiver: Watchdog}
    - {matchers: [alertname = InfoInhibitor], receiver: "null"}
    - {matchers: [severity = critical], receiver: Critical}
"""


def joined(fragment: Any, existing: Any) -> Any:
    """Merge two documents; the lists of the first go in front."""
    if isinstance(existing, dict):
        merged = {**fragment, **existing}
        both = fragment.keys() & existing.keys()
        return merged | {key: joined(fragment[key], existing[key]) for key in both}
    return [*fragment, *existing]


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    """kube-prometheus' configuration with our fragment merged into it."""
    webhook = {"alerting.slack_webhook": "https://hooks.slack.com/services/T024/B024/secret"}
    written = render(load(flags=webhook), tmp_path / "rendered", merged=True)
    assert "alertmanager.yml" not in {path.name for path in written}
    fragment = yaml.safe_load((tmp_path / "rendered" / "alertmanager.fragment.yml").read_text())
    file = tmp_path / "alertmanager.yml"
    file.write_text(yaml.safe_dump(joined(fragment, yaml.safe_load(EXISTING)), sort_keys=False))
    return file


def test_amtool_accepts_the_merged_configuration_and_finds_the_templates(
    merged: Path, tool: Callable[[str], str]
) -> None:
    check = [tool("amtool"), "check-config", str(merged)]
    answer = subprocess.run(check, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "1 templates" in answer.stdout


@pytest.mark.parametrize(
    ("receiver", "labels"),
    [
        ("embedding-drift-critical", ["alertname=EmbeddingDriftLarge", "severity=critical"]),
        ("embedding-drift-warning", ["alertname=EmbeddingDriftDetected", "severity=warning"]),
        ("embedding-drift-info", ["alertname=EmbeddingDriftSeasonalAnomaly", "severity=info"]),
        ("embedding-drift-watchdog", ["alertname=EmbeddingDriftWatchdog", "severity=info"]),
        ("embedding-drift-warning", ["alertname=EmbeddingDriftOther"]),
        ("embedding-drift-critical", ["alertname=EmbeddingModelChanged", "severity=critical"]),
        ("Critical", ["alertname=KubePersistentVolumeFillingUp", "severity=critical"]),
        ("Default", ["alertname=KubePodCrashLooping", "severity=warning"]),
        ("Watchdog", ["alertname=Watchdog", "severity=none"]),
        ("null", ["alertname=InfoInhibitor", "severity=none"]),
    ],
)
def test_our_alerts_go_to_our_receivers_and_others_where_they_went(
    receiver: str, labels: list[str], merged: Path, tool: Callable[[str], str]
) -> None:
    test = [tool("amtool"), "config", "routes", "test", f"--config.file={merged}"]
    answer = subprocess.run(
        [*test, f"--verify.receivers={receiver}", *labels], capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_our_rules_suppress_our_alerts_and_no_others(
    merged: Path, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    tool("alertmanager")
    add_rule(merged)
    labels = {"severity": "warning", "area": "drift", "model_name": "m", "namespace": "n"}
    ours = labels | {"alertname": "EmbeddingDriftDetected"}
    others = labels | {"alertname": "KubePodCrashLooping"}
    large = ours | {"alertname": "EmbeddingDriftLarge", "severity": "critical"}
    stale = ours | {"alertname": "EmbeddingDriftWindowStale", "area": "pipeline"}
    down = {"alertname": "EmbeddingDriftExporterDown", "severity": "critical", "area": "pipeline"}
    critical = others | {"alertname": "KubeNodeNotReady", "severity": "critical"}
    with stack.alertmanager(tmp_path / "data", merged) as url:
        assert inhibited(url, [critical, others, ours]) == []
        assert inhibited(url, [critical, others, ours, large]) == [ours]
        told = inhibited(url, [critical, others, ours, large, stale, down])
    assert {each["alertname"] for each in told} == {ours["alertname"], stale["alertname"]}
