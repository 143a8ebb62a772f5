"""The part of Alertmanager's configuration that joins one which is already there.

It has the shape of a configuration. Each of its lists goes in front of the list of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

OURS = 'alertname=~"Embedding(Drift.+|ModelChanged)"'
"""The matcher of all alerts of this project, and of no others."""

_PREFIX = "embedding-drift-"


def fragment(configuration: Mapping[str, Any], template: Path) -> dict[str, Any]:
    """Limit a configuration to our alerts.

    Parameters
    ----------
    configuration : mapping
        Alertmanager's configuration for our alerts alone.
    template : Path
        Absolute path of the file of Slack templates.

    Returns
    -------
    dict
        One route below the root, receivers whose names have a prefix, and inhibition rules that
        neither suppress alerts of others nor are caused by them.
    """
    return {
        "templates": [str(template)],
        "route": {"routes": [{"matchers": [OURS]} | _renamed(configuration["route"])]},
        "inhibit_rules": [_limited(rule) for rule in configuration["inhibit_rules"]],
        "receivers": [
            receiver | {"name": _PREFIX + receiver["name"]}
            for receiver in configuration["receivers"]
        ],
    }


def _renamed(route: Mapping[str, Any]) -> dict[str, Any]:
    renamed = {**route, "receiver": _PREFIX + route["receiver"]}
    if "routes" in route:
        renamed["routes"] = [_renamed(child) for child in route["routes"]]
    return renamed


def _limited(rule: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: [OURS, *value]
        if key.endswith("_matchers") and not any(each.startswith("alertname") for each in value)
        else value
        for key, value in rule.items()
    }
