from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from demo import stack
from ingest.runtime.settings.configuration import load
from rules.render import render
from tests.rules import inhibition


@pytest.mark.parametrize("webhook", [None, "https://hooks.slack.com/services/T024/B024/secret"])
def test_amtool_accepts_the_configuration(
    webhook: str | None, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    render(load(flags={"alerting.slack_webhook": webhook}), tmp_path)
    check = [tool("amtool"), "check-config", str(tmp_path / "alertmanager.yml")]
    answer = subprocess.run(check, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_amtool_accepts_the_configuration_with_every_option_switched_on(
    tmp_path: Path, tool: Callable[[str], str]
) -> None:
    webhook = "https://hooks.slack.com/services/T024/B024/secret"
    render(load(flags={"alerting.slack_webhook": webhook}), tmp_path)
    file = tmp_path / "alertmanager.yml"
    file.write_text(re.sub(r"^#(?=\S| {2})", "", file.read_text(), flags=re.MULTILINE))
    configuration = yaml.safe_load(file.read_text())
    (interval,) = configuration["time_intervals"]
    muted = [r for r in configuration["route"]["routes"] if "mute_time_intervals" in r]
    assert [(r["receiver"], r["mute_time_intervals"]) for r in muted] == [
        ("warning", [interval["name"]])
    ]
    assert {key for receiver in configuration["receivers"] for key in receiver} == {
        "name",
        "slack_configs",
        "pagerduty_configs",
        "webhook_configs",
        "email_configs",
    }
    check = [tool("amtool"), "check-config", str(file)]
    answer = subprocess.run(check, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("receiver", "labels"),
    [
        ("critical", ["alertname=EmbeddingDriftLarge", "severity=critical", "model_name=a"]),
        ("critical", ["alertname=EmbeddingDriftExporterDown", "severity=critical"]),
        ("warning", ["alertname=EmbeddingDriftDetected", "severity=warning", "model_name=a"]),
        ("warning", ["alertname=EmbeddingDriftWindowStale", "severity=warning", "model_name=a"]),
        ("critical", ["alertname=EmbeddingDriftPersisting", "severity=critical", "model_name=a"]),
        ("warning", ["alertname=EmbeddingDriftPersisting", "severity=warning", "model_name=a"]),
        ("warning", ["alertname=EmbeddingDriftTrend", "severity=warning", "model_name=a"]),
        ("info", ["alertname=EmbeddingDriftSeasonalAnomaly", "severity=info", "model_name=a"]),
        ("critical", ["alertname=EmbeddingDriftCanariesMoved", "severity=critical"]),
        ("warning", ["alertname=EmbeddingDriftCanariesStopped", "severity=warning"]),
        ("critical", ["alertname=EmbeddingDriftDimensionChanged", "severity=critical"]),
        ("warning", ["alertname=EmbeddingDriftDimensionChanged", "severity=warning"]),
        ("critical", ["alertname=EmbeddingModelChanged", "severity=critical"]),
        ("warning", ["alertname=EmbeddingModelChanged", "severity=warning"]),
        ("watchdog", ["alertname=EmbeddingDriftWatchdog", "severity=info"]),
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


def test_the_watchdog_is_sent_every_five_minutes(rendered: Path) -> None:
    configuration = yaml.safe_load((rendered / "alertmanager.yml").read_text())
    [route] = [r for r in configuration["route"]["routes"] if r["receiver"] == "watchdog"]
    group, repeat = (_seconds(route[f"{name}_interval"]) for name in ("group", "repeat"))
    # A message is repeated at the first multiple of one after the other.
    assert -(-repeat // group) * group == 300
    # At a multiple of it, milliseconds would decide whether this one counts or the next.
    assert repeat % group != 0


def _seconds(duration: str) -> int:
    return sum(int(n) * {"m": 60, "s": 1}[unit] for n, unit in re.findall(r"(\d+)([ms])", duration))


@pytest.fixture
def show(
    rendered: Path, tmp_path: Path, tool: Callable[[str], str]
) -> Callable[[str, dict[str, Any]], str]:
    """Shows what a template makes of a notification."""

    def show(name: str, notification: dict[str, Any]) -> str:
        (tmp_path / "data.json").write_text(json.dumps(notification))
        template = f'{{{{ template "embedding_drift.{name}" . }}}}'
        command = [tool("amtool"), "template", "render"]
        command += [f"--template.glob={rendered / '*.tmpl'}", f"--template.text={template}"]
        command += [f"--template.data={tmp_path / 'data.json'}"]
        answer = subprocess.run(command, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    return show


Show = Callable[[str, dict[str, Any]], str]


@pytest.mark.parametrize("status", ["firing", "resolved"])
def test_markup_in_a_label_is_escaped_in_the_message(status: str, show: Show) -> None:
    hostile = "<!channel> <http://evil.example|click> & <script>"
    labels = {"alertname": "EmbeddingDriftLarge", "severity": "critical"}
    alert = {
        "status": status,
        "labels": labels,
        "annotations": {"summary": hostile, "description": hostile},
        "startsAt": "2024-05-01T10:00:00Z",
        "endsAt": "2024-05-01T11:00:00Z",
    }
    common = labels | {"model_name": hostile}
    data = {"status": status, "alerts": [alert], "commonLabels": common}
    data |= {"externalURL": "http://a.example"}
    shown = {name: show(name, data) for name in ("title", "text", "alertmanager")}
    escaped = "&lt;!channel&gt; &lt;http://evil.example|click&gt; &amp; &lt;script&gt;"
    assert escaped in shown["title"]
    assert escaped in shown["text"]
    for text in shown.values():
        assert not re.search("[<>]", text)


def test_the_buttons_belong_to_the_alert_that_fires(show: Show) -> None:
    def told(name: str, status: str) -> dict[str, Any]:
        return {
            "status": status,
            "labels": {"alertname": name, "severity": "warning", "model_name": "m"},
            "annotations": {"runbook_url": f"/runbook#{name}", "dashboard_url": "/drift/m"},
            "startsAt": "2024-05-01T10:00:00Z" if status == "resolved" else "2024-05-01T12:00:00Z",
            "endsAt": "2024-05-01T11:00:00Z",
        }

    alerts = [told("Detected", "resolved"), told("WindowStale", "firing")]
    both = {"status": "firing", "alerts": alerts}
    assert show("runbook", both) == "/runbook#WindowStale"
    assert show("dashboard", both) == "/drift/m?at=2024-05-01T12:00:00Z"
    assert show("runbook", {"status": "resolved", "alerts": alerts[:1]}) == "/runbook#Detected"


def test_a_silence_is_for_the_value_of_a_label_whatever_its_characters(show: Show) -> None:
    value = 'Acme "Corp" a+b \\ c'
    data = {"status": "firing", "commonLabels": {"slice": value}, "externalURL": "http://a.example"}
    link = show("alertmanager", data)
    assert "+" not in link
    [shown] = re.findall("filter=(.*)", link)
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    assert unquote(shown) == f'{{slice="{quoted}"}}'


def silence_of(show: Show, *alerts: dict[str, str]) -> str:
    """Return the matchers of the silence that the button of a message about alerts opens."""
    common = dict(set.intersection(*(set(labels.items()) for labels in alerts)))
    told = [{"status": "firing", "labels": labels} for labels in alerts]
    data = {"status": "firing", "alerts": told, "commonLabels": common}
    [shown] = re.findall("filter=(.*)", show("alertmanager", data))
    return unquote(shown)


def test_a_silence_of_drift_of_all_vectors_is_not_for_slices(show: Show) -> None:
    assert silence_of(show, DETECTED, LARGE) == '{area="drift",model_name="m",slice=""}'
    of_slice = '{area="drift",model_name="m",slice="tenant=acme"}'
    assert silence_of(show, OF_SLICE) == of_slice
    assert silence_of(show, DETECTED, OF_SLICE) == '{area="drift",model_name="m"}'


def test_a_silence_of_a_changed_model_is_for_all_its_drift(show: Show, rendered: Path) -> None:
    matchers = silence_of(show, CHANGED)
    [names] = re.findall(r'^\{model_name="m",alertname=~"(.*)"\}$', matchers)
    rules = yaml.safe_load((rendered / "drift.rules.yaml").read_text())["groups"]
    told = [rule for group in rules for rule in group["rules"] if "alert" in rule]
    drift = {rule["alert"] for rule in told if rule["labels"]["area"] == "drift"}
    assert all(re.fullmatch(names, name) for name in drift | {"EmbeddingModelChanged"})
    assert not re.fullmatch(names, "EmbeddingDriftWindowStale")


def alert(name: str, severity: str, area: str, model: str = "m") -> dict[str, str]:
    labels = {"alertname": f"EmbeddingDrift{name}", "severity": severity, "area": area}
    return labels | {"model_name": model}


MOVED_FAR = alert("CanariesMoved", "critical", "pipeline")
MOVED = alert("CanariesMoved", "warning", "pipeline")
STOPPED = alert("CanariesStopped", "warning", "pipeline")
DETECTED = alert("Detected", "warning", "drift")
LARGE = alert("Large", "critical", "drift")
PERSISTING = alert("Persisting", "critical", "drift")
CHANGED = {**alert("", "warning", "pipeline"), "alertname": "EmbeddingModelChanged"}
CHANGED_MUCH = CHANGED | {"severity": "critical"}
DEAD = alert("DimensionsDead", "warning", "pipeline")
REFUSED = alert("DimensionChanged", "warning", "pipeline")
UNREACHABLE = alert("StoreUnreachable", "critical", "pipeline")
OTHER_MODEL = alert("Detected", "warning", "drift", model="other")
OF_SLICE = DETECTED | {"slice": "tenant=acme"}


@pytest.mark.parametrize(
    ("firing", "suppressed"),
    [
        pytest.param(
            [MOVED_FAR, MOVED, DETECTED, LARGE, PERSISTING, OTHER_MODEL],
            [MOVED, DETECTED, LARGE, PERSISTING],
            id="an encoder that changed much explains drift of its model",
        ),
        pytest.param([MOVED, LARGE], [], id="a small change explains no drift"),
        pytest.param(
            [CHANGED, CHANGED_MUCH, DETECTED, LARGE, OTHER_MODEL, OF_SLICE],
            [CHANGED, DETECTED, LARGE],
            id="a model that changed explains drift, and is told once",
        ),
        pytest.param(
            [CHANGED, DETECTED, LARGE],
            [DETECTED],
            id="critical drift, as of the other window, is told beside a milder change",
        ),
        pytest.param(
            [CHANGED, PERSISTING, DETECTED],
            [CHANGED, DETECTED],
            id="a change that lasts comes back",
        ),
        pytest.param(
            [CHANGED, CHANGED_MUCH, LARGE, PERSISTING, DETECTED],
            [CHANGED, LARGE, PERSISTING, DETECTED],
            id="a critical change that lasts is still told",
        ),
        pytest.param(
            [LARGE, PERSISTING, PERSISTING | {"model_name": "other"}],
            [PERSISTING],
            id="critical drift that lasts is told once",
        ),
        pytest.param(
            [LARGE | {"severity": "warning"}, PERSISTING],
            [LARGE | {"severity": "warning"}],
            id="a warning that lasts comes back as critical",
        ),
        pytest.param(
            [CHANGED_MUCH, PERSISTING | {"slice": "tenant=acme"}],
            [],
            id="a slice that drifts for long does not hide a change of the model",
        ),
        pytest.param(
            [CHANGED_MUCH, MOVED_FAR],
            [CHANGED_MUCH],
            id="canaries are certain where vectors are not",
        ),
        pytest.param(
            [CHANGED, DEAD, DETECTED], [CHANGED, DETECTED], id="dead dimensions are more exact"
        ),
        pytest.param(
            [DEAD, LARGE, PERSISTING, DETECTED],
            [PERSISTING, DETECTED],
            id="dead dimensions explain drift, but are no critical alert",
        ),
        pytest.param(
            [DEAD, PERSISTING],
            [],
            id="dead dimensions do not hide that drift persists",
        ),
        pytest.param(
            [DEAD, CHANGED_MUCH, LARGE, PERSISTING],
            [LARGE, PERSISTING],
            id="of a critical change with dead dimensions, the change and the dimensions are told",
        ),
        pytest.param(
            [REFUSED, REFUSED | {"severity": "critical"}, REFUSED | {"model_name": "other"}],
            [REFUSED],
            id="vectors of another dimension are one alert",
        ),
        pytest.param(
            [STOPPED, alert("VectorsMissing", "warning", "pipeline")],
            [STOPPED],
            id="a model without vectors has no canaries either",
        ),
        pytest.param(
            [STOPPED, alert("DimensionChanged", "critical", "pipeline"), MOVED],
            [STOPPED],
            id="canaries of another dimension are refused",
        ),
        pytest.param(
            [
                alert("DimensionChanged", "critical", "pipeline"),
                alert("VectorsMissing", "warning", "pipeline"),
            ],
            [],
            id="vectors of another dimension do not hide that the others stopped",
        ),
        pytest.param(
            [STOPPED, UNREACHABLE | {"extent": "all"}],
            [STOPPED],
            id="without a store nothing is known of canaries",
        ),
        pytest.param(
            [UNREACHABLE | {"extent": "all"}, UNREACHABLE | {"extent": "some"}],
            [UNREACHABLE | {"extent": "some"}],
            id="a store that is reached now and then is told once",
        ),
        pytest.param(
            [
                STOPPED,
                alert("ShardMissing", "critical", "pipeline"),
                UNREACHABLE | {"extent": "some"},
            ],
            [],
            id="an exporter without the store hides nothing that the others see",
        ),
    ],
)
def test_what_canaries_show_suppresses_and_is_suppressed(
    firing: list[dict[str, str]],
    suppressed: list[dict[str, str]],
    tmp_path: Path,
    tool: Callable[[str], str],
) -> None:
    tool("alertmanager")
    assert_inhibited(firing, suppressed, tmp_path)


STALE = alert("WindowStale", "warning", "pipeline")
MISSING = alert("VectorsMissing", "warning", "pipeline")
NO_EXPORTER = {"alertname": "EmbeddingDriftExporterDown", "severity": "critical"}
NO_INGEST = {"alertname": "EmbeddingDriftIngestDown", "severity": "critical"}
NO_WATCH = alert("WatchDown", "warning", "pipeline")


@pytest.mark.parametrize(
    ("firing", "suppressed"),
    [
        pytest.param(
            [NO_INGEST, STALE, MISSING, STOPPED, OTHER_MODEL],
            [STALE, MISSING, STOPPED],
            id="without ingest no model gets vectors or canaries",
        ),
        pytest.param(
            [NO_WATCH, STALE, MISSING, STALE | {"model_name": "other"}],
            [STALE, MISSING],
            id="without its watch a model gets no vectors",
        ),
        pytest.param(
            [NO_WATCH, STOPPED], [], id="canaries come another way than rows of a watched table"
        ),
        pytest.param(
            [NO_EXPORTER, NO_INGEST, NO_WATCH],
            [NO_INGEST, NO_WATCH],
            id="a service that has both halves is missed once",
        ),
    ],
)
def test_a_process_that_is_down_suppresses_what_follows(
    firing: list[dict[str, str]],
    suppressed: list[dict[str, str]],
    tmp_path: Path,
    tool: Callable[[str], str],
) -> None:
    tool("alertmanager")
    assert_inhibited(firing, suppressed, tmp_path)


def test_an_installation_suppresses_no_alerts_of_another_cluster(
    tmp_path: Path, tool: Callable[[str], str]
) -> None:
    tool("alertmanager")
    here, there = {"cluster": "here"}, {"cluster": "there"}
    firing = [
        *(NO_EXPORTER | here, STALE | here, MISSING | here),
        *(STALE | there, MISSING | there),
        *(LARGE | there, DETECTED | there, DETECTED | here),
    ]
    suppressed = [STALE | here, MISSING | here, MISSING | there, DETECTED | there]
    assert_inhibited(firing, suppressed, tmp_path)


def test_every_inhibition_and_every_group_is_of_one_cluster(rendered: Path) -> None:
    configuration = yaml.safe_load((rendered / "alertmanager.yml").read_text())
    assert "cluster" in configuration["route"]["group_by"]
    rules = configuration["inhibit_rules"]
    assert rules
    assert [rule for rule in rules if "cluster" not in rule["equal"]] == []


def test_an_alert_of_a_slice_suppresses_milder_ones_of_the_same_slice_only(
    tmp_path: Path, tool: Callable[[str], str]
) -> None:
    tool("alertmanager")
    acme, bolt = {"slice": "tenant=acme"}, {"slice": "tenant=bolt"}
    firing = [DETECTED | acme, LARGE | acme, DETECTED | bolt, DETECTED]
    assert inhibited(firing, tmp_path) == [DETECTED | acme]


def test_a_model_that_drifts_far_does_not_suppress_its_slices(
    tmp_path: Path, tool: Callable[[str], str]
) -> None:
    tool("alertmanager")
    firing = [DETECTED, LARGE, OF_SLICE]
    assert inhibited(firing, tmp_path) == [DETECTED]


def assert_inhibited(
    firing: list[dict[str, str]], suppressed: list[dict[str, str]], tmp_path: Path
) -> None:
    """Assert that of these alerts exactly those are suppressed, in any order."""
    found = inhibited(firing, tmp_path)
    assert len(found) == len(suppressed)
    assert all(labels in suppressed for labels in found)


def inhibited(firing: list[dict[str, str]], tmp_path: Path) -> list[dict[str, str]]:
    """Return the labels of the alerts that a real Alertmanager suppresses."""
    render(load(), tmp_path)
    file = tmp_path / "alertmanager.yml"
    inhibition.add_rule(file)
    with stack.alertmanager(tmp_path / "data", file) as url:
        return inhibition.inhibited(url, firing)


def text_of(
    alerts: list[dict[str, object]],
    rendered: Path,
    folder: Path,
    tool: Callable[[str], str],
    part: str = "text",
) -> str:
    """Return a part of a message about firing alerts."""
    data = {"status": "firing", "alerts": alerts, "commonLabels": DETECTED}
    (folder / "data.json").write_text(json.dumps(data))
    command = [tool("amtool"), "template", "render"]
    command += [f"--template.glob={rendered / '*.tmpl'}"]
    command += [f'--template.text={{{{ template "embedding_drift.{part}" . }}}}']
    command += [f"--template.data={folder / 'data.json'}"]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def of_slices(*slices: str) -> list[dict[str, object]]:
    """Alerts of a model and of some slices, of both windows each."""
    return [
        {
            "status": "firing",
            "labels": {**DETECTED, "window": window, **labels},
            "annotations": {"summary": "s", "description": f"{labels} {window}."},
            "startsAt": "2024-05-01T10:00:00Z",
        }
        for labels in ({}, *({"slice": name} for name in slices))
        for window in ("fast", "slow")
    ]


def test_the_windows_of_a_slice_share_a_paragraph_that_names_it(
    rendered: Path, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    text = text_of(of_slices("tenant=<b>"), rendered, tmp_path, tool)
    since = "since 2024-05-01 10:00:00 UTC"
    headings = [line for line in text.splitlines() if line.startswith("*")]
    assert headings == [
        f"*EmbeddingDriftDetected* (fast and slow windows), {since}",
        f"*EmbeddingDriftDetected* of tenant=&lt;b&gt; (fast and slow windows), {since}",
    ]
    assert "Slices:" not in text


def test_slices_without_a_paragraph_are_named_in_a_line(
    rendered: Path, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    text = text_of(of_slices("tenant=a", "tenant=<b>"), rendered, tmp_path, tool)
    assert text.splitlines()[-2:] == [
        "Other slices: tenant=&lt;b&gt;.",
        "Total: 6 firing, 0 resolved.",
    ]


def test_a_message_of_many_slices_stays_within_slacks_limit(show: Show) -> None:
    def told(number: int, status: str) -> dict[str, Any]:
        name = f"tenant={number:02d}{'x' * 62}"
        return {
            "status": status,
            "labels": LARGE | {"window": "slow", "slice": name},
            # The longest that the rules write.
            "annotations": {
                "summary": "s",
                "description": (
                    "Beyond doubt: score 12.3 in the slow window. Without drift, fewer than one"
                    " window in 10^9 reach this score. Its average of 8 hours is 4.2 higher than in"
                    " the same hours of the last week without drift. Thresholds: 6.1 for 2 minutes,"
                    " 4.1 on average of an hour, 1.6 for a rise of the average of 8 hours over a"
                    " week.\nAt least 12 % of the vectors are unlike the baseline (estimate 17 %)."
                    " Thresholds: warning 15 %, critical 20 %.\nCause: known topics in other"
                    " proportions. This was found out 2h 40m 0s ago, as was the first line.\n"
                    f"Slice: {name}."
                ),
                "peak": "At its peak, the score of the slow window was 12.3, and at least 12 % of"
                " its vectors were unlike the baseline.",
            },
            "startsAt": "2024-05-01T10:00:00Z",
            "endsAt": "2024-05-01T12:00:00Z",
        }

    alerts = [told(number, "firing") for number in range(17)]
    alerts += [told(number, "resolved") for number in range(17, 20)]
    text = show("text", {"status": "firing", "alerts": alerts, "commonLabels": LARGE})
    assert len(text) < 4_000
    assert text.count("Thresholds: 6.1") == text.count("Thresholds: warning") == 1
    assert text.count("At least 12 %") == 4
    others = re.findall(r"^Other slices: (.*)\.$", text, re.MULTILINE)
    assert [name[:9] for each in others for name in each.split(", ")] == [
        f"tenant={number:02d}" for number in range(4, 12)
    ]


@pytest.mark.parametrize(
    ("labels", "query"),
    [
        ({}, "?at=2024-05-01T10:00:00Z"),
        (OF_SLICE, "?slice=tenant%3Dacme&at=2024-05-01T10:00:00Z"),
        ({"slice": "tenant=a&b <"}, "?slice=tenant%3Da%26b+%3C&at=2024-05-01T10:00:00Z"),
    ],
)
def test_the_link_has_the_slice_and_the_time_of_the_alert(
    labels: dict[str, str], query: str, rendered: Path, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    page = "http://a.example/drift/m"
    firing: dict[str, object] = {
        "status": "firing",
        "labels": DETECTED | labels,
        "annotations": {"dashboard_url": page},
        "startsAt": "2024-05-01T10:00:00Z",
    }
    assert text_of([firing], rendered, tmp_path, tool, "dashboard").strip() == page + query


def test_a_title_tells_that_there_are_alerts_of_other_slices(
    rendered: Path, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    of_model, of_two = of_slices(), of_slices("tenant=a")
    assert text_of(of_model, rendered, tmp_path, tool, "title").strip() == "WARNING: s"
    told = text_of(of_two, rendered, tmp_path, tool, "title").strip()
    assert told == "WARNING: s (and other alerts)"
