"""Lag of the event loop, which is how long requests wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, Histogram

from ingest.runtime.background import background
from ingest.runtime.family import Family

LAG = Family(
    "embedding_drift_event_loop_lag_seconds",
    "histogram",
    "Delay of a timer of the event loop. Requests are delayed by about the same time.",
)
FAMILIES = (LAG,)

_PERIOD_SECONDS = 0.02
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


def histogram(registry: CollectorRegistry) -> Histogram:
    """Register the histogram of the lag."""
    return Histogram(LAG.name, LAG.help, buckets=_BUCKETS, registry=registry)


@asynccontextmanager
async def measured(registry: CollectorRegistry) -> AsyncIterator[None]:
    """Measure the lag of the running loop while entered."""
    async with background(_measure(histogram(registry)), "lag"):
        yield


async def _measure(lag: Histogram) -> None:
    while True:
        due = time.perf_counter() + _PERIOD_SECONDS
        await asyncio.sleep(_PERIOD_SECONDS)
        lag.observe(max(0.0, time.perf_counter() - due))
