"""Regression terms, evaluated in another way, and features that follow them."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from exporter.detector.totals import Totals
from exporter.stats.arrays import Floats

DAY = 86_400.0
WEEK = 7 * DAY
TERMS = 10


def weekday(times: Floats) -> list[int]:
    """Return how many days after a Monday times are."""
    return [datetime.fromtimestamp(time, UTC).weekday() for time in times]


def design(times: Floats) -> Floats:
    """Return the constant, cosines and sines of two harmonics of two periods, and weekends."""
    turns = [2 * np.pi * times * k / period for period in (DAY, WEEK) for k in (1, 2)]
    weekend = np.where(np.array(weekday(times)) >= 5, 5**0.5 / 2, -(5**-0.5))
    return np.array([np.ones_like(times), *np.cos(turns), *np.sin(turns), weekend]).T


TIMES = np.sort(np.random.default_rng(0).uniform(1e9, 1e9 + 8 * DAY, 500))
TABLE = (
    design(TIMES) @ np.random.default_rng(1).normal(size=(TERMS, 4))
    + np.random.default_rng(2).normal(size=(500, 4))
).astype(np.float32)


def totals_of(table: NDArray[np.float32], times: Floats | None) -> Totals:
    totals = Totals.spanning(times, table.shape[1])
    totals.add(table, times)
    return totals
