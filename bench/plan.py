"""The tables of docs/scaling.md, computed from what ``bench.footprint`` and ``bench.scrape`` print.

All of vectors of dimension 768 without an id; another fleet is another set of these numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.table import show

DAY = 86_400
STORED_BYTES = 4_139
WAL_BYTES = 3_253
BODY_BYTES = 3_072
HISTORY_BYTES = 374
PASSAGE_SECONDS = 41e-6
POLL_SECONDS = 0.40e-3
LISTING_SECONDS = 4e-6
SERIES_A_MODEL = 68
MODEL_MB = {1_000: 14.5, 10_000: 42.9}
SCRAPE_SECONDS = {1_000: 0.174 / 100, 10_000: 0.255 / 100}
PINNED_MB = {1_000: 41 + 10, 10_000: 412 + 10}

FLEETS = (1, 100, 10_000)
RATES = (1_000, 100_000, 10_000_000)
TARGET = 1.0
"""Vectors a second that are stored of one model."""


def traffic() -> Iterator[tuple[str, ...]]:
    """Compute what is sent and what is stored."""
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


def exporters(window: int) -> Iterator[tuple[str, ...]]:
    """Compute what the exporters and the rest of the store take."""
    for models in FLEETS:
        shards = max(1, -(-models // 100))
        each = models / shards
        poll = each * (POLL_SECONDS + TARGET * PASSAGE_SECONDS) + models * LISTING_SECONDS
        yield (
            f"{models:,} x {window:,}",
            f"{shards:,}",
            f"{each * MODEL_MB[window] / 1e3:,.2f}",
            f"{each * SCRAPE_SECONDS[window]:.3f}",
            f"{poll:.3f}",
            f"{shards * models * LISTING_SECONDS:,.2f}",
            f"{models * SERIES_A_MODEL:,}",
            f"{3 * models * PINNED_MB[window] / 1e3:,.1f}",
            f"{models * 2 * DAY / 300 * 35 * HISTORY_BYTES / 1e9:,.2f}",
        )


def _share(ratio: float) -> str:
    return f"{ratio:.0e}".replace("e-0", "e-") if ratio < 0.01 else f"{ratio:.2g}"


TRAFFIC_HEAD = (
    "models",
    "sent /s",
    "body MB/s",
    "ratio",
    "stored /s",
    "GB a day",
    "TB in all",
    "WAL MB/s",
)
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

if __name__ == "__main__":
    show("Traffic", TRAFFIC_HEAD, traffic())
    show("Exporters", EXPORTERS_HEAD, [*exporters(1_000), *exporters(10_000)])
