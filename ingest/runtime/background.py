"""Work in the background of a block: it begins with the block and is cancelled at its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

_PATIENCE_SECONDS = 1.0


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Do work that never ends by itself while entered; ``name`` is the task's."""
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        # Again and again: up to Python 3.11, asyncio.wait_for, with which pools wait, forgets that
        # it was cancelled when what it waits for comes at the same moment.
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=_PATIENCE_SECONDS)
        with suppress(asyncio.CancelledError):
            await task
