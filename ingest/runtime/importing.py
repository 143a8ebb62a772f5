"""Signals to stop while modules are imported, which takes a second or two."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Let SIGINT and SIGTERM end the process at once while entered. Nothing is open yet.

    As an exception it would be a traceback, or be lost: Python ignores exceptions in callbacks,
    which imports have.
    """
    before = {each: signal.signal(each, signal.SIG_DFL) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
