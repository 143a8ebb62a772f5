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
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    # A shell lets programs in the background ignore Ctrl-C.
    changed = [each for each, handler in before.items() if handler != signal.SIG_IGN]
    for each in changed:
        signal.signal(each, signal.SIG_DFL)
    try:
        yield
    finally:
        for each in changed:
            signal.signal(each, before[each])
