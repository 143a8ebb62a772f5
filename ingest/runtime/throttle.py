"""What comes again and again, said once a minute."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

_SECONDS_BETWEEN_LINES = 60.0


class Sparse(logging.Filter):
    """Lets a warning pass once a minute, with how often it came meanwhile.

    Parameters
    ----------
    clock : callable
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._next: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the record is to be logged; errors always are."""
        if record.levelno != logging.WARNING:
            return True
        if not self.passes(record.msg):
            return False
        if left_out := self._left_out.pop(record.msg, 0):
            record.left_out = left_out
        return True

    def passes(self, what: str) -> bool:
        """Tell whether it is a minute since this was let pass."""
        now = self._clock()
        if now < self._next.get(what, now):
            self._left_out[what] += 1
            return False
        self._next[what] = now + _SECONDS_BETWEEN_LINES
        return True
