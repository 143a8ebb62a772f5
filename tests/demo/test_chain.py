"""From the metrics page through Prometheus and Alertmanager to the message in Slack."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import httpx2
import pytest
import yaml

from demo import stack
from demo.slack import Message, Slack
from demo.stack import Prometheus
from demo.stack import alertmanager as alertmanager_process
from exporter.metrics.families import (
    CAUSE,
    COMPONENT_SCORE,
    EXPLANATION_INFO,
    MAGNITUDE,
    MAGNITUDE_LOWER,
    SCORE,
    UP,
)
from ingest.runtime.family import Family
from ingest.runtime.settings.configuration import load
from rules.render import render
from tests.demo import victoriametrics
from tests.programs import NEWEST, missing
from tests.service import get, wait_for

MODEL = "sentence-transformer"
SECONDS = 240.0


class Page(Protocol):
    url: str

    def set(self, family: Family, value: float, **labels: str) -> None: ...


def drift(
    page: Page, model_name: str, score: float, magnitude: float, in_window: str = "fast"
) -> None:
    window = {"model_name": model_name, "window": in_window}
    page.set(UP, 1)
    page.set(SCORE, score, **window)
    page.set(MAGNITUDE, magnitude, **window)
    page.set(MAGNITUDE_LOWER, magnitude / 2, **window)
    page.set(COMPONENT_SCORE, score + 1, component="mean", **window)
    page.set(COMPONENT_SCORE, 0.5, component="norm", **window)


def explain(
    page: Page,
    model_name: str,
    summary: str,
    cause: str = "new content",
    in_window: str = "fast",
) -> None:
    series = {"model_name": model_name, "window": in_window, "slice": ""}
    page.set(CAUSE, 1, cause=cause, **series)
    page.set(EXPLANATION_INFO, 1, summary=summary, **series)


def about(text: str) -> Callable[[Message], bool]:
    return lambda message: text in message.body["attachments"][0]["title"]


def within(text: str) -> Callable[[Message], bool]:
    return lambda message: text in message.body["attachments"][0]["text"]


def without_times(message: Message) -> dict[str, Any]:
    """Return the body with times and durations replaced by words."""
    (attachment,) = message.body["attachments"]
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "NOW", attachment["text"])
    text = re.sub(r"after \d+s", "after LENGTH", text)
    dated = r"\?at=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    actions = [
        {**action, "url": re.sub(dated, "?at=NOW", action["url"])}
        for action in attachment["actions"]
    ]
    link = re.sub(dated, "?at=NOW", attachment["title_link"])
    told = attachment | {"text": text, "title_link": link, "actions": actions}
    return {"attachments": [told]}


def raise_alert(
    alertmanager: str,
    *alerts: dict[str, str],
    lasted: timedelta = timedelta(),
    description: str = "What & <why>.",
) -> None:
    """Post alerts to Alertmanager as Prometheus would; with ``lasted``, they are resolved."""
    now = datetime.now(UTC)
    body = [
        {
            "labels": labels,
            "annotations": {
                "summary": f"{labels['alertname']} & <more>",
                "description": description,
                "runbook_url": "http://127.0.0.1:10910/runbook#heading",
                "dashboard_url": "http://127.0.0.1:10910/",
            },
            "startsAt": (now - lasted).isoformat(),
            "endsAt": (now if lasted else now + timedelta(hours=1)).isoformat(),
        }
        for labels in alerts
    ]
    httpx2.post(f"{alertmanager}/api/v2/alerts", json=body, timeout=60).raise_for_status()


def test_a_detected_drift_reaches_slack_in_full(
    page: Page, prometheus: Prometheus, alertmanager: str, slack: Slack
) -> None:
    drift(page, MODEL, score=6.34, magnitude=0.12)
    message = slack.wait(about(MODEL), SECONDS)
    # Of all drift of the model but its slices: it escalates under another name and severity.
    silence = "area%3D%22drift%22%2Cmodel_name%3D%22sentence-transformer%22%2Cslice%3D%22%22"
    assert without_times(message) == {
        "attachments": [
            {
                "color": "warning",
                "title": "WARNING: Embeddings of sentence-transformer are drifting",
                "title_link": "http://127.0.0.1:10910/drift/sentence-transformer?at=NOW",
                "text": (
                    "*EmbeddingDriftDetected* (fast window), since NOW\n"
                    "Very sure: score 6.3 in the fast window. Without drift, one window in 10^6.3 "
                    "reaches this score. "
                    "Thresholds: 5.0 for 2 minutes, 1.6 on average of an hour.\n"
                    "At least 6 % of the vectors are unlike the baseline (estimate 12 %). "
                    "Thresholds: warning 15 %, critical 20 %.\n"
                    "Largest component: mean (score 7.3).\n"
                ),
                "fallback": "WARNING: Embeddings of sentence-transformer are drifting",
                "callback_id": "",
                "footer": "Embedding Drift Monitor",
                "mrkdwn_in": ["fallback", "pretext", "text"],
                "actions": [
                    {
                        "type": "button",
                        "text": "Drift",
                        "url": "http://127.0.0.1:10910/drift/sentence-transformer?at=NOW",
                    },
                    {
                        "type": "button",
                        "text": "Runbook",
                        "url": "http://127.0.0.1:10910/runbook#embeddingdriftdetected",
                    },
                    {
                        "type": "button",
                        "text": "Silence",
                        "url": f"{alertmanager}/#/silences/new?filter=%7B{silence}%7D",
                    },
                ],
            }
        ]
    }


def test_vmalert_on_victoriametrics_sends_the_same_message(
    page: Page, slack: Slack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not NEWEST.is_dir():
        missing("VictoriaMetrics is not in the cache; make tools-newest")
    rendered = tmp_path / "rendered"
    render(load(flags={"alerting.slack_webhook": slack.url}), rendered)
    # A sample can be read after about a second, so ranges of two seconds would be empty at times.
    stack.shorten_waits(rendered, seconds=5)
    monkeypatch.setenv("PATH", str(NEWEST), prepend=os.pathsep)
    drift(page, MODEL, score=6.34, magnitude=0.12)
    with (
        alertmanager_process(tmp_path / "alerts", rendered / "alertmanager.yml") as alertmanager,
        victoriametrics.evaluating(tmp_path / "metrics", rendered, page.url, alertmanager),
    ):
        message = slack.wait(about(f"WARNING: Embeddings of {MODEL} are drifting"), SECONDS)
    text = without_times(message)["attachments"][0]["text"]
    assert "At least 6 % of the vectors are unlike the baseline (estimate 12 %). " in text
    assert "Largest component: mean (score 7.3)." in text


def test_a_critical_drift_is_one_message_not_three(
    page: Page, prometheus: Prometheus, slack: Slack
) -> None:
    drift(page, MODEL, score=9, magnitude=0.31)
    slack.wait(about("CRITICAL: Embeddings of sentence-transformer have drifted far"), SECONDS)
    assert len(prometheus.query("ALERTS")) == 3
    drift(page, "image-classifier", score=9, magnitude=0.12)
    slack.wait(about("WARNING: Embeddings of image-classifier are drifting"), SECONDS)
    assert len(slack.messages) == 2


# The second is resolved before it escalates, however long its first message takes.
@pytest.mark.parametrize("escalates_after", [20])
def test_two_models_drift_one_escalates_and_both_are_resolved(
    page: Page, prometheus: Prometheus, alertmanager: str, slack: Slack
) -> None:
    drift(page, MODEL, score=6.34, magnitude=0.12)
    slack.wait(about(f"WARNING: Embeddings of {MODEL} are drifting"), SECONDS)
    slack.wait(about(f"CRITICAL: Drift of {MODEL} has lasted"), SECONDS)
    active = get(f"{alertmanager}/api/v2/alerts").json()
    inhibited = {a["labels"]["alertname"] for a in active if a["status"]["inhibitedBy"]}
    assert inhibited == {"EmbeddingDriftDetected"}
    drift(page, MODEL, score=1, magnitude=0.02)
    drift(page, "image-classifier", score=8, magnitude=0.12)
    slack.wait(about(f"RESOLVED: Drift of {MODEL} has lasted"), SECONDS)
    slack.wait(about("WARNING: Embeddings of image-classifier are drifting"), SECONDS)
    drift(page, "image-classifier", score=1, magnitude=0.02)
    slack.wait(about("RESOLVED: Embeddings of image-classifier are drifting"), SECONDS)


def test_a_resolved_alert_says_how_long_it_lasted(alertmanager: str, slack: Slack) -> None:
    alert = {
        "alertname": "EmbeddingDriftDetected",
        "model_name": MODEL,
        "window": "fast",
        "severity": "warning",
        "area": "drift",
    }
    raise_alert(alertmanager, alert)
    slack.wait(about("WARNING"), SECONDS)
    raise_alert(alertmanager, alert, lasted=timedelta(minutes=75))
    (attachment,) = slack.wait(about("RESOLVED"), SECONDS).body["attachments"]
    assert attachment["title"] == "RESOLVED: EmbeddingDriftDetected &amp; &lt;more&gt;"
    assert attachment["color"] == "good"
    assert re.fullmatch(
        r"\*EmbeddingDriftDetected\* \(fast window\), resolved [-\d]+ [:\d]+ UTC after 1h15m\d+s\n"
        r"What &amp; &lt;why&gt;\.\n",
        attachment["text"],
    )
    *_, alerts_button = attachment["actions"]
    assert alerts_button["text"] == "Alerts"
    assert alerts_button["url"].startswith(f"{alertmanager}/#/alerts?filter=%7B")


def test_a_message_names_both_windows_once(
    page: Page, prometheus: Prometheus, slack: Slack
) -> None:
    drift(page, MODEL, score=6.34, magnitude=0.12)
    drift(page, MODEL, score=7.91, magnitude=0.1, in_window="slow")
    message = slack.wait(within("slow window"), SECONDS)
    assert without_times(message)["attachments"][0]["text"] == (
        "*EmbeddingDriftDetected* (fast and slow windows), since NOW\n"
        "Very sure: score 6.3 in the fast window. Without drift, one window in 10^6.3 reaches "
        "this score. Thresholds: 5.0 for 2 minutes, 1.6 on average of an hour.\n"
        "At least 6 % of the vectors are unlike the baseline (estimate 12 %). "
        "Thresholds: warning 15 %, critical 20 %.\n"
        "Largest component: mean (score 7.3).\n"
        "In the slow window: score 7.9, at least 5 % unlike the baseline (estimate 10 %).\n"
    )


def test_the_first_line_says_what_changed_and_the_paragraph_is_one_for_both_windows(
    page: Page, prometheus: Prometheus, slack: Slack
) -> None:
    summary = (
        f"{MODEL}: at least 9 % of the last 1,000 vectors are unlike the baseline."
        " New: R&D, <b>, speech 9.5 % (was 1.2 %). Gone: perl 0.1 % (3.1 %)."
    )
    for window in ("fast", "slow"):
        explain(page, MODEL, summary, in_window=window)
        drift(page, MODEL, score=9.4, magnitude=0.004, in_window=window)
    message = slack.wait(within("fast and slow windows"), SECONDS)
    (attachment,) = without_times(message)["attachments"]
    assert attachment["title"] == (
        f"WARNING: {MODEL}: at least 9 % of the last 1,000 vectors are unlike the baseline."
        " New: R&amp;D, &lt;b&gt;, speech 9.5 % (was 1.2 %). Gone: perl 0.1 % (3.1 %)."
    )
    assert attachment["text"] == (
        "*EmbeddingDriftDetected* (fast and slow windows), since NOW\n"
        "Beyond doubt: score 9.4 in the fast window. Without drift, fewer than one window in 10^9 "
        "reach this score. Thresholds: 5.0 for 2 minutes, 1.6 on average of an hour.\n"
        "Cause: new content.\n"
        "In the slow window: score 9.4.\n"
    )


def test_a_model_that_changed_is_told_instead_of_its_drift(
    page: Page, prometheus: Prometheus, slack: Slack
) -> None:
    summary = f"{MODEL}: at least 97 % of the last 1,000 vectors are unlike the baseline."
    explain(page, MODEL, f"{summary} The model seems to have changed.", cause="model")
    drift(page, MODEL, score=300, magnitude=0.98)
    message = slack.wait(about("The model seems to have changed."), SECONDS)
    (attachment,) = message.body["attachments"]
    assert attachment["title"].startswith("CRITICAL: ")
    assert attachment["text"].startswith("*EmbeddingModelChanged* (fast window), since ")
    assert "Cause: the model changed, or what prepares its input." in attachment["text"]
    assert attachment["actions"][1]["url"].endswith("/runbook#embeddingmodelchanged")
    active = prometheus.query('ALERTS{alertstate="firing"}')
    assert {each["metric"]["alertname"] for each in active} == {
        *("EmbeddingModelChanged", "EmbeddingDriftDetected", "EmbeddingDriftLarge")
    }
    assert len(slack.messages) == 1


def test_a_resolved_drift_says_how_large_it_was_at_its_peak(
    page: Page, prometheus: Prometheus, slack: Slack
) -> None:
    drift(page, MODEL, score=31.5, magnitude=0.14)
    slack.wait(about("WARNING"), SECONDS)
    drift(page, MODEL, score=6, magnitude=0.02)
    wait_for(lambda: prometheus.value("model_window:embedding_drift_score:max") == 6, "a scrape")
    drift(page, MODEL, score=1, magnitude=0.02)
    (attachment,) = slack.wait(about("RESOLVED"), SECONDS).body["attachments"]
    assert (
        "At its peak, the score of the fast window was 31.5, and at least 7 % of its vectors were"
        " unlike the baseline."
    ) in attachment["text"]
    assert " after " in attachment["text"]
    assert "is 6.0" not in attachment["text"]


def test_two_windows_are_resolved_in_one_paragraph_and_two_processes_in_two(
    alertmanager: str, slack: Slack
) -> None:
    alert = {"alertname": "EmbeddingDriftDetected", "model_name": MODEL} | DRIFT
    both = [alert | {"window": window} for window in ("fast", "slow")]
    raise_alert(alertmanager, *both)
    slack.wait(about("WARNING"), SECONDS)
    raise_alert(alertmanager, *both, lasted=timedelta(minutes=75))
    (attachment,) = slack.wait(about("RESOLVED"), SECONDS).body["attachments"]
    assert attachment["text"].count("*EmbeddingDriftDetected* (fast and slow windows), reso") == 1
    assert attachment["text"].count("*EmbeddingDriftDetected*") == 1
    down = {"alertname": "EmbeddingDriftExporterDown", "severity": "critical"}
    raise_alert(alertmanager, down | {"instance": "a"}, down | {"instance": "b"})
    (attachment,) = slack.wait(about("ExporterDown"), SECONDS).body["attachments"]
    assert attachment["text"].count("*EmbeddingDriftExporterDown*, since") == 2
    of_both = "%7Balertname%3D%22EmbeddingDriftExporterDown%22%7D"
    assert attachment["actions"][-1]["url"] == f"{alertmanager}/#/silences/new?filter={of_both}"


def test_a_silence_of_different_alerts_is_no_wider_than_they_are(
    alertmanager: str, slack: Slack
) -> None:
    missing = {"alertname": "EmbeddingDriftVectorsMissing", "area": "pipeline"}
    drifting = {"alertname": "EmbeddingDriftDetected", "window": "fast"} | DRIFT
    both = [DRIFT | each | {"model_name": MODEL} for each in (drifting, missing)]
    raise_alert(alertmanager, *both)
    (attachment,) = slack.wait(about("WARNING"), SECONDS).body["attachments"]
    shared = f"%7Bmodel_name%3D%22{MODEL}%22%2Cseverity%3D%22warning%22%7D"
    assert attachment["actions"][-1]["url"] == f"{alertmanager}/#/silences/new?filter={shared}"


@pytest.mark.parametrize("status", [429, 500])
def test_a_message_that_slack_rejected_is_sent_again(
    status: int, alertmanager: str, slack: Slack
) -> None:
    slack.refuse(status, times=2)
    raise_alert(alertmanager, {"alertname": "EmbeddingDriftExporterDown", "severity": "critical"})
    slack.wait(about("CRITICAL: EmbeddingDriftExporterDown"), SECONDS)
    assert slack.refused == [f"{status} refused_as_told"] * 2
    assert len(slack.messages) == 1


DRIFT = {"area": "drift", "severity": "warning"}
INFO = {"area": "drift", "severity": "info"}
PIPELINE = {"area": "pipeline", "severity": "warning"}


@pytest.mark.parametrize(
    ("explanation", "explained"),
    [
        (
            {"alertname": "EmbeddingDriftStoreUnreachable", "extent": "all"},
            {"alertname": "EmbeddingDriftWindowStale", "model_name": MODEL, **PIPELINE},
        ),
        (
            {"alertname": "EmbeddingDriftStoreUnreachable", "extent": "all"},
            {"alertname": "EmbeddingDriftVectorsRejected", **PIPELINE},
        ),
        (
            {"alertname": "EmbeddingDriftExporterDown"},
            {"alertname": "EmbeddingDriftShardMissing", **PIPELINE},
        ),
        (
            {"alertname": "EmbeddingDriftWindowStale", "model_name": MODEL},
            {"alertname": "EmbeddingDriftVectorsMissing", "model_name": MODEL, **PIPELINE},
        ),
        (
            {"alertname": "EmbeddingDriftDimensionChanged", "model_name": MODEL},
            {"alertname": "EmbeddingDriftCanariesStopped", "model_name": MODEL, **PIPELINE},
        ),
        (
            {"alertname": "EmbeddingDriftDimensionsDead", "model_name": MODEL},
            {"alertname": "EmbeddingDriftDetected", "model_name": MODEL, **DRIFT},
        ),
        (
            {"alertname": "EmbeddingDriftVectorsStuck", "model_name": MODEL},
            {"alertname": "EmbeddingDriftLarge", "model_name": MODEL, **DRIFT},
        ),
        (
            {"alertname": "EmbeddingDriftPersisting", "model_name": MODEL, **DRIFT},
            {"alertname": "EmbeddingDriftSeasonalAnomaly", "model_name": MODEL, **INFO},
        ),
        (
            {"alertname": "EmbeddingDriftLarge", "model_name": MODEL, **DRIFT},
            {"alertname": "EmbeddingDriftDetected", "model_name": MODEL, **DRIFT},
        ),
    ],
    ids=lambda labels: labels["alertname"].removeprefix("EmbeddingDrift"),
)
def test_an_alert_is_suppressed_by_the_alert_that_explains_it(
    explanation: dict[str, str], explained: dict[str, str], alertmanager: str, slack: Slack
) -> None:
    raise_alert(alertmanager, {"severity": "critical", "area": "pipeline", **explanation})
    raise_alert(alertmanager, explained)
    raise_alert(alertmanager, {"alertname": "Unexplained", "model_name": "b", **PIPELINE})
    slack.wait(about(explanation["alertname"]), SECONDS)
    slack.wait(about("Unexplained"), SECONDS)
    assert explained["alertname"] not in str(slack.messages)


@pytest.mark.parametrize(
    "unknown",
    [
        {"alertname": "EmbeddingDriftExporterDown", "severity": "critical"},
        {"alertname": "EmbeddingDriftStoreUnreachable", "severity": "critical", "extent": "all"},
        {"alertname": "EmbeddingDriftWindowStale", "severity": "warning", "model_name": MODEL},
    ],
    ids=lambda labels: labels["alertname"].removeprefix("EmbeddingDrift"),
)
def test_the_end_of_a_drift_that_was_told_is_told_although_nothing_is_measured(
    unknown: dict[str, str], alertmanager: str, slack: Slack
) -> None:
    drifting = {"alertname": "EmbeddingDriftLarge", "model_name": MODEL, "window": "fast"}
    drifting |= DRIFT | {"severity": "critical"}
    raise_alert(alertmanager, drifting)
    slack.wait(about("CRITICAL: EmbeddingDriftLarge"), SECONDS)
    raise_alert(alertmanager, unknown | {"area": "pipeline"})
    slack.wait(about(unknown["alertname"]), SECONDS)
    raise_alert(alertmanager, drifting, lasted=timedelta(hours=1))
    slack.wait(about("RESOLVED: EmbeddingDriftLarge"), SECONDS)


def test_one_replica_without_its_database_does_not_suppress_drift(
    alertmanager: str, slack: Slack
) -> None:
    lost = {"alertname": "EmbeddingDriftStoreUnreachable", "extent": "some"}
    raise_alert(alertmanager, {"severity": "critical", "area": "pipeline", **lost})
    raise_alert(alertmanager, {"alertname": "EmbeddingDriftDetected", "model_name": MODEL, **DRIFT})
    slack.wait(about("EmbeddingDriftStoreUnreachable"), SECONDS)
    slack.wait(about("EmbeddingDriftDetected"), SECONDS)


def test_a_stale_model_does_not_suppress_the_others(alertmanager: str, slack: Slack) -> None:
    stale = {"alertname": "EmbeddingDriftWindowStale", "model_name": "stale", **PIPELINE}
    raise_alert(alertmanager, stale)
    drifting = {"alertname": "EmbeddingDriftDetected", "model_name": MODEL, **DRIFT}
    raise_alert(alertmanager, drifting)
    slack.wait(about("EmbeddingDriftDetected"), SECONDS)


def test_many_windows_of_a_model_give_one_message_within_slacks_limits(
    alertmanager: str, slack: Slack
) -> None:
    for number in range(30):
        alert = {"alertname": "EmbeddingDriftDetected", "model_name": MODEL, **DRIFT}
        raise_alert(alertmanager, alert | {"window": f"window {number}"}, description="x" * 400)
    (attachment,) = slack.wait(within("Total: 30 firing"), SECONDS).body["attachments"]
    assert attachment["title"] == "WARNING: EmbeddingDriftDetected &amp; &lt;more&gt;"
    assert attachment["text"].count("since ") == 1
    assert attachment["text"].count("x" * 400) == 4
    assert attachment["text"].endswith("Total: 30 firing, 0 resolved.\n")
    assert slack.refused == []


def test_five_hundred_models_in_one_group_stay_within_slacks_limits(
    rendered: Path, slack: Slack, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    tool("alertmanager")
    file = rendered / "alertmanager.yml"
    configuration = yaml.safe_load(file.read_text())
    configuration["route"]["group_by"] = ["area"]
    file.write_text(yaml.safe_dump(configuration))
    alert = {"alertname": "EmbeddingDriftDetected", "window": "slow", **DRIFT}
    models = [alert | {"model_name": f"{number:03d}{'-' * 125}"} for number in range(500)]
    with alertmanager_process(tmp_path / "alertmanager", file) as url:
        raise_alert(url, *models, description="x" * 400)
        message = slack.wait(within("Total: 500 firing, 0 resolved."), SECONDS)
        assert message.body["attachments"][0]["title"].endswith(" (and other alerts)")
        raise_alert(url, *models[:250], lasted=timedelta(minutes=5), description="x" * 400)
        # Two messages may share what is resolved.
        slack.wait(within("Total: 250 firing, "), SECONDS)
        told = " ".join(str(message.body) for message in slack.messages)
        assert sum(map(int, re.findall(r"firing, (\d+) resolved", told))) == 250
    assert slack.refused == []


def test_five_hundred_models_give_five_hundred_messages(alertmanager: str, slack: Slack) -> None:
    models = [f"model-{number:03d}" for number in range(500)]
    raise_alert(
        alertmanager, *({"alertname": name, "model_name": name, **DRIFT} for name in models)
    )
    for name in models:
        slack.wait(about(name), SECONDS)
    assert slack.refused == []
