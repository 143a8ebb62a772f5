from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from exporter.cli import main
from ingest.runtime.settings.configuration import load
from ingest.runtime.settings.settings import Settings
from rules.render import render

SOURCE = Path(__file__).parent.parent.parent
WEBHOOK = "https://hooks.slack.com/services/T024/B024/secret"
SLACK = "EMBEDDING_DRIFT_ALERTING_SLACK_WEBHOOK"


def settings(**flags: object) -> Settings:
    return load(flags={key.replace("__", "."): value for key, value in flags.items()})


def thresholds(folder: Path) -> dict[str, str]:
    document: dict[str, Any] = yaml.safe_load((folder / "thresholds.rules.yaml").read_text())
    return {
        rule["record"] + "".join(f"{{{k}={v}}}" for k, v in rule.get("labels", {}).items()): rule[
            "expr"
        ]
        for rule in document["groups"][0]["rules"]
    }


def links(folder: Path, alert: str) -> dict[str, str]:
    for name in ("drift.rules.yaml", "pipeline.rules.yaml"):
        for rule in yaml.safe_load((folder / name).read_text())["groups"][0]["rules"]:
            if rule.get("alert") == alert:
                found: dict[str, str] = rule["annotations"]
                return found
    raise LookupError(alert)


def test_the_default_settings_render_the_rules_as_they_are_shipped(tmp_path: Path) -> None:
    render(Settings(), tmp_path)
    for name in ("drift.rules.yaml", "notifications.rules.yaml", "pipeline.rules.yaml"):
        assert (tmp_path / name).read_text() == (SOURCE / "rules" / name).read_text()


def test_render_returns_every_file_it_wrote(tmp_path: Path) -> None:
    written = render(settings(alerting__slack_webhook=WEBHOOK), tmp_path / "new" / "folder")
    assert sorted((tmp_path / "new" / "folder").iterdir()) == sorted(written)
    assert {file.name for file in written} == {
        "drift.rules.yaml",
        "notifications.rules.yaml",
        "pipeline.rules.yaml",
        "thresholds.rules.yaml",
        "alertmanager.yml",
        "slack.tmpl",
        "slack_webhook",
    }


def test_the_two_thresholds_of_the_configuration_become_series(tmp_path: Path) -> None:
    render(settings(monitoring__drift_threshold=0.3, alerting__alert_threshold=0.45), tmp_path)
    assert thresholds(tmp_path) == {
        **{
            f"fleet:embedding_drift_score_{name}:threshold{{stage={stage}}}{{window={window}}}": (
                f"vector({value})"
            )
            for stage, window, *each in (
                ("provisional", "fast", 15.0, 10.0),
                ("provisional", "slow", 40.0, 30.0),
                ("daily", "fast", 8.0, 3.5),
                ("daily", "slow", 40.0, 30.0),
                ("weekly", "fast", 5.0, 1.6),
                ("weekly", "slow", 5.0, 3.0),
            )
            for name, value in zip(("sudden", "lasting"), each, strict=True)
        },
        **{
            f"fleet:embedding_drift_score_rise:threshold{{stage={stage}}}{{window=slow}}": (
                f"vector({value})"
            )
            for stage, value in (("provisional", 30.0), ("daily", 30.0), ("weekly", 1.3))
        },
        "fleet:embedding_drift_baseline_vectors:threshold": "vector(5000)",
        "fleet:embedding_drift_magnitude_warning:threshold": "vector(0.3)",
        "fleet:embedding_drift_magnitude_critical:threshold": "vector(0.45)",
        "fleet:embedding_drift_seasonal_anomaly:threshold": "vector(5.0)",
        **{
            "fleet:embedding_drift_canary_distance:threshold"
            f"{{aggregate={aggregate}}}{{severity={severity}}}": f"vector({value})"
            for aggregate, severity, value in (
                ("median", "warning", "5e-05"),
                ("max", "warning", "0.0005"),
                ("median", "critical", "0.002"),
            )
        },
        "fleet:embedding_drift_escalation_seconds:threshold{severity=info}": "vector(14400)",
        "fleet:embedding_drift_escalation_seconds:threshold{severity=warning}": "vector(7200)",
    }


def test_a_model_has_a_series_for_each_threshold_of_its_own(tmp_path: Path) -> None:
    models = {"noisy/v2": {"drift_threshold": 0.5, "alert_threshold": 0.9}, "b": {}}
    render(load(flags={"monitoring.models": models}), tmp_path)
    overrides = {name: value for name, value in thresholds(tmp_path).items() if "override" in name}
    assert overrides == {
        "model:embedding_drift_magnitude_warning:override{model_name=noisy/v2}": "vector(0.5)",
        "model:embedding_drift_magnitude_critical:override{model_name=noisy/v2}": "vector(0.9)",
    }


def test_the_times_of_escalation_become_series(tmp_path: Path) -> None:
    flags = {"alerting.escalation.info_after": 600, "alerting.escalation.warning_after": 900}
    render(load(flags=flags), tmp_path)
    name = "fleet:embedding_drift_escalation_seconds:threshold"
    assert thresholds(tmp_path)[f"{name}{{severity=info}}"] == "vector(600)"
    assert thresholds(tmp_path)[f"{name}{{severity=warning}}"] == "vector(900)"


def test_the_watchdog_is_rendered_only_if_it_is_enabled(tmp_path: Path) -> None:
    render(settings(alerting__watchdog=True), tmp_path)
    assert (tmp_path / "watchdog.rules.yaml").exists()
    render(settings(), tmp_path)
    assert not (tmp_path / "watchdog.rules.yaml").exists()


REFUSED = {
    "a threshold that is not a number": (
        "monitoring: {drift_threshold: high}",
        ["monitoring.drift_threshold: line 1, column 14", "number"],
    ),
    "a warning above critical": (
        "monitoring: {drift_threshold: 0.5}",
        [
            "monitoring.drift_threshold: line 1, column 14: 0.5 must not exceed"
            " alerting.alert_threshold (0.2)"
        ],
    ),
    "a model's warning above the fleet's critical": (
        "monitoring: {models: {a: {drift_threshold: 0.5}}}",
        ["monitoring.models.a: line 1, column 23: its drift_threshold (0.5) must not exceed"],
    ),
    "a webhook without https": (
        "alerting: {slack_webhook: 'http://example.org/hook'}",
        ["alerting.slack_webhook", "https://"],
    ),
    "an unknown key": (
        "alerting: {thresh: 1}",
        ["alerting.thresh: line 1, column 12: unknown key"],
    ),
    "an unknown key of a model": (
        "monitoring: {models: {a: {drift_treshold: 1}}}",
        [
            "monitoring.models.a.drift_treshold: line 1, column 27: unknown key",
            "did you mean drift_threshold?",
        ],
    ),
    "an illegal model name": (
        "monitoring: {models: {'a b': {drift_threshold: 0.1}}}",
        ["monitoring.models", "is not a model name; allowed are"],
    ),
    "an unknown model": (
        "monitoring: {models: {typo: {drift_threshold: 0.1}}}",
        ["monitoring.models.typo: no such model is known"],
    ),
    "an escalation after 0 seconds": (
        "alerting: {escalation: {info_after: 0}}",
        ["alerting.escalation.info_after: line 1, column 25", "greater than or equal to"],
    ),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=list(REFUSED))
def test_an_invalid_configuration_names_key_and_reason_and_keeps_the_old_files(
    text: str, said: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "rendered"
    render(Settings(), output)
    old = {file.name: file.read_text() for file in output.iterdir()}
    (tmp_path / "config.yaml").write_text(text)
    (tmp_path / "models").write_text("a\nb\n")
    options = ["--output", str(output), "--models", str(tmp_path / "models")]
    config = ["--config", str(tmp_path / "config.yaml")]
    answer = CliRunner().invoke(main, ["rules", "render", *config, *options])
    assert answer.exit_code == 2
    for words in said:
        assert words in answer.output
    assert {file.name: file.read_text() for file in output.iterdir()} == old


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


def test_links_to_the_runbook_follow_the_service_when_no_runbook_is_configured(
    tmp_path: Path,
) -> None:
    render(settings(alerting__exporter_url="https://drift.example.org/monitor/"), tmp_path)
    model = links(tmp_path, "EmbeddingDriftDetected")
    expected = "https://drift.example.org/monitor/runbook#embeddingdriftdetected"
    assert model["runbook_url"] == expected


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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file away")
def test_the_webhook_stays_with_the_user_that_runs_alertmanager(tmp_path: Path) -> None:
    render(settings(alerting__slack_webhook=WEBHOOK), tmp_path)
    os.chown(tmp_path / "slack_webhook", 65_534, 65_533)
    render(settings(alerting__slack_webhook=f"{WEBHOOK}/another"), tmp_path)
    found = (tmp_path / "slack_webhook").stat()
    assert (found.st_uid, found.st_gid) == (65_534, 65_533)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert (tmp_path / "slack_webhook").read_text() == f"{WEBHOOK}/another\n"


def test_the_webhook_is_in_its_own_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
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
    *slack, watchdog = receivers
    assert [receiver["name"] for receiver in slack] == ["critical", "warning", "info"]
    assert watchdog == {"name": "watchdog"}
    for receiver in slack:
        assert [slack["api_url_file"] for slack in receiver["slack_configs"]] == [
            str(tmp_path / "out" / "slack_webhook")
        ]


def test_removing_the_webhook_removes_the_integration_and_the_secret(tmp_path: Path) -> None:
    render(settings(alerting__slack_webhook=WEBHOOK), tmp_path)
    render(settings(), tmp_path)
    receivers = yaml.safe_load((tmp_path / "alertmanager.yml").read_text())["receivers"]
    names = ["critical", "warning", "info", "watchdog"]
    assert receivers == [{"name": name} for name in names]
    assert not (tmp_path / "slack_webhook").exists()


def test_an_edited_alertmanager_yml_stays_and_the_next_one_is_written_beside_it(
    tmp_path: Path,
) -> None:
    file, new = tmp_path / "alertmanager.yml", tmp_path / "alertmanager.yml.new"
    render(settings(alerting__slack_webhook=WEBHOOK), tmp_path)
    edited = file.read_text().replace("#      mute_time", "      mute_time")
    assert edited != file.read_text()
    file.write_text(edited)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"{{alerting: {{slack_webhook: '{WEBHOOK}'}}, monitoring: {{drift_threshold: 0.15}}}}"
    )
    command = ["rules", "render", "--config", str(config), "--output", str(tmp_path)]
    answer = CliRunner().invoke(main, command)
    assert answer.exit_code == 0
    assert f"{file} was edited, and Alertmanager still uses it. Compare" in answer.stderr
    assert str(new) in answer.stdout.splitlines()
    assert file.read_text() == edited
    found = thresholds(tmp_path)["fleet:embedding_drift_magnitude_warning:threshold"]
    assert found == "vector(0.15)"
    # Once it is the new one, it is replaced as before.
    new.rename(file)
    answer = CliRunner().invoke(main, command)
    assert answer.stderr == ""
    assert not new.exists()


def test_an_alertmanager_yml_that_somebody_wrote_stays(tmp_path: Path) -> None:
    (tmp_path / "alertmanager.yml").write_text("receivers: []\n")
    written = render(Settings(), tmp_path)
    assert (tmp_path / "alertmanager.yml").read_text() == "receivers: []\n"
    assert tmp_path / "alertmanager.yml.new" in written


@pytest.mark.parametrize("merged", [False, True])
def test_the_webhook_stays_while_an_edited_alertmanager_yml_may_read_it(
    merged: bool, tmp_path: Path
) -> None:
    render(settings(alerting__slack_webhook=WEBHOOK), tmp_path)
    file = tmp_path / "alertmanager.yml"
    file.write_text(file.read_text() + "# edited\n")
    render(Settings(), tmp_path, merged=merged)
    assert "slack_webhook" in file.read_text()
    assert (tmp_path / "slack_webhook").exists()


def test_an_alertmanager_yml_of_an_earlier_release_is_replaced(tmp_path: Path) -> None:
    header = (
        "# Written by `embedding-drift rules render` from the configuration; edit that instead.\n"
    )
    (tmp_path / "alertmanager.yml").write_text(f"{header}receivers: []\n")
    render(Settings(), tmp_path)
    assert "route:" in (tmp_path / "alertmanager.yml").read_text()
    assert not (tmp_path / "alertmanager.yml.new").exists()


def test_what_a_folder_without_a_configuration_changes_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["rules", "render", "--output", "out"]
    answer = CliRunner().invoke(main, command, env={SLACK: WEBHOOK})
    assert answer.exit_code == 0
    assert answer.stderr.startswith("there is no config.yaml in the current folder")
    assert "Slack" not in answer.stderr
    answer = CliRunner().invoke(main, command)
    assert answer.exit_code == 0
    assert "alerting.slack_webhook is not set: the file slack_webhook was removed" in answer.stderr
    assert not Path("out/slack_webhook").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "rendered"
    answer = CliRunner().invoke(main, ["rules", "render", "--output", str(output)])
    assert answer.exit_code == 2
    assert answer.output == f"Error: {output} cannot be written: Not a directory\n"


def test_a_failed_render_keeps_every_old_file(tmp_path: Path) -> None:
    render(Settings(), tmp_path)
    old = {file.name: file.read_text() for file in tmp_path.iterdir()}
    unwritable = settings(alerting__slack_webhook="https://hooks.slack.com/\ud800")
    with pytest.raises(UnicodeEncodeError):
        render(unwritable, tmp_path)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == old
