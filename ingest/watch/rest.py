"""The rest between two polls of a table that another program needs."""

from __future__ import annotations

_OF_A_SECOND = 9.0
"""Seconds of rest for each second that a poll took."""


def rest(interval: float, took: float, longest: float) -> float:
    """Return how long to wait after a poll: reading takes at most a tenth of the time.

    Parameters
    ----------
    interval, took : float
        Seconds between two polls at least, and of the last one.
    longest : float
        Seconds after which the next poll comes, also if reading then takes more of the time.
    """
    return max(interval, min(_OF_A_SECOND * took, longest))
