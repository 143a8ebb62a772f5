"""Reloads: settings are replaced completely or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from ingest.runtime.errors import SettingsError
from ingest.runtime.settings.configuration import load
from ingest.runtime.settings.reload import LiveSettings
from ingest.runtime.settings.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("ingest: {max_models: 5}")
    return path


@pytest.fixture
def live(file: Path) -> LiveSettings:
    return LiveSettings(lambda: load(file))


def received(live: LiveSettings) -> list[Settings]:
    heard: list[Settings] = []
    live.subscribe(heard.append)
    return heard


def successful(live: LiveSettings) -> float | None:
    registry = CollectorRegistry()
    live.register(registry)
    return registry.get_sample_value("embedding_drift_config_last_reload_successful")


def test_listeners_get_the_new_settings(file: Path, live: LiveSettings) -> None:
    heard = received(live)
    file.write_text("ingest: {max_models: 7}\nmonitoring: {stale_after: 60}")
    live.reload()
    assert live.settings.ingest.max_models == 7
    assert heard == [live.settings]
    assert successful(live) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ingest: {max_models: none}", "ingest.max_models"),
        ("ingest: [", "not valid YAML"),
        ("server: {port: 1}", r"server\.port: takes effect only at the start"),
        ("monitoring: {windows: {fast: {seconds: 60}}}", r"monitoring\.windows\.fast\.seconds"),
    ],
)
def test_an_invalid_configuration_changes_nothing(
    file: Path, live: LiveSettings, text: str, reason: str
) -> None:
    heard = received(live)
    file.write_text(text)
    with pytest.raises(SettingsError, match=reason):
        live.reload()
    assert live.settings.ingest.max_models == 5
    assert heard == []
    assert successful(live) == 0
    file.write_text("ingest: {max_models: 6}")
    live.reload()
    assert successful(live) == 1
