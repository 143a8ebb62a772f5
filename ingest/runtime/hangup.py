"""SIGHUP, which asks a service to reload, also while the service starts."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

_came = False


def remember() -> None:
    """From now on remember that SIGHUP came. By default it ends the process."""

    def note(_signal: int, _frame: FrameType | None) -> None:
        global _came
        _came = True

    signal.signal(signal.SIGHUP, note)


def follow(reload: Callable[[], None]) -> None:
    """Call a function at each SIGHUP from now on, and now if one was remembered."""
    signal.signal(signal.SIGHUP, lambda *_: reload())
    if _came:
        reload()
