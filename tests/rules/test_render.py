from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.rules import render
from ingest.runtime.configuration import load
from ingest.runtime.settings import Settings

SOURCE = Path(__file__).parent.parent.parent
WEBHOOK = "https://hooks.slack.com/services/T024/B024/secret"


def settings(**flags: object) -> Settings:
    return load(flags={key.replace("__", "."): value for key, value in flags.items()})


def thresholds(folder: Path) -> dict[str, str]:
    document: dict[str, Any] = yaml.safe_load((folder / "thresholds.rules.yaml").read_text())
    return {rule["record"]: rule["expr"] for rule in document["groups"][0]["rules"]}


def links(folder: Path, alert: str) -> dict[str, str]:
    for name in ("drift.rules.yaml", "pipeline.rules.yaml"):
        for rule in yaml.safe_load((folder / name).read_text())["groups"][0]["rules"]:
            if rule.get("alert") == alert:
                found: dict[str, str] = rule["annotations"]
                return found
    raise LookupError(alert)


def test_the_default_settings_render_the_rules_as_they_are_shipped(tmp_path: Path) -> None:
    render(Settings(), tmp_path)
    for name in ("drift.rules.yaml", "pipeline.rules.yaml"):
        assert (tmp_path / name).read_text() == (SOURCE / "rules" / name).read_text()


def test_the_files_written_are_all_there_is(tmp_path: Path) -> None:
    written = render(settings(alerting__slack_webhook=WEBHOOK), tmp_path / "new" / "folder")
    assert sorted((tmp_path / "new" / "folder").iterdir()) == sorted(written)
    assert {file.name for file in written} == {
        "drift.rules.yaml",
        "pipeline.rules.yaml",
        "thresholds.rules.yaml",
        "alertmanager.yml",
        "slack.tmpl",
        "slack_webhook",
    }


def test_the_two_thresholds_of_the_configuration_become_series(tmp_path: Path) -> None:
    render(settings(monitoring__drift_threshold=0.3, alerting__alert_threshold=0.45), tmp_path)
    assert thresholds(tmp_path) == {
        "fleet:embedding_drift_score_sudden:threshold": "vector(4.5)",
        "fleet:embedding_drift_score_lasting:threshold": "vector(2.7)",
        "fleet:embedding_drift_magnitude_warning:threshold": "vector(0.3)",
        "fleet:embedding_drift_magnitude_critical:threshold": "vector(0.45)",
    }


def test_links_point_to_the_configured_service_and_runbook(tmp_path: Path) -> None:
    render(
        settings(
            alerting__exporter_url="https://drift.example.org/monitor/",
            alerting__runbook_url="https://wiki.example.org/drift",
        ),
        tmp_path,
    )
    model = links(tmp_path, "EmbeddingDriftDetected")
    assert model["runbook_url"] == "https://wiki.example.org/drift#embeddingdriftdetected"
    assert (
        model["dashboard_url"]
        == "https://drift.example.org/monitor/drift/{{ $labels.model_name | urlquery }}"
    )
    pipeline = links(tmp_path, "EmbeddingDriftExporterDown")
    assert pipeline["dashboard_url"] == "https://drift.example.org/monitor/"


@pytest.mark.parametrize(
    ("dashboard", "link"),
    [
        (
            "https://grafana.example.org/d/drift",
            "https://grafana.example.org/d/drift?var-model_name=",
        ),
        (
            "https://grafana.example.org/d/drift?orgId=1",
            "https://grafana.example.org/d/drift?orgId=1&var-model_name=",
        ),
    ],
)
def test_a_dashboard_is_opened_on_the_model(tmp_path: Path, dashboard: str, link: str) -> None:
    render(settings(alerting__dashboard_url=dashboard), tmp_path)
    found = links(tmp_path, "EmbeddingDriftLarge")["dashboard_url"]
    assert found == link + "{{ $labels.model_name | urlquery }}"


def test_the_webhook_is_in_its_own_file_and_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "slack_webhook").write_text("an older one that everybody may read")
    (tmp_path / "slack_webhook").chmod(0o644)
    umask = os.umask(0)
    try:
        written = render(settings(alerting__slack_webhook=WEBHOOK), tmp_path)
    finally:
        os.umask(umask)
    assert (tmp_path / "slack_webhook").read_text().strip() == WEBHOOK
    assert stat.S_IMODE((tmp_path / "slack_webhook").stat().st_mode) == 0o600
    for file in written:
        if file.name != "slack_webhook":
            assert "hooks.slack.com" not in file.read_text()
            assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_every_receiver_reads_the_webhook_by_its_full_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    render(settings(alerting__slack_webhook=WEBHOOK), Path("out"))
    receivers = yaml.safe_load(Path("out/alertmanager.yml").read_text())["receivers"]
    assert [receiver["name"] for receiver in receivers] == ["critical", "warning"]
    for receiver in receivers:
        assert [slack["api_url_file"] for slack in receiver["slack_configs"]] == [
            str(tmp_path / "out" / "slack_webhook")
        ]


def test_a_webhook_taken_away_leaves_no_integration_and_no_secret(tmp_path: Path) -> None:
    render(settings(alerting__slack_webhook=WEBHOOK), tmp_path)
    render(settings(), tmp_path)
    receivers = yaml.safe_load((tmp_path / "alertmanager.yml").read_text())["receivers"]
    assert receivers == [{"name": "critical"}, {"name": "warning"}]
    assert not (tmp_path / "slack_webhook").exists()


def test_a_rendering_that_fails_half_way_keeps_every_old_file(tmp_path: Path) -> None:
    render(Settings(), tmp_path)
    old = {file.name: file.read_text() for file in tmp_path.iterdir()}
    unwritable = settings(alerting__slack_webhook="https://hooks.slack.com/\ud800")
    with pytest.raises(UnicodeEncodeError):
        render(unwritable, tmp_path)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == old
