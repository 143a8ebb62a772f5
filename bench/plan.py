"""Compute the tables of docs/scaling.md from the last measurements.

The plan assumes vectors of dimension 768 without ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench import results
from bench.results import text
from bench.table import show
from ingest.runtime.settings.settings import MonitoringSettings

Line = tuple[str, ...]

_footprint = partial(results.number, "footprint")


def _gb(name: str, *columns: str, **where: float) -> float:
    return sum(_footprint(name, column, **where) for column in columns) / 1e3


DAY = 86_400
DIMENSION = 768
WINDOWS = (1_000, 10_000)
PINNED = {window: 5 * window for window in WINDOWS}
"""Vectors that the baseline of a window needs, by vectors of the window."""

BODY_BYTES = _footprint("passage", "as float32", dimension=DIMENSION)
STORED_BYTES = _footprint("disk", "stored", dimension=DIMENSION)
WAL_BYTES = _footprint("disk", "WAL", dimension=DIMENSION)
HISTORY_BYTES = _footprint("history", "bytes a row")
PASSAGE_SECONDS = _footprint("passage", "microseconds", dimension=DIMENSION) / 1e6
SPARSE_SECONDS = _footprint("passage", "of one poll", dimension=DIMENSION) / 1e6
POLL_SECONDS = _footprint("poll", "milliseconds") / 1e3
LISTING_SECONDS = _footprint("listing", "milliseconds", shards=100) / 1e3 / 10_000
PROGRAM_GB = _gb("program", "MB")
MODEL_GB = {window: _gb("memory", "MB", dimension=DIMENSION, window=window) for window in WINDOWS}
FIT_GB = {
    vectors: _gb("fitting", "MB of vectors", "MB besides", vectors=vectors)
    for vectors in PINNED.values()
}
PINNED_GB = {
    vectors: _gb("baselines", "MB on disk", "MB of detector", vectors=vectors)
    for vectors in PINNED.values()
}
SCRAPE_SECONDS = {
    window: results.number("scrape", "scrape", "seconds", models=100, window=window) / 100
    for window in WINDOWS
}
UNCHANGED_SECONDS = (
    results.number("scrape", "scrape", "unchanged", models=100, window=WINDOWS[0]) / 100
)
_restart = partial(results.number, "restart", "restart", "CPU seconds")
RESTART_SECONDS = (_restart(models=100) - _restart(models=0)) / 100
SERIES = int(results.number("scrape", "scrape", "samples", models=100, window=WINDOWS[0])) // 100
INGEST_RATE = 30_000
"""Vectors per second that one ingest stores from batches.

Less than measured, because runs on the same machine differ by a tenth.
"""

FLEETS = (1, 100, 10_000)
RATES = (1_000, 100_000, 10_000_000)
TARGET = 1.0
"""Vectors per second that are stored for one model."""
INTERVAL = MonitoringSettings().poll_interval

GB_OF_DISK, GB_OF_MEMORY, CORE = 0.10, 4, 25
"""Prices per month. These are assumptions."""


def memory_formula(dimension: int, window: int) -> float:
    """Return the MB of a model, by the formula in docs/scaling.md."""
    return (5 * dimension * window + 10_000 * dimension) / 1e6 + 2.5


def tables() -> dict[str, tuple[Line, list[Line]]]:
    """Compute the head and the rows of each table, by name."""
    return {
        "per vector": (PER_VECTOR_HEAD, list(per_vector())),
        "ingest": as_measured("ingest", "throughput"),
        "serving": as_measured("ingest", "serving"),
        "traffic": (TRAFFIC_HEAD, list(traffic())),
        "memory": (MEMORY_HEAD, list(memory())),
        "costs": (COSTS_HEAD, list(costs())),
        "exporters": (EXPORTERS_HEAD, list(exporters())),
        "fleet": as_measured("restart", "restart"),
        "month": (MONTH_HEAD, list(month())),
        "install": as_measured("program", "install"),
        "start": as_measured("program", "start"),
    }


def per_vector() -> Iterator[Line]:
    """Yield the bytes of a vector in a request and on disk, by dimension."""
    bodies = {row["dimension"]: row for row in results.table("footprint", "passage")}
    for row in results.table("footprint", "disk"):
        body = bodies[row["dimension"]]
        yield (
            text(row["dimension"]),
            *(text(body[name]) for name in ("bytes as JSON", "as base64", "as float32")),
            *(text(row[name]) for name in ("stored", "WAL", "stored with both", "WAL with both")),
        )


def as_measured(command: str, name: str) -> tuple[Line, list[Line]]:
    """Return a table as it was measured."""
    rows = results.table(command, name)
    return tuple(rows[0]), [tuple(map(text, row.values())) for row in rows]


def traffic() -> Iterator[Line]:
    """Compute what is sent and stored, by number of models and rate."""
    for models in FLEETS:
        for rate in RATES:
            stored = models * min(rate / models, TARGET)
            yield (
                f"{models:,}",
                f"{rate:,}",
                f"{rate * BODY_BYTES / 1e6:,.0f}",
                _share(stored / rate),
                f"{stored:,.0f}",
                f"{stored * STORED_BYTES * DAY / 1e9:,.1f}",
                f"{stored * STORED_BYTES * DAY * 31 / 1e12:,.2f}",
                f"{stored * WAL_BYTES / 1e6:,.1f}",
            )


def memory() -> Iterator[Line]:
    """Yield the memory of a model, measured and by the formula."""
    for row in results.table("footprint", "memory"):
        dimension, window = int(row["dimension"]), int(row["window"])
        yield (
            f"{dimension:,} x {window:,}",
            text(row["MB"]),
            text(row["MB of vectors"]),
            f"{memory_formula(dimension, window):.1f}",
        )


def costs() -> Iterator[Line]:
    """Yield the costs of polls, scrapes, baselines and history."""
    yield "a poll: per model of the shard with new vectors", f"{POLL_SECONDS * 1e3:.1f} ms"
    yield "a poll: per new vector of 512", f"{PASSAGE_SECONDS * 1e6:.0f} µs"
    yield f"a poll: per new vector of {INTERVAL:.0f}", f"{SPARSE_SECONDS * 1e3:.1f} ms"
    yield "a poll: per model in the database", f"{LISTING_SECONDS * 1e6:.0f} µs"
    for window in WINDOWS:
        seconds = SCRAPE_SECONDS[window]
        yield f"a scrape: per model, windows of {window:,}", f"{seconds * 1e3:.1f} ms"
    yield "a scrape: per model that has not changed", f"{UNCHANGED_SECONDS * 1e3:.2f} ms"
    yield "a restart: per model, windows of 1,000", f"{RESTART_SECONDS * 1e3:.0f} ms"
    yield "Prometheus: per model", f"{SERIES} series"
    for vectors in PINNED.values():
        fit = _footprint("fitting", "CPU s with more", vectors=vectors)
        store = _footprint("baselines", "CPU seconds to store", vectors=vectors)
        what = f"a baseline of {vectors:,}"
        yield (
            f"{what}: to fit, one at a time in each exporter",
            f"{fit:.0f} s of a core, {FIT_GB[vectors]:.1f} GB",
        )
        yield f"{what}: to store, one at a time in the database", f"{store:.1f} s"
        yield (
            f"{what}: on disk, per version (three automatic, three by hand)",
            f"{PINNED_GB[vectors] * 1e3:.0f} MB",
        )
    for searched in (10_000, 50_000):
        milliseconds = results.number("search", "search", "CPU ms exact", vectors=searched)
        yield (
            f"a search in a baseline of {searched:,}: of the database, cached",
            f"{milliseconds:.0f} ms",
        )
    yield (
        "history: per row; two rows every `check_interval`, kept for 35 days",
        f"{HISTORY_BYTES:.0f} bytes",
    )


def exporters() -> Iterator[Line]:
    """Compute the costs of exporters, baselines and history, by fleet."""
    for window in WINDOWS:
        for models in FLEETS:
            shards = max(1, -(-models // 100))
            each = models / shards
            arrived = INTERVAL * TARGET * SPARSE_SECONDS
            poll = each * (POLL_SECONDS + arrived) + models * LISTING_SECONDS
            yield (
                f"{models:,} x {window:,}",
                f"{shards:,}",
                f"{each * MODEL_GB[window]:,.2f}",
                f"{each * SCRAPE_SECONDS[window]:.3f}",
                f"{poll:.3f}",
                f"{shards * models * LISTING_SECONDS / INTERVAL:,.2f}",
                f"{models * SERIES:,}",
                f"{_pinned(models, window):,.1f}",
                f"{_history(models):,.2f}",
            )


def month() -> Iterator[Line]:
    """Compute a month of 10,000 models: windows of 1,000, 2 days of retention and a replica."""
    models, rate, window = FLEETS[-1], 100_000, WINDOWS[0]
    day = models * TARGET * STORED_BYTES * DAY / 1e9
    pinned, history = _pinned(models, window), _history(models)
    disk = 2 * (3 * day + pinned + history)
    shards = models // 100
    parts = 100 * MODEL_GB[window], PROGRAM_GB, FIT_GB[PINNED[window]]
    ingests = -(-rate // INGEST_RATE)
    yield (
        f"disk: (3 x {day:,.0f} + {pinned:,.0f} + {history:,.0f}) GB x 2",
        f"{disk:,.0f} GB",
        f"{GB_OF_DISK:.2f}",
        f"{disk * GB_OF_DISK:,.0f}",
    )
    yield (
        f"exporters' memory: {shards} x ({' + '.join(f'{part:.2f}' for part in parts)}) GB",
        f"{shards * sum(parts):,.0f} GB",
        f"{GB_OF_MEMORY}",
        f"{shards * sum(parts) * GB_OF_MEMORY:,.0f}",
    )
    yield (
        f"exporters' cores: {shards} x 0.1",
        f"{shards * 0.1:.0f}",
        f"{CORE}",
        f"{shards * 0.1 * CORE:,.0f}",
    )
    yield (
        "database: 2 x (64 GB, 16 cores)",
        "128 GB, 32",
        f"{GB_OF_MEMORY}; {CORE}",
        f"{128 * GB_OF_MEMORY + 32 * CORE:,}",
    )
    yield (
        f"ingest: {rate:,} / {INGEST_RATE:,}, rounded up: replicas of 1 GB and 1 core",
        f"{ingests}",
        f"{GB_OF_MEMORY + CORE}",
        f"{ingests * (GB_OF_MEMORY + CORE)}",
    )


def _pinned(models: int, window: int) -> float:
    return 3 * models * PINNED_GB[PINNED[window]]


def _history(models: int) -> float:
    return models * 2 * DAY / 300 * 35 * HISTORY_BYTES / 1e9


def _share(ratio: float) -> str:
    return f"{ratio:.0e}".replace("e-0", "e-") if ratio < 0.01 else f"{ratio:.2g}"


PER_VECTOR_HEAD = (
    "dimension",
    "as JSON",
    "as base64",
    "as float32",
    "on disk",
    "WAL",
    "on disk with id and 100 bytes of metadata",
    "WAL",
)
TRAFFIC_HEAD = (
    "models",
    "sent /s",
    "body MB/s",
    "ratio",
    "stored /s",
    "GB per day",
    "TB in total",
    "WAL MB/s",
)
MEMORY_HEAD = ("dimension x window", "MB per model", "of which vectors", "formula")
COSTS_HEAD = ("what", "how much")
EXPORTERS_HEAD = (
    "models x window",
    "shards",
    "GB each",
    "a scrape, s",
    "a poll, s",
    "listing, cores of the database",
    "series",
    "baselines, GB",
    "history, GB",
)
MONTH_HEAD = ("what", "how much", "price", "per month")

if __name__ == "__main__":
    for name, (head, rows) in tables().items():
        show(name.capitalize(), head, rows)
