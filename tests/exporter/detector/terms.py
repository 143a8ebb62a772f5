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


def waves(times: Floats) -> Floats:
    """Return the constant, and cosines and sines of two harmonics of two periods."""
    turns = [2 * np.pi * times * k / period for period in (DAY, WEEK) for k in (1, 2)]
    return np.array([np.ones_like(times), *np.cos(turns), *np.sin(turns)]).T


MINUTES = np.arange(30, WEEK, 60.0)


def weekend(times: Floats) -> NDArray[np.bool_]:
    return np.asarray(weekday(times)) >= 5


# What a regression on the waves leaves of weekends.
FOLLOWED, *_ = np.linalg.lstsq(waves(MINUTES), weekend(MINUTES).astype(float), rcond=None)
LEFT = (weekend(MINUTES) - waves(MINUTES) @ FOLLOWED).std()


def design(times: Floats) -> Floats:
    """Return all regression terms: those and what they leave of weekends, scaled like a wave."""
    left = (weekend(times) - waves(times) @ FOLLOWED) / LEFT / 2**0.5
    return np.column_stack([waves(times), left])


TIMES = np.sort(np.random.default_rng(0).uniform(1e9, 1e9 + 8 * DAY, 500))
TABLE = (
    design(TIMES) @ np.random.default_rng(1).normal(size=(TERMS, 4))
    + np.random.default_rng(2).normal(size=(500, 4))
).astype(np.float32)


def totals_of(table: NDArray[np.float32], times: Floats | None) -> Totals:
    totals = Totals.spanning(times, table.shape[1])
    totals.add(table, times)
    return totals
