"""The reports that the exporters of a fleet store for each other: what a check pays, and a reader.

The peer of a write is the append of the two rows of history that every check writes, too.
"""

from __future__ import annotations

import sys

import exporter  # noqa: F401  (one BLAS thread, before numpy)

# isort: split
import msgspec
import numpy as np
import psycopg

from bench.footprint import store
from bench.results import report as tabulate
from bench.scrape import DIMENSION, fleet
from bench.table import median_seconds
from exporter.detector.detector import Detector
from exporter.monitor import reporting
from exporter.monitor.history import history_row
from exporter.monitor.report import Drift, ListedModel
from exporter.monitor.snapshot import ModelSnapshot
from ingest.store import history, reports
from ingest.store.connection import connect
from ingest.store.reports import Report


def main(quick: bool) -> None:
    """Measure and print."""
    models = 20 if quick else 1_000
    random = np.random.default_rng(0)
    sample = random.normal(size=(2_000, DIMENSION)).astype(np.float32)
    detector = Detector.fit(sample)
    # One model with a full report; the others have the same under other names.
    [snapshot] = fleet(1, 400, detector, sample).snapshots()
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
        psycopg.Cursor(connection).execute("vacuum full report")  # outside a transaction
        [(size,)] = connection.execute("select pg_total_relation_size('report')")
    head = (
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
    tabulate("door", "reports", "Reports of a fleet, x 768", head, [line], quick)


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
