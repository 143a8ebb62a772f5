"""AlertmanagerConfig: the configuration of Alertmanager for the Prometheus Operator.

The object cannot have template files, so each text includes the definitions that it uses.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import yaml

# The secret that terraform/hand-over.sh.tftpl creates; the chart replaces its name.
_WEBHOOK = {"name": "embedding-drift-slack", "key": "slack_webhook"}

_RENAMED = {
    "source_matchers": "sourceMatch",
    "target_matchers": "targetMatch",
    "api_url_file": "apiURL",
}
_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"(.*)"')
_COMMENT = re.compile(r"\{\{- /\*.*?\*/ -\}\}\s*", re.DOTALL)
_USED = re.compile(r'\{\{-? template "([^"]+)"')


def alertmanager_config() -> dict[str, Any]:
    """Build it from alertmanager/alertmanager.yml and its Slack templates."""
    configuration = yaml.safe_load(_source("alertmanager.yml"))
    del configuration["templates"]
    spec: dict[str, Any] = _converted(configuration, _definitions(_source("slack.tmpl")))
    return spec


def _source(name: str) -> str:
    return files("alertmanager").joinpath(name).read_text(encoding="utf-8")


def _definitions(template: str) -> dict[str, str]:
    """Split a template file into its definitions, by name; blank lines separate them."""
    blocks = _COMMENT.sub("", template).strip().split("\n\n")
    return {block.split('"')[1]: block.strip() for block in blocks}


def _converted(value: Any, definitions: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {_name(key): _entry(key, item, definitions) for key, item in value.items()}
    if isinstance(value, list):
        return [_converted(item, definitions) for item in value]
    return _self_contained(value, definitions) if isinstance(value, str) else value


def _name(key: str) -> str:
    first, *rest = key.split("_")
    return _RENAMED.get(key, first + "".join(map(str.capitalize, rest)))


def _entry(key: str, value: Any, definitions: dict[str, str]) -> Any:
    if key == "api_url_file":
        return _WEBHOOK
    if key.endswith("matchers"):
        return [_matcher(text) for text in value]
    return _converted(value, definitions)


def _matcher(text: str) -> dict[str, str]:
    found = _MATCHER.fullmatch(text)
    if found is None:
        raise ValueError(
            f'alertmanager.yml: {text!r} is not a matcher; it must have the form NAME="VALUE"'
        )
    name, kind, value = found.groups()
    return {"name": name, "matchType": kind, "value": value}


def _self_contained(text: str, definitions: dict[str, str]) -> str:
    used: dict[str, None] = {}
    waiting = _USED.findall(text)
    while waiting:
        name = waiting.pop()
        used[name] = None
        waiting += [other for other in _USED.findall(definitions[name]) if other not in used]
    return "".join(definitions[name] for name in used) + text
