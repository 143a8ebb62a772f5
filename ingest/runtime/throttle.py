"""A filter for logs: each warning at most once a minute."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

_SECONDS_BETWEEN_LINES = 60.0


class LogThrottle(logging.Filter):
    """Lets each warning pass once a minute and counts those that it leaves out.

    The count is the field ``left_out`` of the next line.

    Parameters
    ----------
    clock : callable
        Returns seconds that only increase.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._next: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is logged. Errors always are."""
        if record.levelno != logging.WARNING:
            return True
        if not self.passes(record.msg):
            return False
        if left_out := self.left_out(record.msg):
            record.left_out = left_out
        return True

    def left_out(self, message: str) -> int:
        """Return how many times this message did not pass since it was asked for last."""
        return self._left_out.pop(message, 0)

    def passes(self, message: str) -> bool:
        """Return whether this message has not passed for a minute."""
        now = self._clock()
        if now < self._next.get(message, now):
            self._left_out[message] += 1
            return False
        self._next[message] = now + _SECONDS_BETWEEN_LINES
        return True
