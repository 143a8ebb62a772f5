"""Every query of the dashboards runs against the metric tables and a real Prometheus."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from demo.stack import Prometheus
from exporter.metrics import families
from grafana.__main__ import dashboards
from ingest.pipeline import metrics
from ingest.runtime.family import Family
from ingest.runtime.http import application
from ingest.runtime.settings.settings import Settings
from rules.render import render

# One incident for all, of each release of Prometheus.
pytestmark = pytest.mark.xdist_group("grafana")

FAMILIES = {
    family.name: family
    for family in (
        *families.FAMILIES,
        *metrics.FAMILIES,
        *metrics.WATCH_FAMILIES,
        *application.FAMILIES,
    )
}
CHOSEN = {
    "$__rate_interval": "1m",
    "$models": ".+",
    "$model_name": "all-MiniLM-L6-v2",
    "$job": ".+",
    "$instance": ".+",
    "$window": ".+",
}
# Labels that scraping, alerting and count_values add to those of the metric table.
ADDED = {"job", "instance", "alertname", "alertstate", "area", "le", "version", "__name__"}


def expressions() -> Iterator[tuple[str, str]]:
    """Yield the place and the PromQL of each query."""
    for file, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                if "expr" in target:
                    yield f"{file}: {panel['title']} {target['refId']}", target["expr"]
        for annotation in dashboard["annotations"]["list"]:
            yield f"{file}: {annotation['name']}", annotation["expr"]


def variables() -> Iterator[tuple[str, str, str]]:
    """Yield the place, selector and label of each variable."""
    for file, dashboard in dashboards().items():
        for variable in dashboard["templating"]["list"]:
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
            if found is not None:
                yield f"{file}: {variable['name']}", found[1], found[2]


QUERIES = list(expressions())
VARIABLES = list(variables())
SELECTORS = [(where, expr) for where, expr, _ in VARIABLES]


def family_of(metric: str) -> Family | None:
    return FAMILIES.get(metric) or FAMILIES.get(metric.removesuffix("_bucket"))


def shown(prometheus: Prometheus, expression: str) -> list[dict[str, Any]]:
    """Query the last minutes as Grafana does, because a single scrape may have failed."""
    now = time.time()
    return prometheus.query_range(choose(expression), now - 300, now)


def choose(expression: str) -> str:
    for variable, value in CHOSEN.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("rules")
    render(Settings(), folder)
    return {
        rule["record"]
        for file in folder.glob("*.rules.yaml")
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }


@pytest.mark.parametrize(("where", "expr"), QUERIES + SELECTORS)
def test_a_query_uses_only_metrics_that_are_exported_or_recorded(
    where: str, expr: str, recorded: set[str]
) -> None:
    named = set(re.findall(r"[\w:]*embedding_drift_[\w:]+", expr))
    assert named or expr.startswith(("ALERTS", "count(ALERTS"))
    assert {name for name in named if ":" in name} <= recorded
    assert all(family_of(name) for name in named if ":" not in name)


@pytest.mark.parametrize(("where", "expr"), QUERIES + SELECTORS)
def test_a_query_uses_only_labels_that_its_metric_has(where: str, expr: str) -> None:
    for metric, matchers in re.findall(r"(?<![:\w])(embedding_drift_\w+)\{([^}]*)\}", expr):
        family = family_of(metric)
        assert family is not None
        assert set(re.findall(r"(\w+)[=!]", matchers)) <= set(family.labels) | ADDED
    grouped = {
        label for by in re.findall(r"by \(([^)]*)\)", expr) for label in re.findall(r"\w+", by)
    }
    known = {
        label
        for name in re.findall(r"embedding_drift_\w+", expr)
        for label in getattr(family_of(name), "labels", ())
    }
    assert grouped <= known | ADDED


def test_every_metric_is_drawn_somewhere() -> None:
    text = " ".join(expr for _, expr in QUERIES)
    assert {name for name in FAMILIES if not re.search(rf"\b{name}(_bucket)?\{{", text)} == set()


@pytest.mark.parametrize(
    ("where", "expr"),
    # In the incident, no other version of the encoder becomes the usual one.
    [query for query in QUERIES if not query[0].endswith(": Versions of the encoder")],
)
def test_a_query_returns_data_in_an_incident(where: str, expr: str, prometheus: Prometheus) -> None:
    # A zero that stands for nothing would hide that nothing was found.
    expr = expr.removesuffix(" or vector(0)")
    assert shown(prometheus, expr), f"no series: {expr}"


def test_a_pin_is_shown_at_its_time_with_version_and_stage(prometheus: Prometheus) -> None:
    pins = [expr for where, expr in QUERIES if where.endswith(": Pinned baselines")]
    assert len(pins) == 3
    for expr in pins:
        [found] = shown(prometheus, expr)
        assert found["metric"] == {
            "model_name": "all-MiniLM-L6-v2",
            "version": "1",
            "stage": "provisional",
        }
        [pinned] = {float(value) / 1000 for _, value in found["values"]}
        assert abs(time.time() - pinned) < 1_000


@pytest.mark.parametrize(("where", "selector", "label"), VARIABLES)
def test_a_variable_has_values(
    where: str, selector: str, label: str, prometheus: Prometheus
) -> None:
    series = shown(prometheus, selector)
    assert series
    assert all(label in sample["metric"] for sample in series)


def test_the_band_around_cosine_similarity_uses_the_names_of_its_series(
    prometheus: Prometheus,
) -> None:
    (panel,) = [
        panel
        for panel in dashboards()["model.json"]["panels"]
        if panel["title"] == "Cosine similarity"
    ]
    drawn = {
        target["legendFormat"].replace("{{window}}", sample["metric"].get("window", ""))
        for target in panel["targets"]
        for sample in shown(prometheus, target["expr"])
    }
    for override in panel["fieldConfig"]["overrides"]:
        assert override["matcher"]["options"] in drawn
        (below,) = [
            each["value"] for each in override["properties"] if each["id"] == "custom.fillBelowTo"
        ]
        assert below in drawn
