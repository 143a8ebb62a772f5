"""Patience: try again while PostgreSQL is away, up to a deadline."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from ingest.runtime.errors import StoreRefused, StoreUnavailable

_log = logging.getLogger(__name__)

_PAUSE_SECONDS = 1.0

T = TypeVar("T")


def patiently(attempt: Callable[[], T], timeout: float) -> T:
    """Try until PostgreSQL can be used. Each reason to wait is logged once.

    Parameters
    ----------
    attempt : callable
        May be repeated after it raised StoreUnavailable, unless that is StoreRefused.
    timeout : float
        Seconds after which it is not tried again.

    Raises
    ------
    StoreRefused
        If waiting does not help.
    StoreUnavailable
        If PostgreSQL could not be used in time.
    """
    end = time.monotonic() + timeout
    reason = ""
    while True:
        try:
            return attempt()
        except StoreRefused:
            raise
        except StoreUnavailable as error:
            left = end - time.monotonic()
            if left <= 0:
                raise StoreUnavailable(f"{error}; waited for {timeout:g} s") from error
            if str(error) != reason:
                reason = str(error)
                _log.warning(
                    "waiting for PostgreSQL", extra={"error": reason, "seconds": round(left)}
                )
            time.sleep(min(_PAUSE_SECONDS, left))
