"""Work in the background of a block ends with the block."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from ingest.runtime.background import background


def test_work_ends_though_it_misses_that_it_is_cancelled() -> None:
    """As a wait for a connection may, which comes at the same moment."""

    async def work() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await asyncio.sleep(3600)

    async def main() -> None:
        async with asyncio.timeout(10) as limit:
            async with background(work(), "work"):
                await asyncio.sleep(0)
        assert not limit.expired()

    asyncio.run(main())
