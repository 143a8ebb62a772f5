"""The metrics page: its format, its selection, and the time it may take."""

from __future__ import annotations

import math
import time

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ingest.runtime.http import exposition


class Observer(Collector):
    """Records the time until the deadline."""

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
def test_collectors_know_the_timeout_of_prometheus(
    headers: dict[str, str], least: float, most: float
) -> None:
    registry, observer = CollectorRegistry(), Observer()
    registry.register(observer)
    app = Starlette(routes=[exposition.route(registry)])
    TestClient(app).get("/metrics", headers=headers)
    assert least <= observer.given <= most
    assert exposition.deadline.get() == math.inf


def test_the_page_has_metrics_of_the_process_without_created_series() -> None:
    app = Starlette(routes=[exposition.route(exposition.process_registry())])
    page = TestClient(app).get("/metrics").text
    assert "process_resident_memory_bytes" in page
    assert "python_info" in page
    assert "_created" not in page


class Writer(Collector):
    """Yields a family that is written already, if that is wanted."""

    def describe(self) -> list[Metric]:
        return [Metric("written", "By hand.", "gauge")]

    def collect(self) -> list[Metric]:
        [family] = self.describe()
        family.add_sample("written", {}, 1.5)
        if (form := exposition.written.get()) is None:
            return [family]
        name = "openmetrics" if "openmetrics" in form.content_type else "text"
        return [exposition.Text("written", f"written as {name}\n")]


@pytest.mark.parametrize(
    ("accept", "last"),
    [
        ("text/plain", ["temperature 20.0", "written as text"]),
        (
            "application/openmetrics-text",
            ["temperature 20.0", "written as openmetrics", "# EOF"],
        ),
    ],
)
def test_a_collector_may_write_its_families_itself(accept: str, last: list[str]) -> None:
    registry = CollectorRegistry()
    registry.register(Writer())
    Gauge("temperature", "Of the room.", registry=registry).set(20)
    client = TestClient(Starlette(routes=[exposition.route(registry)]))
    page = client.get("/metrics", headers={"Accept": accept}).text
    assert page.splitlines()[-len(last) :] == last
    selected = client.get("/metrics?name[]=written", headers={"Accept": accept}).text
    assert "written 1.5" in selected.splitlines()
    assert exposition.written.get() is None


@pytest.fixture
def client() -> TestClient:
    registry = exposition.process_registry()
    Gauge("temperature", "Of the room.", registry=registry).set(20)
    requests = Counter("requests_total", "Of all clients.", ["code"], registry=registry)
    requests.labels("200").inc()
    return TestClient(Starlette(routes=[exposition.route(registry)]))


PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("text/html, */*;q=0.1", "text/plain; version=0.0.4"),
        ("image/png", "text/plain; version=0.0.4"),
        (PROMETHEUS, "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text;q=0, */*", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;q=0.1, text/plain", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=0.0.1, text/plain;q=0.1", "text/plain;"),
        ("text/plain; version=v1", "text/plain; version=0.0.4"),
        ("text/plain; version=0.0.4; version=1..0", "text/plain; version=0.0.4"),
        ("text/plain; version=99.0.0", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=99.0.0", "text/plain; version=0.0.4"),
        (
            "text/plain; version=v1, application/openmetrics-text; version=1.0.0; q=0.1",
            "application/openmetrics-text; version=1.0.0",
        ),
        ("text/plain; version=1.0.0; escaping=allow-utf-8", "text/plain; version=1.0.0"),
        ("text/plain;q=0, */*", "application/openmetrics-text; version=1.0.0"),
    ],
)
def test_the_format_is_the_one_that_the_client_likes_best(
    client: TestClient, accept: str, content_type: str
) -> None:
    answer = client.get("/metrics", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith(content_type)
    assert answer.headers["vary"] == "Accept, Accept-Encoding"
    assert answer.text.endswith("# EOF\n") == content_type.startswith("application/")


def test_a_page_is_compressed_only_for_clients_that_accept_it(client: TestClient) -> None:
    packed = client.get("/metrics", headers={"Accept-Encoding": "gzip"})
    plain = client.get("/metrics", headers={"Accept-Encoding": "gzip;q=0"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert "temperature 20.0" in packed.text
    assert "temperature 20.0" in plain.text


def samples(page: str) -> set[str]:
    return {line.split("{")[0].split(" ")[0] for line in page.splitlines() if line[:1] != "#"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("name[]=temperature", {"temperature"}),
        ("name[]=temperature&name[]=requests_total", {"temperature", "requests_total"}),
        ("name%5B%5D=process_start_time_seconds", {"process_start_time_seconds"}),
        ("name[]=nothing", set()),
    ],
)
def test_samples_may_be_selected_by_name(
    client: TestClient, query: str, expected: set[str]
) -> None:
    assert samples(client.get(f"/metrics?{query}").text) == expected
