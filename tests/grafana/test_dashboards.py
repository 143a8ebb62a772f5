"""The committed files are up to date and follow the rules of Grafana's dashboard-linter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.metrics.families import VECTORS
from grafana.__main__ import FOLDER, files

ROOT = Path(__file__).parent.parent.parent
FILES = sorted(FOLDER.glob("*.json"))
DASHBOARDS = {file.name: json.loads(file.read_text()) for file in FILES}
OF_PROMETHEUS = {name: each for name, each in DASHBOARDS.items() if name != "texts.json"}
UNITS = {"none", "s", "bytes", "percentunit", "cps", "reqps", "bool_yes_no"}
EXCLUSIONS = yaml.safe_load((FOLDER / ".lint").read_text())["exclusions"]

every = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)
of_prometheus = pytest.mark.parametrize("dashboard", OF_PROMETHEUS.values(), ids=OF_PROMETHEUS)

Json = dict[str, Any]


def panels(dashboard: Json) -> list[Json]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def targets(dashboard: Json) -> Iterator[tuple[Json, int, Json]]:
    for panel in panels(dashboard):
        for index, target in enumerate(panel["targets"]):
            yield panel, index, target


def variable(dashboard: Json, name: str) -> Json:
    listed: list[Json] = dashboard["templating"]["list"]
    [found] = [each for each in listed if each["name"] == name]
    return found


def source_of(dashboard: Json) -> Json:
    listed: list[Json] = dashboard["templating"]["list"]
    [found] = [each for each in listed if each["type"] == "datasource"]
    return found


def values_of(variable: Json) -> tuple[str, str]:
    """Return what the values of a variable are: of which type, and of what."""
    query = re.sub(r'[\w:]+=~?"\$\w+"(, )?', "", variable["query"])  # narrowed by other variables
    if found := re.fullmatch(r"select (\w+) from .*", query):
        query = f"label_values({VECTORS.name}{{}}, {found[1]})"
    return variable["type"], query


def links() -> Iterator[tuple[str, str, str]]:
    """Yield each variable that a link passes on: source, target, name."""
    for source, dashboard in DASHBOARDS.items():
        names = [each["name"] for each in dashboard["templating"]["list"]]
        for link in dashboard["links"]:
            if link["type"] == "dashboards":
                assert link["includeVars"]
                tagged = [name for name, each in DASHBOARDS.items() if link["tags"] == each["tags"]]
                yield from ((source, target, name) for target in tagged for name in names)
        of_panels = {
            link["url"]
            for panel in panels(dashboard)
            for link in panel["fieldConfig"]["defaults"].get("links", ())
        }
        for target, other in DASHBOARDS.items():
            for url in of_panels:
                if url.startswith(f"/d/{other['uid']}?"):
                    yield from ((source, target, name) for name in re.findall(r"{(\w+):", url))


def test_the_committed_files_are_up_to_date() -> None:
    committed = {file.name: file.read_text(encoding="utf-8") for file in FOLDER.iterdir()}
    assert committed == files(), "make dashboards"


def test_the_dashboards_have_the_addresses_that_links_use() -> None:
    assert {name: each["uid"] for name, each in DASHBOARDS.items()} == {
        "fleet.json": "embedding-drift-fleet",
        "model.json": "embedding-drift-model",
        "pipeline.json": "embedding-drift-pipeline",
        "texts.json": "embedding-drift-texts",
    }


@every
def test_a_dashboard_is_not_edited_in_place(dashboard: Json) -> None:
    assert dashboard["editable"] is False


@every
def test_grafana_10_knows_the_schema(dashboard: Json) -> None:
    assert dashboard["schemaVersion"] == 36


@every
def test_its_data_source_is_a_variable(dashboard: Json) -> None:
    source = source_of(dashboard)
    assert source["label"] == "Data source"
    for panel, _, target in targets(dashboard):
        assert panel["datasource"] == target["datasource"]
        assert panel["datasource"] == {"type": source["query"], "uid": f"${{{source['name']}}}"}


@of_prometheus
@pytest.mark.parametrize("name", ["job", "instance"])
def test_job_and_instance_can_be_chosen(dashboard: Json, name: str) -> None:
    found = variable(dashboard, name)
    assert found["type"] == "query"
    assert found["datasource"]["uid"] == "${datasource}"
    assert found["label"] == name.title()
    assert (found["multi"], found["allValue"]) == (True, ".+")


@of_prometheus
def test_choices_from_queries_follow_the_time_range(dashboard: Json) -> None:
    chosen = [each for each in dashboard["templating"]["list"] if each["type"] == "query"]
    assert {each["refresh"] for each in chosen} == {2}


@every
def test_every_panel_has_a_description_and_a_unit(dashboard: Json) -> None:
    for panel in panels(dashboard):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["targets"]


@of_prometheus
@pytest.mark.parametrize("label", ["job", "instance"])
def test_a_query_selects_the_chosen_processes_unless_it_reads_a_rule(
    dashboard: Json, label: str
) -> None:
    excluded = EXCLUSIONS[f"target-{label}-rule"]["entries"]
    for panel, index, target in targets(dashboard):
        selectors = target["expr"].count("{")
        entry = {"dashboard": dashboard["title"], "panel": panel["title"], "targetIdx": index}
        if entry in excluded:
            assert target["expr"].startswith(("model:", "model_window:", "fleet:", "count(ALERTS{"))
        else:
            assert target["expr"].count(f'{label}=~"${label}"') == selectors


@of_prometheus
def test_counters_are_drawn_as_rates_over_grafanas_interval(dashboard: Json) -> None:
    for _, _, target in targets(dashboard):
        counters = target["expr"].count("_total{") + target["expr"].count("_bucket{")
        assert target["expr"].count("rate(") == counters
        assert target["expr"].count("[") == target["expr"].count("[$__rate_interval]") == counters


@every
def test_panels_neither_overlap_nor_leave_the_grid(dashboard: Json) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_a_series_links_from_the_fleet_to_the_model_and_to_its_report() -> None:
    links = [
        link["url"]
        for panel in panels(DASHBOARDS["fleet.json"])
        for link in panel["fieldConfig"]["defaults"]["links"]
    ]
    assert links
    for link in links:
        assert link.startswith("/d/embedding-drift-model?")
        assert "var-model_name=$" in link
    addresses = [link.get("url") for link in DASHBOARDS["model.json"]["links"]]
    assert "${exporter_url}/drift/${model_name:percentencode}" in addresses


@pytest.mark.parametrize(("source", "target", "name"), sorted(set(links())))
def test_a_variable_that_a_link_passes_means_the_same_where_it_arrives(
    source: str, target: str, name: str
) -> None:
    # Grafana keeps a value from an address even if it is none of the choices.
    theirs = [each for each in DASHBOARDS[target]["templating"]["list"] if each["name"] == name]
    for one, other in ((variable(DASHBOARDS[source], name), each) for each in theirs):
        assert values_of(one) == values_of(other)
        # One value fits where many or all do, but not the other way round.
        for several in ("multi", "includeAll"):
            assert one.get(several, False) <= other.get(several, False)


@of_prometheus
def test_firing_alerts_pins_and_versions_are_annotations(dashboard: Json) -> None:
    alerts, pins, versions = dashboard["annotations"]["list"]
    assert 'alertstate="firing"' in alerts["expr"]
    # The value of a pin is its time in milliseconds.
    assert pins["useValueForTime"] is True
    assert pins["textFormat"] == "{{model_name}}: version {{version}}, {{stage}}"
    assert 'slice="model_version"' in versions["expr"]


def test_provisioning_names_the_data_sources_and_the_folder_of_the_dashboards() -> None:
    folder = ROOT / "grafana" / "provisioning"
    sources = [
        source
        for file in sorted((folder / "datasources").iterdir())
        for source in yaml.safe_load(file.read_text())["datasources"]
    ]
    asked = {source_of(each)["query"] for each in DASHBOARDS.values()}
    assert {source["type"] for source in sources} == asked
    (provider,) = yaml.safe_load((folder / "dashboards" / "embedding-drift.yaml").read_text())[
        "providers"
    ]
    assert provider["type"] == "file"
    assert provider["allowUiUpdates"] is False
