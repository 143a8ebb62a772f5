"""Libraries that are not installed."""

from __future__ import annotations

import sys

import pytest

from ingest.runtime import extras


def test_the_python_that_runs_installs_what_is_missing() -> None:
    command = f"{sys.executable} -m pip install 'embedding-drift-exporter[kafka]'"
    assert extras.needs("confluent_kafka", "kafka") == f"needs confluent_kafka: {command}"


def test_in_the_image_the_pip_of_the_base_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    monkeypatch.setattr(sys, "executable", "/opt/embedding-drift/bin/python")
    assert extras.installs("kafka") == (
        "pip --python /opt/embedding-drift/bin/python install 'embedding-drift-exporter[kafka]'"
    )
