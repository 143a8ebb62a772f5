"""Slices, from the metadata that a client sends to the message that names the tenant."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from demo import stack
from demo.incident import DATA, NEW_SECTION
from demo.slack import Message, Slack
from embedding_drift_client import Client
from ingest.runtime.settings.configuration import load
from rules.render import render
from tests.service import drift, get, metrics, serving, wait_for

PAGE = Path(__file__).parent.parent / "docs" / "slices.md"
TENANTS = ("acme", "bolt", "core", "dune", "echo")
BASELINE = 2_000


def example() -> dict[str, object]:
    """The configuration that the documentation shows."""
    [found] = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    settings: dict[str, object] = yaml.safe_load(found)["monitoring"]
    return settings


@pytest.fixture
def config(store: str, tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    quick = {"check_interval": 5, "poll_interval": 0.1, "baseline": {"vectors": BASELINE}}
    settings = {
        "monitoring": example() | quick,
        "database": {"connection_string": store},
        "server": {"port": 0},
    }
    file.write_text(yaml.safe_dump(settings))
    return file


@pytest.fixture
def usual() -> NDArray[np.float32]:
    return _sentences(is_new=False)


@pytest.fixture
def new() -> NDArray[np.float32]:
    return _sentences(is_new=True)


def _sentences(is_new: bool) -> NDArray[np.float32]:
    with np.load(DATA) as data:
        chosen = (data["section"] == NEW_SECTION) == is_new
        # Detectors of few dimensions are fitted faster.
        found: NDArray[np.float32] = data["embedding"][chosen, :128].astype(np.float32)
    return np.random.default_rng(0).permutation(found)


def send(client: Client, vectors: NDArray[np.float32], tenants: list[str]) -> None:
    client.add(vectors, metadata=[{"tenant": name, "language": "en"} for name in tenants])
    assert client.flush(60)


def values(url: str, key: str) -> dict[str, Any]:
    """What is reported of the values of a key; nothing before the first check."""
    found = drift(url, "docs").get("slices", [])
    return {
        each["value"]: each for listed in found if listed["key"] == key for each in listed["values"]
    }


def are_measured(found: dict[str, Any]) -> bool:
    return len(found) > 0 and all(
        (each["windows"] or {}).get("fast", {}).get("state") == "ok" for each in found.values()
    )


def names(message: Message, name: str) -> bool:
    [shown] = message.body["attachments"]
    return name in shown["title"] or name in shown["text"]


def test_one_tenant_of_five_drifts_and_the_alert_names_it(
    config: Path,
    usual: NDArray[np.float32],
    new: NDArray[np.float32],
    tmp_path: Path,
    tool: Callable[[str], str],
) -> None:
    for program in ("prometheus", "alertmanager"):
        tool(program)
    rendered = tmp_path / "rendered"
    random = np.random.default_rng(1)
    with (
        Slack() as slack,
        serving(config) as service,
        Client(service.url, "docs", raise_errors=True) as client,
    ):
        render(load(config, flags={"alerting.slack_webhook": slack.url}), rendered)
        stack.shorten_waits(rendered)
        send(client, usual[:BASELINE], random.choice(TENANTS, BASELINE).tolist())
        wait_for(lambda: drift(service.url, "docs").get("baseline") is not None, "the baseline")
        send(client, usual[BASELINE : BASELINE + 400], random.choice(TENANTS, 400).tolist())
        fitted = 'embedding_drift_slices_folded{model_name="docs"} 0.0'
        wait_for(lambda: fitted in metrics(service.url), "the detectors")
        wait_for(lambda: are_measured(values(service.url, "tenant")), "the slices")
        with (
            stack.alertmanager(tmp_path / "am", rendered / "alertmanager.yml") as alertmanager,
            stack.prometheus(tmp_path / "p", rendered, service.url, alertmanager) as prometheus,
        ):
            ratio = 'embedding_drift_slice_ratio{model_name="docs",slice="tenant"}'
            wait_for(lambda: len(prometheus.query(ratio)) == len(TENANTS), "the shares")
            assert prometheus.query('ALERTS{area="drift"}') == []
            send(client, new[:400], ["acme"] * 400)
            wait_for(
                lambda: any(names(message, "tenant=acme") for message in slack.messages),
                "the message that names the tenant",
            )
            alerts = prometheus.query('ALERTS{area="drift"}')
            explained = 'embedding_drift_explanation_info{model_name="docs",slice="tenant=acme"}'
            wait_for(lambda: len(prometheus.query(explained)) > 0, "the explanation")
            url = f"{service.url}/drift/docs"
            then = {"slice": "tenant=acme", "at": f"{time.time():.0f}"}
            html = {"Accept": "text/html"}
            wait_for(
                lambda: "drifting</span>" in get(url, params=then, headers=html).text,
                "a check of the slice",
            )
            linked = get(url, params=then, headers=html)
        wait_for(lambda: "acme" in values(service.url, "tenant"), "a report with slices")
        acme = values(service.url, "tenant")["acme"]
        page = get(url, headers=html).text
    # All vectors are English, so that is no slice.
    named = {alert["metric"].get("slice", "") for alert in alerts}
    assert {"tenant=acme"} <= named <= {"", "tenant=acme"}
    assert acme["share"] > acme["share_before"]
    assert ">tenant=acme</a></th>" in page
    # The alert links to the page of its tenant, at its time.
    shown = linked.raise_for_status().text
    assert "<h1>docs, tenant=acme</h1>" in shown
    assert "window, tenant=acme</h2>" in shown
    assert "Slices" not in shown
