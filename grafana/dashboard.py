"""One dashboard: its panels, variables and links, and its JSON.

The fields follow Grafana's classic dashboard model, as @grafana/schema 10.0 and 12.0 define it. 36
is the schema version of Grafana 10.0; later versions convert it when they load it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from exporter.metrics import families
from grafana.panel import DATASOURCE, WIDTH, Panel
from grafana.query import Scope
from ingest.pipeline import metrics

TAG = "embedding-drift"
MODEL_UID = "embedding-drift-model"
ALL = ".+"
_MODELS = Scope().select(families.VECTORS)
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Section:
    """Panels under one heading, placed from left to right and from top to bottom."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard.

    ``alerts`` selects the firing alerts that are shown as annotations. ``pins`` is the PromQL of
    the pins that are, too: see `grafana.drift.pins`. ``versions`` is that of the versions of the
    encoder: see `grafana.drift.versions`.
    """

    uid: str
    title: str
    description: str
    variables: tuple[Json, ...]
    alerts: str
    pins: str
    versions: str
    sections: tuple[Section, ...]
    links: tuple[Json, ...] = ()

    def json(self) -> Json:
        """Return the JSON that Grafana loads."""
        return frame(self.uid, self.title, self.description) | {
            "annotations": {
                "list": [_alerts(self.alerts), _pins(self.pins), _versions(self.versions)]
            },
            "links": [*others(), *self.links],
            "panels": [
                {"id": number, **panel} for number, panel in enumerate(self._panels(), start=1)
            ],
            "templating": {"list": [datasource("datasource", "prometheus"), *self.variables]},
        }

    def _panels(self) -> Iterator[Json]:
        top = 0
        for section in self.sections:
            yield _heading(section.title, top)
            left, top, tallest = 0, top + 1, 0
            for panel in section.panels:
                if left + panel.width > WIDTH:
                    left, top, tallest = 0, top + tallest, 0
                place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
                yield {**panel.json(), "gridPos": place}
                left, tallest = left + panel.width, max(tallest, panel.height)
            top += tallest


def frame(uid: str, title: str, description: str) -> Json:
    """Return the fields that all dashboards share."""
    return {
        "uid": uid,
        "title": f"Embedding drift / {title}",
        "description": description,
        "tags": [TAG],
        "schemaVersion": 36,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
    }


def datasource(name: str, plugin: str) -> Json:
    """Return a variable for the data source."""
    return {
        "type": "datasource",
        "name": name,
        "label": "Data source",
        "query": plugin,
        "refresh": 1,
    }


def values(name: str, of: str, selector: str, *, label: str, multi: bool = True) -> Json:
    """Return a variable for the values of a label in the series of a selector."""
    variable: Json = {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": f"label_values({selector}, {of})",
        "refresh": 2,
        "sort": 1,
        "multi": multi,
        "includeAll": multi,
    }
    everything = {"selected": True, "text": ["All"], "value": ["$__all"]}
    return variable | ({"allValue": ALL, "current": everything} if multi else {})


def processes() -> tuple[Json, Json]:
    """Return variables for job and instance of the exporters and of ingest.

    All dashboards have the same ones: links between dashboards pass on what was chosen.
    """
    names = f'{{__name__=~"{families.UP.name}|{metrics.QUEUE.name}"'
    return (
        values("job", "job", f"{names}}}", label="Job"),
        values("instance", "instance", f'{names}, job=~"$job"}}', label="Instance"),
    )


def model() -> Json:
    """Return a variable for one model."""
    return values("model_name", "model_name", _MODELS, label="Model", multi=False)


def models() -> Json:
    """Return a variable for some models or all.

    It is not named as that for one model, which could not take "All" from a link.
    """
    return values("models", "model_name", _MODELS, label="Models")


def text(name: str, default: str, *, label: str) -> Json:
    """Return a variable for a text that the reader types."""
    chosen = {"selected": True, "text": default, "value": default}
    return {
        "type": "textbox",
        "name": name,
        "label": label,
        "query": default,
        "current": chosen,
        "options": [chosen],
    }


def firing(matchers: str) -> str:
    """Return the selector of the firing alerts of this project."""
    ours = 'alertname=~"Embedding(Drift.+|ModelChanged)"'
    return f'ALERTS{{{ours}, alertstate="firing", {matchers}}}'


def url(title: str, address: str) -> Json:
    """Link to a page outside Grafana."""
    return _link(title, type="link", url=address, icon="external link", targetBlank=True)


def others() -> list[Json]:
    """Link to the other dashboards of this project."""
    options = {"asDropdown": True, "includeVars": True, "keepTime": True}
    return [_link("Embedding drift", type="dashboards", tags=[TAG], **options)]


def _link(title: str, **options: object) -> Json:
    return {"title": title, "tooltip": "", "icon": "", "url": "", "tags": [], **options}


def _alerts(alerts: str) -> Json:
    return {
        "name": "Firing alerts",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": firing(alerts),
        "step": "60s",
        "titleFormat": "{{alertname}}",
        "textFormat": "{{model_name}} {{window}}",
        "tagKeys": "severity",
    }


def _pins(expr: str) -> Json:
    return {
        "name": "Pinned baselines",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "blue",
        "expr": expr,
        "step": "60s",
        "useValueForTime": True,
        "titleFormat": "Baseline {{version}} pinned",
        "textFormat": "{{model_name}}: version {{version}}, {{stage}}",
        "tagKeys": "stage",
    }


def _versions(expr: str) -> Json:
    return {
        "name": "Versions of the encoder",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "purple",
        "expr": expr,
        "step": "60s",
        "titleFormat": "model_version {{value}}",
        "textFormat": "{{model_name}}: most vectors are of model_version {{value}} now",
        "tagKeys": "value",
    }


def _heading(title: str, top: int) -> Json:
    place = {"x": 0, "y": top, "w": WIDTH, "h": 1}
    return {"type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
