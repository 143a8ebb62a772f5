"""Choose stored rows to read again, so that changes in place are found."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from ingest.store import ids
from ingest.store.connection import unavailable
from ingest.store.pool import AsyncPool

_HOUR_SECONDS = 3600.0
_BURST_SECONDS = 60.0
"""Longest time whose rows are read at once. Slow polls come less often, and read fewer rows."""
_MOST_ROWS = 1_000
"""Most rows that are read at once."""


class Recheck:
    """Chooses ids of a model uniformly among those in the store.

    Rows that were never read, or that the store no longer keeps, would count as new vectors. So
    the store is asked which ids it knows. It is asked for the ids of an hour at once, because it
    reads all of them to choose.

    Parameters
    ----------
    pool : AsyncPool
        Connections to the store.
    model_name : str
    per_hour : float
        How many ids to choose per hour.
    monotonic : callable
        Clock, in seconds.
    """

    def __init__(
        self,
        pool: AsyncPool,
        model_name: str,
        per_hour: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._model_name = model_name
        self._per_second = per_hour / _HOUR_SECONDS
        self._count = max(1, round(per_hour))
        self._monotonic = monotonic
        self._at = monotonic()
        self._due = 0.0
        self._ids: deque[str] = deque()

    async def choose(self) -> list[str]:
        """Return the ids that are due now: as many as the time since the last call allows.

        Raises
        ------
        StoreUnavailable
            If the store cannot be reached.
        """
        count = self._elapse()
        if count and not self._ids:
            with unavailable():
                async with self._pool.connection() as store:
                    self._ids.extend(await ids.choose(store, self._model_name, self._count))
        return [self._ids.popleft() for _ in range(min(count, len(self._ids)))]

    def _elapse(self) -> int:
        now = self._monotonic()
        most = max(1.0, min(self._per_second * _BURST_SECONDS, _MOST_ROWS))
        self._due = min(self._due + (now - self._at) * self._per_second, most)
        self._at = now
        count = int(self._due)
        self._due -= count
        return count
