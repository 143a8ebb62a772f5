"""PromQL of a panel, built from the metric tables and the variables of the dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ingest.runtime.family import Family

RATE = "[$__rate_interval]"

_TARGET = {"job": '=~"$job"', "instance": '=~"$instance"'}
_WHOLE = {"slice": '=""'}
"""Selects the series of all vectors of a model, not those of its slices."""
_LEVELS = {"fleet": (), "model": ("model_name",), "model_window": ("model_name", "window")}


@dataclass(frozen=True, slots=True)
class Query:
    """An expression and the legend of its series. ``family`` is the metric it shows."""

    expr: str
    legend: str
    family: Family | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """The selection by the variables of a dashboard: PromQL matchers by label name."""

    matchers: Mapping[str, str] = field(default_factory=dict)

    def select(self, family: Family, suffix: str = "", **others: str) -> str:
        """Return the selector of a family's series; ``others`` add or replace matchers."""
        return f"{family.name}{suffix}{_braces(_TARGET | self._chosen(family.labels) | others)}"

    def recorded(self, name: str, legend: str, **others: str) -> Query:
        """Query a recording rule. Its series have neither job nor instance."""
        level = name.partition(":")[0]
        matchers = self._chosen(_LEVELS[level]) | (_WHOLE if level == "model_window" else {})
        return Query(f"{name}{_braces(matchers | others)}", legend)

    def maximum(self, family: Family, *by: str, **others: str) -> Query:
        """Query a gauge. If replicas export the same series, the highest value counts."""
        return Query(f"max{_by(by)} ({self.select(family, **others)})", legend(by), family)

    def age(self, family: Family, *by: str) -> Query:
        """Query the seconds since a timestamp."""
        return Query(f"time() - max{_by(by)} ({self.select(family)})", legend(by), family)

    def rate(self, family: Family, *by: str) -> Query:
        """Query the rate of a counter per second, summed over the processes."""
        return Query(f"sum{_by(by)} (rate({self.select(family)}{RATE}))", legend(by), family)

    def quantile(self, q: float, family: Family) -> Query:
        """Query a quantile of a histogram over all processes."""
        buckets = f"sum by (le) (rate({self.select(family, '_bucket')}{RATE}))"
        return Query(f"histogram_quantile({q:g}, {buckets})", f"{q:.0%}", family)

    def _chosen(self, labels: tuple[str, ...]) -> dict[str, str]:
        chosen = {label: self.matchers[label] for label in labels if label in self.matchers}
        return chosen | (_WHOLE if {"window", "slice"} <= set(labels) else {})


def legend(labels: tuple[str, ...]) -> str:
    """Return a legend that shows the values of these labels."""
    return " ".join(f"{{{{{label}}}}}" for label in labels)


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""


def _braces(matchers: Mapping[str, str]) -> str:
    pairs = ", ".join(f"{label}{matcher}" for label, matcher in matchers.items())
    return f"{{{pairs}}}" if pairs else ""
