from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.detector.detector import Detector
from exporter.explain.kinds import KINDS
from exporter.metrics import families
from exporter.monitor.states import FORECAST_STATES, STATES
from ingest.pipeline import metrics
from ingest.runtime import errors
from ingest.runtime.errors import MonitorError
from ingest.runtime.http import application
from ingest.runtime.settings.configuration import load
from ingest.runtime.settings.settings import Settings
from ingest.runtime.thresholds import SCORE, Stage
from rules.render import render
from tests.programs import NEWEST, missing
from tests.rules import enforced

HERE = Path(__file__).parent
RULES = HERE.parent.parent / "rules"
EXAMPLES = sorted(HERE.glob("*.test.yaml"))

FAMILIES = {
    family.name: family
    for family in (
        *families.FAMILIES,
        *metrics.FAMILIES,
        *metrics.WATCH_FAMILIES,
        *application.FAMILIES,
    )
}
# Labels Prometheus and the rules themselves add.
OWN_LABELS = {"alertname", "alertstate", "severity"}
# Labels of targets.
TARGETS_LABELS = {"job", "instance", "namespace", "pod"}
# Metrics of Alertmanager itself.
ALERTMANAGERS = {"alertmanager_notifications_total", "alertmanager_notifications_failed_total"}
ALERTMANAGERS_LABELS = {"integration"}
# What k8s/README.md excepts from an enforced namespace, because Alertmanager is in another one.
EXCEPTED = {"notifications.rules.yaml"}
ALWAYS_FIRING = "EmbeddingDriftWatchdog"


def rules() -> list[dict[str, Any]]:
    return [
        rule
        for file in sorted(RULES.glob("*.rules.yaml"))
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]


ALERTS = [rule for rule in rules() if "alert" in rule]
ALERT_NAMES = sorted({rule["alert"] for rule in ALERTS})


def examples() -> Iterator[dict[str, Any]]:
    for file in EXAMPLES:
        for test in yaml.safe_load(file.read_text())["tests"]:
            yield from test.get("alert_rule_test", [])


def test_promtool_accepts_the_rules_without_warnings(
    rendered: Path, tool: Callable[[str], str]
) -> None:
    files = sorted(map(str, rendered.glob("*.rules.yaml")))
    check = [tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", *files]
    answer = subprocess.run(check, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert len(files) == 5


def test_vmalert_of_victoriametrics_accepts_the_rules(rendered: Path) -> None:
    if not NEWEST.is_dir():
        missing("vmalert is not in the cache; make tools-newest")
    check = [str(NEWEST / "vmalert"), "-dryRun", f"-rule={rendered / '*.rules.yaml'}"]
    answer = subprocess.run(check, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "found 5 files" in answer.stdout + answer.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.name)
def test_promtool_test_passes(example: Path, rendered: Path, tool: Callable[[str], str]) -> None:
    shutil.copy(example, rendered)
    test = [tool("promtool"), "test", "rules", example.name]
    answer = subprocess.run(test, cwd=rendered, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.fixture(scope="module")
def enforced_rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Render everything for a Prometheus that enforces a namespace."""
    if not NEWEST.is_dir():
        missing("a promtool that adds matchers is not in the cache; make tools-newest")
    folder = tmp_path_factory.mktemp("enforced")
    render(load(flags={"alerting.watchdog": True}), folder)
    for file in folder.glob("*.rules.yaml"):
        if file.name not in EXCEPTED:
            enforced.enforce(file, NEWEST / "promtool")
    return folder


@pytest.mark.parametrize("name", ["drift", "history", "pipeline", "week"])
def test_promtool_test_passes_where_a_namespace_is_enforced(
    name: str, enforced_rules: Path
) -> None:
    assert_passes((HERE / f"{name}.test.yaml").read_text(), enforced_rules)


def test_the_rules_on_series_of_another_namespace_are_in_a_file_that_can_be_excepted() -> None:
    others = {
        file.name for file in RULES.glob("*.rules.yaml") if "alertmanager_" in file.read_text()
    }
    assert others == EXCEPTED
    [excepted] = EXCEPTED
    name = f"embedding-drift-{excepted.removesuffix('.rules.yaml')}"
    text = (RULES.parent / "k8s" / "README.md").read_text()
    [listed] = re.findall(r"excludedFromEnforcement:((?:\n +.+)+)", text)
    assert "resource: prometheusrules" in listed
    assert f"name: {name}" in listed


def test_a_message_is_whole_although_another_namespace_has_a_model_of_the_same_name(
    enforced_rules: Path,
) -> None:
    name = "model_window:embedding_drift_score_rise:threshold"
    labels = 'namespace="other", model_name="sentence-transformer", window="slow"'
    series = f"input_series:\n      - series: {name}{{{labels}}}\n        values: 1.3x700\n"
    text = (HERE / "week.test.yaml").read_text()
    assert_passes(text.replace("input_series:\n", series, 1), enforced_rules)


def assert_passes(text: str, enforced_rules: Path) -> None:
    """Run a test of rules as the rules are where a namespace is enforced."""
    (enforced_rules / "enforced.test.yaml").write_text(enforced.example(text))
    test = [str(NEWEST / "promtool"), "test", "rules", "enforced.test.yaml"]
    answer = subprocess.run(test, cwd=enforced_rules, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_a_rendered_threshold_of_one_model_applies_to_that_model_only(
    tmp_path: Path, tool: Callable[[str], str]
) -> None:
    models = {"noisy/v2": {"drift_threshold": 0.5, "alert_threshold": 0.9}}
    render(load(flags={"monitoring.models": models}), tmp_path)
    series = [
        {
            "series": f'embedding_drift_{name}{{model_name="{model}", window="fast"}}',
            "values": value,
        }
        for model in ("noisy/v2", "quiet")
        for name, value in (("score", "6x5"), ("magnitude", "0.4x5"))
    ]
    large = 'ALERTS{alertname="EmbeddingDriftLarge"}'
    expected = {
        "expr": f"count by (model_name) ({large})",
        "eval_time": "2m",
        "exp_samples": [{"labels": '{model_name="quiet"}', "value": 2}],
    }
    example = {
        "rule_files": ["thresholds.rules.yaml", "drift.rules.yaml"],
        "evaluation_interval": "1m",
        "group_eval_order": ["embedding-drift-thresholds", "embedding-drift"],
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [expected]}],
    }
    (tmp_path / "example.yaml").write_text(yaml.safe_dump(example))
    test = [tool("promtool"), "test", "rules", "example.yaml"]
    answer = subprocess.run(test, cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("alert", ALERT_NAMES)
def test_each_alert_is_tested_silent_and_firing(alert: str) -> None:
    shown = [example for example in examples() if example["alertname"] == alert]
    assert alert == ALWAYS_FIRING or any("exp_alerts" not in example for example in shown)
    assert any(
        set(expected["exp_annotations"]) - {"other_window", "peak"}
        == {"summary", "description", "runbook_url", "dashboard_url"}
        for example in shown
        for expected in example.get("exp_alerts", [])
    )


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_each_alert_has_the_labels_and_annotations_that_routes_and_messages_use(
    rule: dict[str, Any],
) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["labels"]["area"] in {"drift", "pipeline"}
    used = {"summary", "description", "runbook_url", "dashboard_url"}
    assert set(rule["annotations"]) - {"other_window", "peak"} == used
    assert rule["annotations"]["runbook_url"].endswith("/runbook#" + rule["alert"].lower())


def test_the_runbook_has_one_complete_section_for_each_alert() -> None:
    _, *sections = re.split(r"^## ", (RULES / "runbook.md").read_text(), flags=re.MULTILINE)
    assert sorted(section.split("\n")[0] for section in sections) == ALERT_NAMES
    for section in sections:
        paragraphs = re.findall(r"^\*\*(\w+)\.\*\*", section, flags=re.MULTILINE)
        assert paragraphs == ["Meaning", "Impact", "Diagnosis", "Mitigation"]


def test_labels_of_alerts_never_hold_words() -> None:
    for rule in ALERTS:
        assert set(rule["labels"]) == {"severity", "area"} | set(rule["labels"]) & {"extent"}
        assert "explanation_info" not in rule["expr"]
    told = [rule for rule in ALERTS if "explanation_info" in rule["annotations"]["summary"]]
    assert {rule["alert"] for rule in told} == {
        *("EmbeddingDriftDetected", "EmbeddingDriftLarge", "EmbeddingDriftPersisting"),
        "EmbeddingModelChanged",
    }


def test_every_cause_is_told_in_words() -> None:
    [told] = {
        rule["annotations"]["description"]
        for rule in ALERTS
        if rule["alert"] == "EmbeddingDriftDetected"
    }
    named = set(re.findall(r'eq \. "([\w ]+)"', told))
    # Without a cause, the message says that it is not known.
    assert named == set(KINDS) - {"none", "unknown"}


def test_the_runbook_names_only_settings_metrics_and_errors_that_exist() -> None:
    runbook = (RULES / "runbook.md").read_text()
    sections = "|".join(Settings.model_fields)
    keys = re.findall(rf"`((?:{sections})\.[a-z_.]+)`", runbook)
    assert len(keys) > 3
    for key in keys:
        value: object = Settings()
        for part in key.split("."):
            value = getattr(value, part)
    named = set(re.findall(r"(?<!:)\bembedding_drift_\w+", runbook))
    assert len(named) > 3
    assert named - set(FAMILIES) == set()
    overrides = set(re.findall(r"\w+:embedding_drift_\w+:override", runbook))
    assert overrides
    rules_text = "".join(file.read_text() for file in RULES.glob("*.rules.yaml"))
    assert {name for name in overrides if name not in rules_text} == set()
    raised = re.findall(r"`([A-Z][a-z]\w+)`", runbook)
    assert raised
    for name in raised:
        assert issubclass(getattr(errors, name), MonitorError)


def test_the_runbook_has_the_thresholds_of_each_stage() -> None:
    runbook = " ".join((RULES / "runbook.md").read_text().split())
    younger: dict[Stage, str] = {
        "provisional": "on the first day",
        "daily": "in the rest of the first week",
    }
    for stage, when in younger.items():
        fast, slow = SCORE[stage]["fast"], SCORE[stage]["slow"]
        assert (
            f"With a {stage} baseline (usually {when}), they are {fast.sudden:g} and"
            f" {fast.lasting:g} in the fast window, and {slow.sudden:g} and {slow.lasting:g} in the"
            " slow one."
        ) in runbook
        assert f"With both, the threshold of the rise is {slow.rise:g}." in runbook
    fast, slow = SCORE["weekly"]["fast"], SCORE["weekly"]["slow"]
    assert fast.sudden == slow.sudden
    assert f"score exceeds {fast.sudden:g} for 2 minutes" in runbook
    assert f"exceeds {fast.lasting:g} in the fast window or {slow.lasting:g} in the slow" in runbook
    assert f"more than {slow.rise:g} higher" in runbook


def test_the_runbook_quotes_only_log_messages_of_the_program() -> None:
    quoted = re.findall(r'msg="([^".]+)', (RULES / "runbook.md").read_text())
    sources = [
        file.read_text()
        for folder in ("exporter", "ingest")
        for file in (RULES.parent / folder).rglob("*.py")
    ]
    assert len(quoted) > 3
    assert [m for m in quoted if not any(f'"{m}' in source for source in sources)] == []


def test_the_runbook_explains_every_component_of_the_score() -> None:
    runbook = (RULES / "runbook.md").read_text()
    listed = re.findall(r"^   - ((?:`\w+`(?:, )?)+):", runbook, flags=re.MULTILINE)
    explained = [name for names in listed for name in re.findall(r"`(\w+)`", names)]
    assert sorted(explained) == sorted(Detector.COMPONENTS)


def test_recording_rules_are_named_level_metric_operation() -> None:
    recorded = [rule["record"] for rule in rules() if "record" in rule]
    assert recorded
    pattern = r"(fleet|target|exporter|model(_window(_component|_severity)?)?):\w+:\w+"
    assert [name for name in recorded if not re.fullmatch(pattern, name)] == []


def test_the_rules_use_only_series_that_are_exported_or_recorded(rendered: Path) -> None:
    texts = [file.read_text() for file in rendered.glob("*.rules.yaml")]
    named = set(re.findall(r"\b[a-z_]+:(?:up|embedding_drift_\w+):\w+", "".join(texts)))
    recorded = set(re.findall(r"record: (\S+)", "".join(texts)))
    overrides = {name for name in named if name.endswith(":override")}
    assert named - overrides == recorded
    assert {f"{name.removesuffix(':override')}:threshold" for name in overrides} <= recorded

    exported = set(re.findall(r"(?<![:\w])embedding_drift_\w+", "".join(texts)))
    assert len(exported) > 10
    assert exported <= set(FAMILIES)
    others = set(re.findall(r"\b(?:alertmanager|prometheus)_\w+", "".join(texts)))
    assert others == ALERTMANAGERS


def test_the_rules_use_only_labels_that_the_metric_has() -> None:
    matched, states, grouped = set(), set(), set()
    for rule in rules():
        text = rule["expr"] + " ".join(rule.get("annotations", {}).values())
        for name, matchers in re.findall(r"(?<!:)\b(embedding_drift_\w+)\{([^}]*)\}", text):
            assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= set(FAMILIES[name].labels), rule
            matched.add(name)
        for state in re.findall(r'\bstate="(\w+)"', text):
            assert state in (*STATES, *FORECAST_STATES)
            states.add(state)
        labels = {
            label.strip()
            for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", text)
            for label in group.split(",")
            if label.strip()
        }
        known = {label for family in FAMILIES.values() for label in family.labels}
        assert labels <= known | OWN_LABELS | TARGETS_LABELS | ALERTMANAGERS_LABELS, rule
        grouped |= labels
    # Guards the loop: patterns that match nothing would pass it.
    assert matched
    assert states
    assert grouped
