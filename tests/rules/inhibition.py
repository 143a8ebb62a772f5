"""What a real Alertmanager suppresses, asked when it has taken notice of every alert."""

from __future__ import annotations

import uuid
from pathlib import Path

import httpx2
import yaml

from tests.service import get, wait_for

_LAST = "LastOfAll"
_SUPPRESSED = "SuppressedByTheLast"


def add_rule(file: Path) -> None:
    """Add the rule by which ``inhibited`` sees that Alertmanager has taken notice of every alert.

    Alertmanager accepts alerts at once, and takes notice of one after the other.
    """
    configuration = yaml.safe_load(file.read_text())
    rule = {
        "source_matchers": [f"alertname = {_LAST}"],
        "target_matchers": [f"alertname = {_SUPPRESSED}"],
        "equal": ["call"],
    }
    configuration["inhibit_rules"].append(rule)
    file.write_text(yaml.safe_dump(configuration))


def inhibited(url: str, firing: list[dict[str, str]]) -> list[dict[str, str]]:
    """Raise alerts; return the labels of all that are suppressed."""
    alerts = f"{url}/api/v2/alerts"
    call = {"call": uuid.uuid4().hex}
    last, suppressed = {"alertname": _LAST} | call, {"alertname": _SUPPRESSED} | call
    raised = [{"labels": labels} for labels in (suppressed, *firing, last)]
    httpx2.post(alerts, json=raised, timeout=60).raise_for_status()

    def found() -> list[dict[str, str]]:
        told = get(alerts).raise_for_status().json()
        return [each["labels"] for each in told if each["status"]["inhibitedBy"]]

    wait_for(lambda: suppressed in found(), "notice of the last alert")
    return [labels for labels in found() if labels["alertname"] != _SUPPRESSED]
