"""Background tasks end with their block."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from ingest.runtime.background import background


def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    """asyncio.wait_for may lose one, up to Python 3.11."""

    async def work() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await asyncio.sleep(3600)

    async def main() -> None:
        async with asyncio.timeout(240) as limit:
            async with background(work(), "work"):
                await asyncio.sleep(0)
        assert not limit.expired()

    asyncio.run(main())
