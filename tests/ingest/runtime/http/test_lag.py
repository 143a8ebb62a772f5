"""The lag of the event loop."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import CollectorRegistry

from ingest.runtime.http import lag


def above(registry: CollectorRegistry, seconds: str) -> float:
    """Return how often the lag was above this."""
    name = f"{lag.LAG.name}_bucket"
    some, every = (registry.get_sample_value(name, {"le": le}) for le in (seconds, "+Inf"))
    assert some is not None
    assert every is not None
    return every - some


def test_a_call_that_blocks_the_loop_counts_as_lag() -> None:
    registry = CollectorRegistry()

    async def hold() -> None:
        async with lag.measured(registry):
            await asyncio.sleep(0.1)
            time.sleep(0.6)
            await asyncio.sleep(0.1)

    asyncio.run(hold())
    # A timer was due at most 20 ms after the start of the call.
    assert above(registry, "0.5") >= 1
