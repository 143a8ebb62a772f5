"""Local time: seconds by the clock of the users, whose habits follow it.

A season is a function of local time, so that the same hour has the same season before and after
the clock changes for daylight saving.
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np

from exporter.stats.arrays import Floats
from ingest.runtime import time_zone

_MINUTE = 60


def to_local(times: Floats, zone: ZoneInfo) -> Floats:
    """Return times by the local clock.

    Parameters
    ----------
    times : ndarray of float64, shape (n,)
        Seconds since the epoch.
    zone : ZoneInfo

    Returns
    -------
    ndarray of float64, shape (n,)
        Seconds from 1970-01-01 00:00 to what the local clock shows. An hour that the clock repeats
        is there twice.
    """
    if zone is time_zone.UTC:
        return times
    # Clocks change at whole minutes.
    minutes, at = np.unique(times // _MINUTE, return_inverse=True)
    offsets = np.array([_offset(minute * _MINUTE, zone) for minute in minutes.tolist()], float)
    local: Floats = times + offsets[at]
    return local


def from_local(time: float, zone: ZoneInfo) -> float:
    """Return when the local clock shows a time, in seconds since the epoch.

    In an hour that the clock repeats, the first time.
    """
    return datetime.fromtimestamp(time, UTC).replace(tzinfo=zone).timestamp()


def _offset(time: float, zone: ZoneInfo) -> float:
    offset = datetime.fromtimestamp(time, zone).utcoffset()
    assert offset is not None
    return offset.total_seconds()
