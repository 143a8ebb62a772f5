"""Replay: cuts the vectors of a file into batches, at a rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from ingest.files.rows import Rows


def batches(blocks: Iterable[Rows], size: int) -> Iterator[Rows]:
    """Cut blocks of rows into batches of at most ``size`` vectors."""
    for block in blocks:
        for at in range(0, len(block), size):
            yield block.pick(range(at, min(at + size, len(block))))


def paced(
    parts: Iterable[Rows],
    rate: float | None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Rows]:
    """Yield batches at no more than ``rate`` vectors per second; None means no limit."""
    due = clock()
    for part in parts:
        sleep(max(0.0, due - clock()))
        yield part
        if rate is not None:
            due += len(part) / rate
