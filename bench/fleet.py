"""The reports that the exporters of a fleet store for each other: what a check pays, and a reader.

The peer of a write is the append of the two rows of history that every check writes, too. The page
of the fleet is made from the reports and the history of a day.
"""

from __future__ import annotations

import sys
import time

import exporter  # noqa: F401  (one BLAS thread, before numpy)

# isort: split
import msgspec
import numpy as np
import psycopg
from starlette.applications import Starlette
from starlette.testclient import TestClient

from bench.footprint import store
from bench.results import report as tabulate
from bench.scrape import DIMENSION, fleet
from bench.table import median_seconds
from exporter.detector.detector import Detector
from exporter.http.showing import Showing
from exporter.monitor import reporting
from exporter.monitor.history import history_row
from exporter.monitor.report import Drift, ListedModel
from exporter.monitor.snapshot import ModelSnapshot
from ingest.runtime.settings.settings import Settings
from ingest.store import history, reports
from ingest.store.connection import connect
from ingest.store.reports import Report

_PAGES = 5
_DAY = (
    "insert into drift_history (computed_at, model_name, window_name, state, vectors, score)"
    " select clock_timestamp() - n * interval '5 minutes', model_name, window_name, 'ok', 500, 1"
    " from unnest(%s::text[]) as model_name, unnest(array['fast', 'slow']) as window_name,"
    " generate_series(0, 287) as n"
)


def main(quick: bool) -> None:
    """Measure and print."""
    models = 20 if quick else 1_000
    random = np.random.default_rng(0)
    sample = random.normal(size=(2_000, DIMENSION)).astype(np.float32)
    fitted = Detector.fit(sample).to_bytes()
    # One model with a full report; the others have the same under other names.
    [snapshot] = fleet(1, 400, fitted, sample).snapshots()
    glance, detail = _encode(snapshot)
    names = [f"model-{number}" for number in range(models)]
    written = [Report(name, 0.0, glance, detail) for name in names]
    rows = [history_row(each.series, each.verdict, None, None) for each in snapshot.series]

    with store() as string, connect(string) as connection:
        connection.execute(
            "insert into model (model_name, dimension) select unnest(%s::text[]), %s",
            (names, DIMENSION),
        )
        reports.write(connection, written, 300)
        write = median_seconds(lambda: reports.write(connection, written, 300), 5)
        append = median_seconds(lambda: history.append(connection, rows * models), 5)
        listing = median_seconds(lambda: _list(connection), 5)
        show = median_seconds(lambda: _show(connection, names[0]), 20)
        connection.execute(_DAY, (names,))
        connection.execute("analyze drift_history")
        page = _page(string)
        psycopg.Cursor(connection).execute("vacuum full report")  # outside a transaction
        [(size,)] = connection.execute("select pg_total_relation_size('report')")
    head: tuple[str, ...] = (
        "models",
        "microseconds to make and write a report",
        "of the rows of history",
        "KB stored",
        "milliseconds to list all",
        "milliseconds to show one",
    )
    encoding = median_seconds(lambda: _encode(snapshot), 20)
    line = (
        models,
        round((write / models + encoding) * 1e6),
        round(write / append, 2),
        round(size / models / 1e3, 1),
        round(listing * 1e3, 1),
        round(show * 1e3, 2),
    )
    tabulate("fleet", "reports", "Reports of a fleet, x 768", head, [line], quick)
    head = ("models", "milliseconds", "of them CPU of the service", "KB")
    tabulate("fleet", "page", "The page of a fleet with a day", head, [(models, *page)], quick)


def _page(string: str) -> tuple[int, int, int]:
    """Return what the page of the fleet takes, and how large it is."""
    half = Showing(lambda: string, Settings())
    with TestClient(Starlette(routes=half.routes, lifespan=lambda _: half.running())) as client:
        page = client.get("/")
        page.raise_for_status()
        before = time.process_time()
        took = median_seconds(lambda: client.get("/"), _PAGES)
        cpu = (time.process_time() - before) / (_PAGES + 1)  # one run does not count
    return round(took * 1e3), round(cpu * 1e3), round(len(page.content) / 1e3)


def _encode(snapshot: ModelSnapshot) -> tuple[bytes, bytes]:
    encode = msgspec.json.encode
    return encode(reporting.listed(snapshot)), encode(reporting.detail(snapshot))


def _list(connection: psycopg.Connection) -> list[ListedModel]:
    found = reports.glances(connection)
    return [msgspec.json.decode(each.text or "", type=ListedModel) for each in found]


def _show(connection: psycopg.Connection, name: str) -> Drift:
    return msgspec.json.decode(reports.detail(connection, name).text or "", type=Drift)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
