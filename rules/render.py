"""Render the configuration into files for Prometheus and Alertmanager.

No alert is decided here. Thresholds become recording rules; the alert rules compare with them in
PromQL.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Collection, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ingest.runtime.errors import Problem, SettingsError
from ingest.runtime.settings.settings import AlertingSettings, Settings
from ingest.runtime.thresholds import CANARY, SCORE
from rules.fragment import fragment

SEASONAL_ANOMALY = 5.0
"""Forecast error above which a window is anomalous, in robust standard deviations.

Larger than the 3 of the forecast's band, because forecast errors have heavier tails than a normal
distribution.
"""

_RULES = ("drift.rules.yaml", "notifications.rules.yaml", "pipeline.rules.yaml")
_WATCHDOG = "watchdog.rules.yaml"
_THRESHOLDS = "thresholds.rules.yaml"
_ALERTMANAGER = "alertmanager.yml"
_ALERTMANAGER_NEW = f"{_ALERTMANAGER}.new"
_FRAGMENT = "alertmanager.fragment.yml"
_TEMPLATE = "slack.tmpl"
_WEBHOOK = "slack_webhook"

_HEADER = "# Written by `embedding-drift rules render` from the configuration; edit that instead.\n"
_EDITABLE = """\
# Written by `embedding-drift rules render` from the configuration. Once you have edited this file,
# the command leaves it as it is, and writes the next one beside it, into alertmanager.yml.new.
"""
_CHECKSUM = "# Checksum of what follows: "


def render(settings: Settings, output: Path, *, merged: bool = False) -> list[Path]:
    """Write rules, Alertmanager's configuration and its template.

    All files are written to a temporary folder first and then replaced. A full disk leaves the old
    files in place.

    Parameters
    ----------
    settings : Settings
        The validated configuration.
    output : Path
        Folder to write into; created if it does not exist. Alertmanager reads the Slack webhook
        from there, so the folder must not move.
    merged : bool
        Whether to write a fragment to merge into a configuration of Alertmanager, instead of a
        configuration of its own.

    Returns
    -------
    list of Path
        The written files. ``slack_webhook`` holds a secret; only its owner can read it, who stays
        the one that it has. If ``alertmanager.yml`` was edited, it stays as it is, and
        ``alertmanager.yml.new`` is written.

    Raises
    ------
    SettingsError
        If the folder cannot be written.
    """
    output = output.resolve()
    webhook = settings.alerting.slack_webhook
    names = (*_RULES, _WATCHDOG) if settings.alerting.watchdog else _RULES
    texts = {name: _link(_source("rules", name), settings.alerting) for name in names}
    texts[_THRESHOLDS] = _HEADER + _dump(thresholds(settings))
    whole = alertmanager(settings, output / _WEBHOOK)
    if merged:
        part = fragment(yaml.safe_load(whole), output / _TEMPLATE)
        texts[_FRAGMENT] = _HEADER + _dump(part)
    else:
        is_edited = _is_edited(output / _ALERTMANAGER)
        texts[_ALERTMANAGER_NEW if is_edited else _ALERTMANAGER] = _with_checksum(whole)
    texts[_TEMPLATE] = _source("alertmanager", _TEMPLATE)
    if webhook is not None:
        texts[_WEBHOOK] = webhook.get_secret_value() + "\n"

    try:
        _replace(output, texts)
    except OSError as error:
        raise SettingsError(f"{output} cannot be written: {error.strerror}") from error
    return [output / name for name in texts]


def _replace(output: Path, texts: Mapping[str, str]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".render-") as staging:
        for name, text in texts.items():
            staged = Path(staging, name)
            staged.touch(mode=0o600 if name == _WEBHOOK else 0o644)
            staged.write_text(text, encoding="utf-8")
            if name == _WEBHOOK and (output / name).exists():
                # The user that runs Alertmanager, not the one that renders.
                owner = (output / name).stat()
                os.chown(staged, owner.st_uid, owner.st_gid)
        for name in texts:
            os.replace(Path(staging, name), output / name)
    optional = {_WEBHOOK, _WATCHDOG, _ALERTMANAGER_NEW}
    if _ALERTMANAGER not in texts and (output / _ALERTMANAGER).exists():
        optional.remove(_WEBHOOK)  # the one that stays may read it
    for name in optional - set(texts):
        (output / name).unlink(missing_ok=True)


def _with_checksum(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{_EDITABLE}{_CHECKSUM}{digest}\n{text}"


def _is_edited(file: Path) -> bool:
    """Whether somebody has changed a file since it was rendered, or has written it."""
    try:
        found = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if found.startswith(_HEADER.encode()):
        return False  # by a release that replaced it, too
    after = found.partition(_CHECKSUM.encode())[2].partition(b"\n")[2]
    return found != _with_checksum(after.decode(errors="replace")).encode()


def has_webhook(output: Path) -> bool:
    """Return whether a folder has the file with the webhook of Slack."""
    return (output / _WEBHOOK).exists()


def check_models(settings: Settings, known: Collection[str]) -> None:
    """Reject thresholds of unknown models.

    Raises
    ------
    SettingsError
        With the key of each unknown model.
    """
    unknown = sorted(set(settings.monitoring.models) - set(known))
    if unknown:
        raise SettingsError(
            "the thresholds cannot be rendered:",
            [Problem(f"monitoring.models.{name}", "no such model is known") for name in unknown],
        )


def thresholds(settings: Settings) -> dict[str, Any]:
    """Return the rule file that records each threshold as a series."""
    fleet = {
        "magnitude_warning": settings.monitoring.drift_threshold,
        "magnitude_critical": settings.alerting.alert_threshold,
        "baseline_vectors": settings.monitoring.baseline.vectors,
        "seasonal_anomaly": SEASONAL_ANOMALY,
    }
    rules = [_record(f"fleet:embedding_drift_{n}:threshold", v) for n, v in fleet.items()]
    for stage, score in SCORE.items():
        for window, thresholds in score.items():
            for name, value in thresholds._asdict().items():
                if math.isfinite(value):
                    series = f"fleet:embedding_drift_score_{name}:threshold"
                    rules.append(_record(series, value, stage=stage, window=window))
    for (aggregate, severity), distance in CANARY.items():
        series = "fleet:embedding_drift_canary_distance:threshold"
        rules.append(_record(series, distance, aggregate=aggregate, severity=severity))
    after = settings.alerting.escalation
    for severity, seconds in (("info", after.info_after), ("warning", after.warning_after)):
        name = "fleet:embedding_drift_escalation_seconds:threshold"
        rules.append(_record(name, seconds, severity=severity))
    rules += _overrides(settings)
    return {"groups": [{"name": "embedding-drift-thresholds", "rules": rules}]}


def _overrides(settings: Settings) -> list[dict[str, Any]]:
    rules = []
    for name, model in settings.monitoring.models.items():
        own = {
            "magnitude_warning": model.drift_threshold,
            "magnitude_critical": model.alert_threshold,
        }
        for threshold, value in own.items():
            if value is not None:
                series = f"model:embedding_drift_{threshold}:override"
                rules.append(_record(series, value, model_name=name))
    return rules


def _record(name: str, value: float, **labels: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"record": name, "expr": f"vector({value!r})"}
    return rule | {"labels": labels} if labels else rule


def alertmanager(settings: Settings, webhook_file: Path) -> str:
    """Return Alertmanager's configuration; its receivers read the webhook from ``webhook_file``.

    The path is absolute, because Alertmanager resolves a relative ``api_url_file`` against its
    working folder. Without a webhook, the receivers have no Slack integration.
    """
    text = _source("alertmanager", _ALERTMANAGER)
    if settings.alerting.slack_webhook is not None:
        # A JSON string is valid YAML, and json.dumps quotes any character a path may have.
        path = json.dumps(str(webhook_file), ensure_ascii=False)
        before, shipped, after = text.partition("api_url_file: slack_webhook")
        assert shipped, f"{_ALERTMANAGER} does not use slack_webhook"
        return f"{before}api_url_file: {path}{after}"
    configuration: dict[str, Any] = yaml.safe_load(text)
    for receiver in configuration["receivers"]:
        receiver.pop("slack_configs", None)
    return _dump(configuration)


def _source(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")


def _link(text: str, alerting: AlertingSettings) -> str:
    """Replace the default URLs of the shipped rules by the configured ones."""
    default = _links(AlertingSettings())
    links = dict(zip(default, _links(alerting), strict=True))
    return re.sub("|".join(map(re.escape, default)), lambda match: links[match[0]], text)


class _Links(NamedTuple):
    """Prefixes of links, longest first; a heading or a model name follows them."""

    runbook: str
    model: str
    exporter: str


def _links(alerting: AlertingSettings) -> _Links:
    exporter = str(alerting.exporter_url).rstrip("/") + "/"
    model = f"{exporter}drift/"
    if alerting.dashboard_url is not None:
        dashboard = str(alerting.dashboard_url)
        model = f"{dashboard}{'&' if '?' in dashboard else '?'}var-model_name="
    runbook = alerting.runbook_url or f"{exporter}runbook"
    return _Links(f"{runbook}#", model, exporter)


class _Dumper(yaml.SafeDumper):
    """Writes shared values in full instead of YAML anchors, which are hard to read."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _dump(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100)
