"""Background tasks that run while a block is entered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

_CANCEL_PERIOD_SECONDS = 1.0


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Run a coroutine while entered, and cancel it at the end.

    Parameters
    ----------
    work : coroutine
        Does not end by itself.
    name : str
        Name of the task.
    """
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        # Repeatedly, because asyncio.wait_for, which pools use, can lose a cancellation up to
        # Python 3.11: when its result arrives at the same moment.
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=_CANCEL_PERIOD_SECONDS)
        with suppress(asyncio.CancelledError):
            await task
