"""``python -m grafana``: write the dashboards, and the exclusions for dashboard-linter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from grafana.dashboard import Json
from grafana.fleet import FLEET
from grafana.model import MODEL
from grafana.pipeline import PIPELINE
from grafana.texts import texts

FOLDER = Path(__file__).parent / "dashboards"


def dashboards() -> dict[str, Json]:
    """Build all dashboards, by file name."""
    return {
        "fleet.json": FLEET.json(),
        "model.json": MODEL.json(),
        "pipeline.json": PIPELINE.json(),
        "texts.json": texts(),
    }


def files() -> dict[str, str]:
    """Return the contents of all files, by file name."""
    built = dashboards()
    written = {
        name: json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"
        for name, dashboard in built.items()
    }
    return {**written, ".lint": yaml.safe_dump(_lint(built), sort_keys=False)}


def _lint(built: dict[str, Json]) -> dict[str, Any]:
    exclusion = {
        "reason": "Alerts and recording rules have neither job nor instance.",
        "entries": [entry for dashboard in built.values() for entry in _recorded(dashboard)],
    }
    return {"exclusions": {"target-job-rule": exclusion, "target-instance-rule": exclusion}}


def _recorded(dashboard: Json) -> Iterator[dict[str, Any]]:
    """List the targets that query alerts and recording rules only."""
    for panel in dashboard["panels"]:
        for index, target in enumerate(panel.get("targets", [])):
            if "expr" in target and "$job" not in target["expr"]:
                yield {
                    "dashboard": dashboard["title"],
                    "panel": panel["title"],
                    "targetIdx": index,
                }


def main() -> None:
    """Write every file."""
    for name, content in files().items():
        (FOLDER / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
