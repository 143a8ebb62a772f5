from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from demo import stack
from exporter import families
from exporter.rules import render
from exporter.score import Detector
from ingest import metrics
from ingest.runtime.family import Family
from ingest.runtime.settings import Settings

MODEL = "search.v2"
FAMILIES = (*families.FAMILIES, *metrics.FAMILIES)
LABELS = {
    "model_name": (MODEL,),
    "window": ("fast", "slow"),
    "component": Detector.COMPONENTS,
    "aggregate": families.AGGREGATES,
    "version": ("1.0.0",),
    "route": ("/embeddings",),
    "code": ("201", "422"),
    "reason": ("DimensionMismatch",),
}
SCRAPES_NEEDED = 8


STATES = {families.STATE: families.STATES, families.HISTORY_STATE: families.HISTORY_STATES}
TOLD = {
    (families.STATE, "fast"): "ok",
    (families.STATE, "slow"): "too_few_vectors",
    (families.HISTORY_STATE, "fast"): "gaps",
    (families.HISTORY_STATE, "slow"): "weekly",
}
# Alerts on the pipeline wait for minutes, so the page shows one as Prometheus would record it.
STALE = (
    'ALERTS{alertname="EmbeddingDriftWindowStale",alertstate="firing",area="pipeline",'
    f'severity="warning",model_name="{MODEL}"}} 1\n'
)


def samples(family: Family, scrape: int) -> Iterator[str]:
    """The lines of a family at a scrape: a drift that grows with every one."""
    known = LABELS | {"state": STATES.get(family, ())}
    for values in product(*(known[label] for label in family.labels)):
        chosen = dict(zip(family.labels, values, strict=True))
        pairs = ",".join(f'{label}="{value}"' for label, value in chosen.items())
        if family.type == "histogram":
            for bound in ("0.1", "1", "+Inf"):
                yield f'{family.name}_bucket{{le="{bound}"}} {scrape}'
        elif family in STATES:
            told = TOLD[family, chosen["window"]]
            yield f"{family.name}{{{pairs}}} {int(chosen['state'] == told)}"
        else:
            timed = "timestamp" in family.name
            yield f"{family.name}{{{pairs}}} {time.time() - 60 if timed else scrape}"


def page(scrape: int) -> str:
    """What a process with all families shows at a scrape."""
    return STALE + "".join(f"{line}\n" for family in FAMILIES for line in samples(family, scrape))


@pytest.fixture(scope="session")
def incident() -> Iterator[str]:
    """URL of a page on which a model drifts ever further, one step a scrape."""
    scrapes = iter(range(1, 1_000_000))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(page(next(scrapes)).encode())

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def prometheus(
    incident: str, tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]
) -> Iterator[stack.Prometheus]:
    """Prometheus with the shipped rules, holding the incident until its alert fires."""
    tool("prometheus")
    folder: Path = tmp_path_factory.mktemp("grafana")
    rules = folder / "rules"
    render(Settings(), rules)
    nobody = f"http://127.0.0.1:{stack.free_port()}"
    with stack.prometheus(folder / "prometheus", rules, incident, nobody) as prometheus:
        deadline = time.monotonic() + 60
        while not holds_the_incident(prometheus):
            assert time.monotonic() < deadline, "the incident's alert did not fire"
            time.sleep(0.5)
        yield prometheus


def holds_the_incident(prometheus: stack.Prometheus) -> bool:
    scraped = prometheus.value("count_over_time(embedding_drift_up[5m])")
    fires = 'ALERTS{alertname="EmbeddingDriftDetected", alertstate="firing"}'
    return scraped >= SCRAPES_NEEDED and bool(prometheus.query(fires))
