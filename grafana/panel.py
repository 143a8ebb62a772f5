"""One panel, and its JSON."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Any, Literal

from grafana.query import Query
from ingest.runtime.family import Family

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
"""Columns of Grafana's grid."""

THRESHOLD = "threshold: "
"""Prefix of the names of series that are drawn dashed."""

Kind = Literal["timeseries", "stat", "table", "state-timeline"]
Override = dict[str, Any]

_UNITS = {"seconds": "s", "bytes": "bytes", "ratio": "percentunit"}
_OPTIONS: dict[Kind, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "colorMode": "none",
        "graphMode": "none",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    },
    "table": {"showHeader": True},
    "state-timeline": {"mergeValues": True, "showValue": "never"},
}
_DASHED: Override = {
    "matcher": {"id": "byRegexp", "options": f"^{THRESHOLD}.*"},
    "properties": [
        {"id": "custom.lineStyle", "value": {"dash": [10, 10], "fill": "dash"}},
        {"id": "custom.fillOpacity", "value": 0},
    ],
}


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel.

    Attributes
    ----------
    title : str
    queries : tuple of Query
        In a table, each query is a column, named by its legend.
    unit : str, optional
        Grafana's id of a unit. By default it follows from the metric name of the first query.
    note : str
        Added to the description, after the help of the metrics.
    width, height : int
        In columns (of 24) and rows of Grafana's grid.
    link : str, optional
        URL that a click on a series or row opens.
    overrides : tuple of dict
        Grafana's field overrides.
    """

    title: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    unit: str | None = None
    note: str = ""
    width: int = 12
    height: int = 8
    link: str | None = None
    overrides: tuple[Override, ...] = ()

    @property
    def description(self) -> str:
        """The help of every family that is shown, then the note."""
        shown = [query.family.help for query in self.queries if query.family is not None]
        return " ".join([*dict.fromkeys(shown), self.note]).strip()

    def json(self) -> dict[str, Any]:
        """Return the panel, without its id and position."""
        return {
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "fieldConfig": {"defaults": self._defaults(), "overrides": self._overrides()},
            "options": _OPTIONS[self.kind] | self._sorting(),
            "targets": [
                self._target(letter, query)
                for letter, query in zip(string.ascii_uppercase, self.queries, strict=False)
            ],
            "transformations": self._columns() if self.kind == "table" else [],
        }

    def _defaults(self) -> dict[str, Any]:
        unit = self.unit or next(unit_of(q.family) for q in self.queries if q.family)
        link = [{"title": "Model", "url": self.link}] if self.link else []
        return {"unit": unit, "links": link}

    def _overrides(self) -> list[Override]:
        has_threshold = any(query.legend.startswith(THRESHOLD) for query in self.queries)
        return [*self.overrides, *([_DASHED] if has_threshold else [])]

    def _sorting(self) -> dict[str, Any]:
        if self.kind != "table":
            return {}
        return {"sortBy": [{"displayName": self.queries[0].legend, "desc": True}]}

    def _target(self, letter: str, query: Query) -> dict[str, Any]:
        is_table = self.kind == "table"
        return {
            "refId": letter,
            "datasource": DATASOURCE,
            "expr": query.expr,
            "legendFormat": query.legend,
            "format": "table" if is_table else "time_series",
            "instant": is_table,
            "range": not is_table,
        }

    def _columns(self) -> list[dict[str, Any]]:
        names = {
            f"Value #{letter}": query.legend
            for letter, query in zip(string.ascii_uppercase, self.queries, strict=False)
        }
        organize = {"excludeByName": {"Time": True}, "indexByName": {}, "renameByName": names}
        return [
            {"id": "merge", "options": {}},
            {"id": "organize", "options": organize},
        ]


def unit_of(family: Family) -> str:
    """Return Grafana's unit for a metric, from the last word of its name."""
    return _UNITS.get(family.name.rpartition("_")[2], "none")
