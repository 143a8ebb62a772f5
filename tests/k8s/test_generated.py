"""The generated manifests are up to date and equal their sources."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from pydantic import BaseModel

from alertmanager import __file__ as alertmanager_package
from ingest.runtime.settings.settings import Settings
from k8s.__main__ import DEFAULT, FOLDER, chart_files, manifests
from k8s.alertmanagerconfig import alertmanager_config
from k8s.thresholds import thresholds as chart_thresholds
from rules.render import thresholds as rendered_thresholds
from tests.k8s.overlays import rendered

Model = TypeVar("Model", bound=BaseModel)
ALERTMANAGER = Path(alertmanager_package).parent


def test_the_files_of_the_chart_are_up_to_date() -> None:
    for path, text in chart_files().items():
        assert path.read_text() == text, f"{path.name}: make manifests"


@pytest.mark.usefixtures("helm")
def test_the_manifests_are_what_the_chart_renders() -> None:
    for path, text in manifests().items():
        assert path.read_text() == text, f"{path.name}: make manifests"


def test_every_threshold_that_a_setting_changes_is_an_expression_of_the_chart() -> None:
    def expressions(found: dict[str, Any]) -> list[str]:
        return [rule["expr"] for group in found["groups"] for rule in group["rules"]]

    defaults = expressions(rendered_thresholds(Settings()))
    of_chart = expressions(chart_thresholds())
    follows = set()
    for settings in with_another_number(Settings()):
        others = expressions(rendered_thresholds(settings))
        pairs = enumerate(zip(defaults, others, strict=True))
        follows |= {at for at, (default, other) in pairs if default != other}
    assert follows == {at for at, text in enumerate(of_chart) if ".Values.config" in text}


def with_another_number(settings: Model) -> Iterator[Model]:
    """Yield copies, each of which differs in one number."""
    for name, value in settings:
        if isinstance(value, BaseModel):
            for changed in with_another_number(value):
                yield settings.model_copy(update={name: changed})
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield settings.model_copy(update={name: value + 1})


def test_kubectl_apply_f_finds_only_the_default() -> None:
    read = [path for path in FOLDER.iterdir() if path.suffix in (".json", ".yaml", ".yml")]
    assert read == [DEFAULT]


def test_kubectl_reads_exactly_the_objects_of_the_default(kubectl: str) -> None:
    # kubectl reads a folder the same way for every command. This one needs no cluster.
    command = [kubectl, "label", "--local", "--filename", str(FOLDER), "a=b", "--output", "name"]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    names = [line.split("/")[1] for line in answer.stdout.splitlines()]
    assert names == [found["metadata"]["name"] for found in rendered()]


def texts(value: Any) -> Iterator[str]:
    """Yield the templates within a receiver, in order."""
    if isinstance(value, str) and "{{" in value:
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts(item)


@pytest.mark.parametrize("status", ["firing", "resolved"])
def test_the_texts_for_slack_equal_those_of_the_template_file(
    status: str, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    (tmp_path / "none.tmpl").touch()
    alert = {
        "status": status,
        "labels": {"alertname": "EmbeddingDriftLarge", "severity": "critical", "window": "fast"},
        "annotations": {
            "summary": "Embeddings of a<b have drifted",
            "description": "Score 9 & more",
            "runbook_url": "http://example.org/runbook",
            "dashboard_url": "http://example.org/drift",
        },
        "startsAt": "2024-05-01T10:00:00Z",
        "endsAt": "2024-05-01T11:00:00Z",
    }
    data = {
        "status": status,
        "alerts": [alert],
        "commonLabels": alert["labels"],
        "externalURL": "http://alertmanager.example.org",
    }
    (tmp_path / "data.json").write_text(json.dumps(data))

    def shown(text: str, templates: Path) -> str:
        command = [tool("amtool"), "template", "render", f"--template.glob={templates}"]
        command += [f"--template.text={text}", f"--template.data={tmp_path / 'data.json'}"]
        answer = subprocess.run(command, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    original = yaml.safe_load((ALERTMANAGER / "alertmanager.yml").read_text())["receivers"][0]
    converted = alertmanager_config()["receivers"][0]
    pairs = list(zip(texts(original), texts(converted), strict=True))
    assert len(pairs) == 9
    for before, after in pairs:
        expected = shown(before, ALERTMANAGER / "slack.tmpl")
        assert expected.strip()
        assert shown(after, tmp_path / "none.tmpl") == expected
