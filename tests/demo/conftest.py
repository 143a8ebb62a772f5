from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from demo import stack
from demo.slack import Slack
from exporter.metrics.families import FAMILIES
from ingest.runtime.family import Family
from ingest.runtime.settings.configuration import load
from rules.render import render


@dataclass
class Page:
    """A metrics page whose samples are set by the test."""

    url: str = ""
    samples: dict[str, float] = field(default_factory=dict)

    def set(self, family: Family, value: float, **labels: str) -> None:
        assert family in FAMILIES
        # Series of all vectors of a model have no slice.
        assert set(family.labels) - {"slice"} <= set(labels) <= set(family.labels)
        pairs = ",".join(f'{name}="{text}"' for name, text in labels.items())
        self.samples[f"{family.name}{{{pairs}}}"] = value


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = "".join(f"{name} {value}\n" for name, value in list(page.samples.items()))
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    page.url = f"http://127.0.0.1:{server.server_port}"
    yield page
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def slack() -> Iterator[Slack]:
    with Slack() as slack:
        yield slack


@pytest.fixture
def escalates_after() -> int:
    """Seconds after which drift escalates: not within a test that is about something else."""
    return 3_600


@pytest.fixture
def rendered(slack: Slack, tmp_path: Path, escalates_after: int) -> Path:
    """Render the files with the webhook of the stand-in and with short waits.

    Drift is resolved as soon as the score has fallen.
    """
    folder = tmp_path / "rendered"
    flags = {
        "alerting.slack_webhook": slack.url,
        "alerting.escalation.warning_after": escalates_after,
    }
    render(load(flags=flags), folder)
    stack.shorten_waits(folder)
    rules = folder / "drift.rules.yaml"
    rules.write_text(re.sub(r"keep_firing_for: \w+", "keep_firing_for: 1s", rules.read_text()))
    return folder


@pytest.fixture
def alertmanager(rendered: Path, tmp_path: Path, tool: Callable[[str], str]) -> Iterator[str]:
    """Run Alertmanager, which posts to the stand-in, and give its URL."""
    tool("alertmanager")
    with stack.alertmanager(tmp_path / "alertmanager", rendered / "alertmanager.yml") as url:
        yield url


@pytest.fixture
def prometheus(
    page: Page, rendered: Path, alertmanager: str, tmp_path: Path, tool: Callable[[str], str]
) -> Iterator[stack.Prometheus]:
    """Run Prometheus, which scrapes the page and sends alerts to Alertmanager."""
    tool("prometheus")
    folder = tmp_path / "prometheus"
    with stack.prometheus(folder, rendered, page.url, alertmanager) as prometheus:
        yield prometheus


@pytest.fixture(scope="module")
def tool(release: None, tool: Callable[[str], str]) -> Callable[[str], str]:
    """Find the programs of each release."""
    return tool
