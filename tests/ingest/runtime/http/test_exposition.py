"""The metrics page: how long it may take is what Prometheus says."""

from __future__ import annotations

import math
import time

import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ingest.runtime.http import exposition


class Observer(Collector):
    """Notes how much time it was given."""

    def __init__(self) -> None:
        self.given = math.nan

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> list[Metric]:
        self.given = exposition.deadline.get() - time.monotonic()
        return []


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({}, math.inf, math.inf),
        ({"X-Prometheus-Scrape-Timeout-Seconds": "100"}, 60, 90),
        ({"X-Prometheus-Scrape-Timeout-Seconds": "soon"}, math.inf, math.inf),
    ],
)
def test_collectors_learn_when_prometheus_gives_up(
    headers: dict[str, str], least: float, most: float
) -> None:
    registry, observer = CollectorRegistry(), Observer()
    registry.register(observer)
    app = Starlette(routes=[exposition.route(registry)])
    TestClient(app).get("/metrics", headers=headers)
    assert least <= observer.given <= most
    assert exposition.deadline.get() == math.inf


def test_the_process_tells_of_itself_without_created_series() -> None:
    app = Starlette(routes=[exposition.route(exposition.process_registry())])
    page = TestClient(app).get("/metrics").text
    assert "process_resident_memory_bytes" in page
    assert "python_info" in page
    assert "_created" not in page
